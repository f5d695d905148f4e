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

from edgetf.config.schema import schema_of
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
    head, rest, schema = path[0], path[1:], schema_of(tree)
    named = [_called(stage) for stage in _stages(tree) if stage.get("stage") == "distill" and "name" in stage]
    if head in schema.stage_order or head in named:
        _put_in_stage(tree, head, rest, value)
        return
    if head not in schema.model.model_fields:
        known = [*schema.model.model_fields, *schema.stage_order, *named]
        raise ConfigError(f"{head}: not a recipe field or stage{near_match(head, known)}")
    if not rest:
        tree[head] = value
        return
    inner = tree.setdefault(head, {})
    if not isinstance(inner, dict):
        raise ConfigError(f"{'.'.join(path)}: {head} is {inner!r}, which has no fields")
    _put_inside(inner, head, rest, value)


def _stages(tree: Tree) -> list[Tree]:
    """The stages that are mappings; what else stands there is the schema's to refuse."""
    stages = tree.get("stages")
    return [stage for stage in stages if isinstance(stage, dict)] if isinstance(stages, list) else []


def _called(stage: Tree) -> Any:
    """What a stage goes by: only distill may stand twice, told apart by a name."""
    return str(stage.get("name", "distill")) if stage.get("stage") == "distill" else stage.get("stage")


def _the_stage(tree: Tree, name: str) -> Tree | None:
    """The stage of that name, or the only one of that kind."""
    called = [stage for stage in _stages(tree) if _called(stage) == name]
    kind = [stage for stage in _stages(tree) if stage.get("stage") == name]
    return called[0] if called else kind[0] if len(kind) == 1 else None


def _put_in_stage(tree: Tree, name: str, rest: list[str], value: Any) -> None:
    stages = tree.setdefault("stages", [])
    if not isinstance(stages, list):
        raise ConfigError(f"stages: got {stages!r}, allowed: a list, so {name} cannot be placed")
    mine = _the_stage(tree, name)
    if not rest:
        if value is not None:
            raise ConfigError(f"{name}: got {value!r}; a stage is dropped by {name}=null, or set by {name}.FIELD=value")
        if mine is not None:
            stages.remove(mine)
        return
    if rest[0] == "stage":
        raise ConfigError(f"{name}.stage: a stage stays what it is; drop it by {name}=null and set fields of another")
    if mine is None:  # a stage that the recipe lacks is added in its place of the order
        mine = {"stage": name}
        stages.append(mine)
        order = schema_of(tree).stage_order
        stages.sort(key=lambda stage: _place(stage, order))
    _put_inside(mine, name, rest, value)


def _put_inside(node: Tree, place: str, path: list[str], value: Any) -> None:
    """Set a field, or a field of a field."""
    for part in path[:-1]:
        inner = node.get(part)
        if inner is None:
            inner = node[part] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"{place}.{'.'.join(path)}: {part} is {inner!r}, which has no fields")
        node = inner
    node[path[-1]] = value


def _place(stage: Any, order: Sequence[str]) -> int:
    name = stage.get("stage") if isinstance(stage, dict) else None
    return order.index(name) if name in order else len(order)
