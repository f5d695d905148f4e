"""Overrides from the command line: ``key.path=value`` edits the tree before the schema sees it.

The head of a path is a field of the recipe or the name of a stage; ``prune=null`` drops a stage. A value that
begins with ``[`` or ``{``, and the word ``null``, are JSON; everything else stays a string and the schema decides,
because a YAML reader would take ``1e-4`` for a string and ``no`` for False.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

from edgetf.config.recipe import STAGE_ORDER, Recipe
from edgetf.core.errors import ConfigError, near_match

Tree = dict[str, Any]


def apply_overrides(tree: Tree, words: Sequence[str]) -> Tree:
    """A copy of the tree with every ``key.path=value`` put in.

    Raises:
        ConfigError: with every word that cannot be placed.
    """
    edited = copy.deepcopy(tree)
    problems = []
    for word in words:
        path, equals, text = word.partition("=")
        if not equals or not path:
            problems.append(f"{word}: not an override; write it as key.path=value")
            continue
        try:
            _put(edited, path.split("."), _value(path, text))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return edited


def _value(path: str, text: str) -> Any:
    if text == "null" or text.startswith(("[", "{")):
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: got {text[:60]}, which is not JSON ({error})") from None
    return text


def _put(tree: Tree, path: list[str], value: Any) -> None:
    head, rest = path[0], path[1:]
    if head in STAGE_ORDER:
        _put_in_stage(tree, head, rest, value)
        return
    if head not in Recipe.model_fields:
        known = [*Recipe.model_fields, *STAGE_ORDER]
        raise ConfigError(f"{head}: not a recipe field or stage{near_match(head, known)}")
    node = tree
    for part in path[:-1]:
        inner = node.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{'.'.join(path)}: {part} is {inner!r}, which has no fields")
        node = inner
    node[path[-1]] = value


def _put_in_stage(tree: Tree, name: str, rest: list[str], value: Any) -> None:
    stages = tree.setdefault("stages", [])
    if not isinstance(stages, list):
        raise ConfigError(f"stages: got {stages!r}, allowed: a list, so {name} cannot be placed")
    mine = next((stage for stage in stages if isinstance(stage, dict) and stage.get("stage") == name), None)
    if not rest:
        if value is not None:
            raise ConfigError(f"{name}: got {value!r}; a stage is dropped by {name}=null, or set by {name}.FIELD=value")
        if mine is not None:
            stages.remove(mine)
        return
    if len(rest) > 1:
        raise ConfigError(f"{name}.{'.'.join(rest)}: a stage has plain fields only")
    if mine is None:  # a stage that the recipe lacks is added in its place of the order
        mine = {"stage": name}
        stages.append(mine)
        stages.sort(key=_order)
    mine[rest[0]] = value


def _order(stage: Any) -> int:
    name = stage.get("stage") if isinstance(stage, dict) else None
    return STAGE_ORDER.index(name) if name in STAGE_ORDER else len(STAGE_ORDER)
