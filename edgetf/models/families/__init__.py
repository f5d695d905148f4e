"""Where each model family keeps its parts, as data. A new family is one small file and one line below."""

from __future__ import annotations

from edgetf.core.errors import ConfigError, near_match
from edgetf.models.families import bert, distilbert, mobilebert, roberta
from edgetf.models.families.family import Family

FAMILIES: dict[str, Family] = {
    module.FAMILY.model_type: module.FAMILY for module in (bert, roberta, distilbert, mobilebert)
}


def family_of(model_type: str) -> Family:
    """The family of a config's `model_type`.

    Raises:
        ConfigError: not one that edgetf can take apart.
    """
    if model_type not in FAMILIES:
        raise ConfigError(f"model_type {model_type}: not a known encoder family{near_match(model_type, FAMILIES)}")
    return FAMILIES[model_type]
