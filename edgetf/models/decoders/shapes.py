"""How many layers, heads, neurons and hidden dimensions pruning by ratios leaves of a decoder, alike in all layers.

Alike, because a Hugging Face config has one number for all layers. Of heads it has two: query heads and the key-value
heads that groups of them share, so that every group keeps as many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgetf.config.language.models import LlamaShape
from edgetf.config.language.stages import LanguagePruneConfig
from edgetf.core.errors import ConfigError
from edgetf.models.students import kept_width

# transformers 5 refuses these with a hidden width that is no multiple of their heads, whatever head_dim says.
_HEADS_DIVIDE = ("llama", "gemma2", "gemma3_text")


@dataclass(frozen=True)
class DecoderShape:
    """What pruning may change: `groups` are key-value heads, each with `heads` query heads."""

    layers: int
    groups: int
    heads: int
    neurons: int
    hidden: int


def shape_of(config: Any) -> DecoderShape:
    """The shape in a config as transformers holds it."""
    queries, hidden = int(config.num_attention_heads), int(config.hidden_size)
    groups = int(getattr(config, "num_key_value_heads", None) or queries)
    if config.model_type == "gpt2":
        return DecoderShape(int(config.n_layer), groups, queries // groups, int(config.n_inner or 4 * hidden), hidden)
    return DecoderShape(int(config.num_hidden_layers), groups, queries // groups, int(config.intermediate_size), hidden)


def shape_to_make(shape: LlamaShape) -> DecoderShape:
    """The shape of a Llama that a recipe describes."""
    return DecoderShape(
        layers=shape.num_hidden_layers,
        groups=shape.num_key_value_heads,
        heads=shape.num_attention_heads // shape.num_key_value_heads,
        neurons=shape.intermediate_size,
        hidden=shape.hidden_size,
    )


def pruned_shape(kind: str, before: DecoderShape, prune: LanguagePruneConfig) -> DecoderShape:
    """The shape that the ratios leave of a decoder of the family `kind`.

    Raises:
        ConfigError: no plain folder could hold it, or the ratios take nothing.
    """
    if kind == "gpt2":
        named = {name: getattr(prune, name) for name in ("kv_group_ratio", "head_ratio", "hidden_ratio")}
        if wrong := [f"prune.{name}: got {ratio:g}" for name, ratio in named.items() if ratio]:
            raise ConfigError(
                f"{'; '.join(wrong)}, allowed: 0 for a gpt2, whose config holds no width of a head, so that no folder "
                "could hold the rest; use layer_ratio and ffn_ratio"
            )
    if prune.head_ratio and before.heads == 1:
        raise ConfigError(
            f"prune.head_ratio: got {prune.head_ratio:g}, allowed: 0, as each KV group has one query head; "
            "use kv_group_ratio"
        )
    after = DecoderShape(
        layers=_fewer(before.layers, prune.layer_ratio),
        groups=_fewer(before.groups, prune.kv_group_ratio),
        heads=_fewer(before.heads, prune.head_ratio),
        neurons=kept_width(before.neurons, prune.ffn_ratio, prune.round_to),
        hidden=kept_width(before.hidden, prune.hidden_ratio, prune.round_to),
    )
    if after == before:
        raise ConfigError("prune: the ratios are too small to remove anything; raise one, or lower prune.round_to")
    _refuse_heads(kind, after)
    return after


def _fewer(count: int, ratio: float) -> int:
    """Units that stay, at least one.

    >>> _fewer(18, 0.25), _fewer(4, 0.5), _fewer(3, 0.99)
    (14, 2, 1)
    """
    return max(1, round(count * (1 - ratio)))


def _refuse_heads(kind: str, after: DecoderShape) -> None:
    queries = after.groups * after.heads
    if kind in _HEADS_DIVIDE and after.hidden % queries:
        good = [n for n in range(1, queries + 1) if after.hidden % n == 0]
        raise ConfigError(
            f"prune: leaves {queries} query heads ({after.groups} groups of {after.heads}) beside a hidden width of "
            f"{after.hidden}, allowed for a {kind}: {', '.join(map(str, good))}, as transformers opens no other; "
            "change kv_group_ratio, head_ratio or hidden_ratio"
        )


def changes_of(config: Any, shape: DecoderShape) -> dict[str, Any]:
    """The entries of a config, in the older form, that make it one of this shape; its layers are chosen elsewhere.

    Raises:
        ValueError: the number of layers is another.
    """
    before = shape_of(config)
    if shape.layers != before.layers:
        raise ValueError("layers are removed by keep_layers")
    if config.model_type == "gpt2":
        return {"n_inner": shape.neurons}
    return {
        "num_attention_heads": shape.groups * shape.heads,
        "num_key_value_heads": shape.groups,
        "head_dim": getattr(config, "head_dim", None) or before.hidden // (before.groups * before.heads),
        "intermediate_size": shape.neurons,
        "hidden_size": shape.hidden,
        "rms_norm_eps": config.rms_norm_eps * before.hidden / shape.hidden,
    }
