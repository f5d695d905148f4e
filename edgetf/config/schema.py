"""Which schema a recipe has: that of language models, or that of encoders, by its task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgetf.config.language.recipe import LanguageRecipe
from edgetf.config.language.stages import LANGUAGE_STAGE_ORDER
from edgetf.config.recipe import Recipe
from edgetf.config.stages import STAGE_ORDER
from edgetf.core.task_names import LANGUAGE_MODELING

AnyRecipe = Recipe | LanguageRecipe


@dataclass(frozen=True)
class Schema:
    """The model of a recipe, and the kinds of its stages in their order."""

    model: type[Recipe] | type[LanguageRecipe]
    stage_order: tuple[str, ...]


ENCODERS = Schema(Recipe, STAGE_ORDER)
LANGUAGE_MODELS = Schema(LanguageRecipe, LANGUAGE_STAGE_ORDER)


def schema_of(tree: Any) -> Schema:
    """The schema of a recipe that is not yet checked.

    >>> schema_of({"task": "language_modeling"}).stage_order[0]
    'pretrain'
    """
    task = tree.get("task") if isinstance(tree, dict) else None
    return LANGUAGE_MODELS if task == LANGUAGE_MODELING else ENCODERS
