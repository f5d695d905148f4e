"""Find a recipe, apply overrides, and check it whole before any work."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgetf.config.overrides import apply_overrides
from edgetf.config.recipe import Recipe
from edgetf.config.schema import AnyRecipe, schema_of
from edgetf.core.device import load_device
from edgetf.core.errors import ConfigError, near_match
from edgetf.core.files import is_file, read_yaml
from edgetf.core.places import shipped
from edgetf.core.problems import dotted, explain

_TAGGED_TEACHERS = [["teacher", tag] for tag in ("pretrained", "made", "remote")]


def recipe_names() -> list[str]:
    """The recipes that are installed."""
    return sorted(path.stem for path in shipped("recipes").glob("*.yaml"))


def find_recipe(name: str) -> Path:
    """The file of a recipe, by its name or its path.

    Raises:
        ConfigError: there is none.
    """
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = Path(name)
        if not is_file(path):
            raise ConfigError(f"recipe {name}: no such file")
        return path
    path = shipped("recipes") / f"{name}.yaml"
    if not is_file(path):
        raise ConfigError(f"recipe {name}: no such recipe{near_match(name, recipe_names())}")
    return path


def read_tree(path: Path) -> dict[str, Any]:
    """The YAML of a recipe, not yet checked; its name defaults to that of the file.

    Raises:
        ConfigError: unreadable, or not a mapping.
    """
    tree = read_yaml(path)
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: got {type(tree).__name__}, allowed: a mapping of recipe fields")
    tree.setdefault("name", path.stem)
    return tree


def load_recipe(name: str, overrides: Sequence[str] = ()) -> AnyRecipe:
    """The recipe with its overrides, checked whole.

    Raises:
        ConfigError: with every problem found.
    """
    problems: list[str] = []
    tree = read_tree(find_recipe(name))
    for word in overrides:  # each by itself, so that one that cannot be placed does not hide the others
        try:
            tree = apply_overrides(tree, [word])
        except ConfigError as error:
            problems += error.problems
    schema = schema_of(tree)
    try:
        recipe = schema.model.model_validate(tree)
    except ValidationError as error:
        as_written = partial(_as_written, stage_order=schema.stage_order)
        raise ConfigError(problems + explain(error, schema.model, name=as_written)) from None
    problems += _device_problems(recipe)
    if problems:
        raise ConfigError(problems)
    return recipe


def _as_written(location: tuple[int | str, ...], stage_order: Sequence[str]) -> str:
    """``stages.1.distill.temperature`` is ``distill.temperature`` to the author; tags of unions go too."""
    parts = [str(part) for part in location]
    if len(parts) >= 3 and parts[0] == "stages" and parts[2] in stage_order:
        parts = parts[2:]
    if parts[:2] in _TAGGED_TEACHERS or (len(parts) >= 3 and parts[0] == "student"):
        parts = [parts[0], *parts[2:]]
    if len(parts) >= 4 and parts[:2] == ["prune", "target"]:
        del parts[3]
    return dotted(tuple(parts)) or "recipe"


def _device_problems(recipe: AnyRecipe) -> list[str]:
    problems = []
    granularity = recipe.granularity() if isinstance(recipe, Recipe) else None
    for name in recipe.validation.devices:
        try:
            device = load_device(name)
        except ConfigError as error:
            problems += error.problems
            continue
        for model_format, scheme in recipe.variants():
            refusal = device.refuses(model_format, scheme, granularity)
            if refusal:
                problems.append(f"validation.devices: {model_format}-{scheme} cannot run on {name}: {refusal}")
    return problems
