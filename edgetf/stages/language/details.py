"""What every artifact of a language model says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgetf.core.artifact import Spec
from edgetf.models.checkpoint import WEIGHTS
from edgetf.models.decoders.facts import decoder_facts
from edgetf.stages.language.context import LanguageContext


def torch_spec(out: Path, params: int, context: LanguageContext, details: dict[str, Any] | None = None) -> Spec:
    """The spec of the checkpoint in a folder; `max_length` is how long its texts are, the facts hold its positions."""
    own = {
        "task": context.recipe.task,
        "max_length": context.recipe.data.max_length,
        "decoder": decoder_facts(out).to_json(),
    }
    return Spec(kind="torch", model_file=WEIGHTS, params=params, details={**own, **(details or {})})
