"""The config of a decoder, the same whichever transformers wrote it, and the families that are known here.

Transformers 5 keeps all that turns positions in one `rope_parameters`, which 4.x passes over without a word: such a
folder would be opened with another base. Before it stood as `rope_theta`, `rope_scaling` and, for the local layers of
Gemma 3, `rope_local_base_freq`, and 5.x still reads these. So a config is written, and looked at, in the older form.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgetf.core.errors import ArtifactError, needs
from edgetf.core.quiet import quiet
from edgetf.models.checkpoint import read_config

FAMILIES = ("gemma", "gemma2", "gemma3_text", "gpt2", "llama", "qwen2", "qwen3")
_LOCAL_THETA = 10_000.0  # of Gemma 3, where a config does not say


def older_form(record: dict[str, Any]) -> dict[str, Any]:
    """The config with `rope_parameters` taken apart; another one as it is.

    >>> older_form({"rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}})
    {'rope_theta': 5000.0, 'rope_scaling': None}
    """
    rope = record.get("rope_parameters")
    if not rope:
        return record
    rest = {name: value for name, value in record.items() if name != "rope_parameters"}
    local = rope.get("sliding_attention")
    whole = rope.get("full_attention", rope if local is None else {})
    if local is not None:
        rest["rope_local_base_freq"] = local.get("rope_theta", _LOCAL_THETA)
    scaling = {name: value for name, value in whole.items() if name != "rope_theta"}
    theta = {"rope_theta": whole["rope_theta"]} if "rope_theta" in whole else {}
    return {**rest, **theta, "rope_scaling": scaling if scaling.get("rope_type", "default") != "default" else None}


def known_config(folder: Path) -> dict[str, Any]:
    """config.json of a decoder, in the older form.

    Raises:
        ArtifactError: not readable, of a family that is not known here, or it wants code of its own to be run.
    """
    record = older_form(read_config(folder))
    kind = record["model_type"]
    if kind not in FAMILIES:
        raise ArtifactError(
            f"{folder}: got model_type {kind}, allowed: {', '.join(FAMILIES)}; take a teacher of one of these"
        )
    if record.get("use_bidirectional_attention"):
        raise ArtifactError(f"{folder}: got a {kind} that reads both ways (an encoder), allowed: a decoder")
    return record


def open_config(folder: Path) -> Any:
    """The config of a decoder as transformers holds it, with the defaults of its family.

    Raises:
        ArtifactError: as of `known_config`, or what it holds does not fit together.
    """
    record = known_config(folder)
    with needs("compress"), quiet():
        from huggingface_hub.errors import StrictDataclassError
        from transformers import AutoConfig

    fields = {name: value for name, value in record.items() if name != "model_type"}
    try:
        return AutoConfig.for_model(record["model_type"], **fields)
    except (ValueError, TypeError, KeyError, ZeroDivisionError, StrictDataclassError) as error:
        message = " ".join(str(error).split())[:200]
        raise ArtifactError(f"{folder / 'config.json'}: does not fit together ({message})") from None
