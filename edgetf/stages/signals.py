"""Which layers of student and teacher are compared, and which of their states the terms of the loss need.

A plan asks this before any work, so nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgetf.config.training import LossConfig
from edgetf.core.errors import ConfigError
from edgetf.models.students import spread_layers

PROJECTIONS = ("query", "key", "value")
Pairs = list[tuple[int, int]]  # student layer, teacher layer


@dataclass(frozen=True)
class Wanted:
    """The signals that the terms compare."""

    pairs: Pairs
    student: tuple[str, ...]
    teacher: tuple[str, ...]


def layer_pairs(layer_map: str | tuple[int | None, ...], student_layers: int, teacher_layers: int) -> Pairs:
    """Which student layer learns from which teacher layer.

    >>> layer_pairs("uniform", 2, 6), layer_pairs("last", 2, 6), layer_pairs((1, None), 2, 6)
    ([(0, 2), (1, 5)], [(1, 5)], [(0, 1)])

    Raises:
        ConfigError: a map of another length, or a layer that the teacher lacks.
    """
    if layer_map == "last":
        return [(student_layers - 1, teacher_layers - 1)]
    if layer_map == "uniform":
        if student_layers <= teacher_layers:
            return list(enumerate(spread_layers(teacher_layers, student_layers)))
        return [(k, k * teacher_layers // student_layers) for k in range(student_layers)]
    if len(layer_map) != student_layers:
        raise ConfigError(f"layer_map: got {len(layer_map)} layers, allowed: the student's {student_layers}")
    pairs = [(k, int(layer)) for k, layer in enumerate(layer_map) if layer is not None]
    wrong = [layer for _, layer in pairs if not 0 <= layer < teacher_layers]
    if wrong:
        raise ConfigError(f"layer_map: got {wrong[0]}, allowed: 0 to {teacher_layers - 1}")
    return pairs


def wanted_signals(config: LossConfig, student_heads: list[int], teacher_heads: list[int]) -> Wanted:
    """The pairs of layers and the signals on both sides; a layer without heads has no attention to compare.

    Raises:
        ConfigError: a layer that the teacher lacks, or no layer left to compare.
    """
    layers, pairs = len(teacher_heads), _compared(config, student_heads, teacher_heads)
    ours: list[str] = []
    theirs: list[str] = []
    if config.embedding:
        ours, theirs = ["embedding"], ["embedding"]
    if config.hidden:
        ours += [f"hidden.{k}" for k, _ in pairs]
        theirs += [f"hidden.{k}" for _, k in pairs]
    if config.attention:
        for mine, other in pairs:
            if student_heads[mine] and teacher_heads[other]:
                ours += [f"query.{mine}", f"key.{mine}"]
                theirs += [f"query.{other}", f"key.{other}"]
    if config.relations:
        if not -layers <= config.relation_layer < layers:
            raise ConfigError(f"relation_layer: got {config.relation_layer}, allowed: {-layers} to {layers - 1}")
        last, source = last_with_heads(student_heads), config.relation_layer % layers
        ours += [f"{kind}.{last}" for kind in PROJECTIONS]
        theirs += [f"{kind}.{source}" for kind in PROJECTIONS]
    return Wanted(pairs, tuple(dict.fromkeys(ours)), tuple(dict.fromkeys(theirs)))


def _compared(config: LossConfig, student_heads: list[int], teacher_heads: list[int]) -> Pairs:
    """The pairs of layers, each with something to compare where it will have a turn of its own."""
    pairs = layer_pairs(config.layer_map, len(student_heads), len(teacher_heads))
    if not pairs and (config.hidden or config.attention):
        raise ConfigError("layer_map: got null for every layer, but hidden and attention compare layers; name one")
    if config.progressive and not config.hidden:  # in its turn, a pair has nothing but its attention to learn
        pairs = [(mine, other) for mine, other in pairs if student_heads[mine] and teacher_heads[other]]
        if not pairs:
            raise ConfigError("progressive: no two layers that are compared have heads; give hidden a weight")
    return pairs


def last_with_heads(heads: list[int]) -> int:
    """The highest layer that still has attention heads.

    >>> last_with_heads([4, 2, 0])
    1
    """
    found = [k for k, count in enumerate(heads) if count]
    if not found:
        raise ConfigError("relations: the student has no attention head left; set relations=0")
    return found[-1]


def layer_of(name: str) -> int:
    """The layer of a signal's name.

    >>> layer_of("query.3")
    3
    """
    return int(name.partition(".")[2])


def relation_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Query, key and value of the layer whose values are among the signals."""
    layer = next(layer_of(name) for name in names if name.startswith("value."))
    return tuple(f"{kind}.{layer}" for kind in PROJECTIONS)
