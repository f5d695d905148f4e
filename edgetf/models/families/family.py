"""The description of a family: module paths, and config names where they differ from BERT's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Config = Mapping[str, Any]

ATTENTION_WIDTH = "attention_width"  # of a config for costing: heads × width of a head, where heads were removed


@dataclass(frozen=True)
class FeedForward:
    """Paths, inside a layer, of the projection up to the neurons and of the one back down."""

    up: str
    down: str


@dataclass(frozen=True)
class Cost:
    """What one forward pass costs: multiply-accumulates of the encoder and its head, weights, and operators."""

    macs: int
    params: int
    ops: int


@dataclass(frozen=True)
class Family:
    """Where things are. The path `layers` starts at the model, the others at a layer."""

    model_type: str
    layers: str
    attention: str
    query: str
    key: str
    value: str
    attention_output: str
    head_count: tuple[str, ...]  # attributes of the attention module that hold the number of heads
    head_width: tuple[str, ...]  # … and those that hold heads × width of a head
    feed_forwards: Callable[[Config], tuple[FeedForward, ...]]
    cost: Callable[[Config, int], Cost]
    hidden_size: str = "hidden_size"
    intermediate_size: str = "intermediate_size"
    num_attention_heads: str = "num_attention_heads"
    num_hidden_layers: str = "num_hidden_layers"
    takes_token_types: bool = True
    reserved_positions: int = 0  # rows of the position embedding that no token uses


def plain_feed_forward(up: str, down: str) -> Callable[[Config], tuple[FeedForward, ...]]:
    """One feed-forward a layer."""
    parts = (FeedForward(up, down),)
    return lambda config: parts


def plain_cost(names: Mapping[str, str], pooled: bool) -> Callable[[Config, int], Cost]:
    """The cost of a BERT-like encoder; `names` maps BERT's config names to the family's own."""

    def cost(config: Config, seq_len: int) -> Cost:
        def get(name: str) -> int:
            return int(config[names.get(name, name)])

        h, f, layers = get("hidden_size"), get("intermediate_size"), get("num_hidden_layers")
        tokens = get("vocab_size") + get("max_position_embeddings") + int(config.get("type_vocab_size", 0))
        classes = int(config.get("num_labels", len(config.get("id2label") or {}) or 2))
        a = int(config.get(ATTENTION_WIDTH, h))
        weights = layers * (4 * h * a + 2 * h * f)
        scores = layers * 2 * seq_len * a  # query·key and attention·value, a token
        small = layers * (6 * h + 3 * a + f) + 2 * h + (h * h + h if pooled else 0) + h * classes + classes
        return Cost(
            macs=seq_len * (weights + scores) + h * h * pooled + h * classes,
            params=tokens * h + weights + small,
            ops=40 * layers,
        )

    return cost
