"""The description of a family: module paths, and config names where they differ from BERT's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Config = Mapping[str, Any]


@dataclass(frozen=True)
class FeedForward:
    """Paths, inside a layer, of the projection up to the neurons, of the activation and of the projection back down."""

    up: str
    activation: str
    down: str


@dataclass(frozen=True)
class Residual:
    """What touches the hidden state between the layers, as patterns over the names of all modules.

    `tables` are embeddings with a column for each hidden dimension, `writes` linear layers with a row for it, `reads`
    linear layers with a column for it, `norms` what normalizes it. One that matches `writes` and `reads` is both.
    """

    tables: tuple[str, ...]
    writes: tuple[str, ...]
    reads: tuple[str, ...]
    norms: tuple[str, ...]


@dataclass(frozen=True)
class PostNorms:
    """Paths, inside a layer whose norms follow attention and feed-forward, of those norms."""

    attention_norm: str
    output_norm: str


@dataclass(frozen=True)
class Link:
    """Channels that `source` gives and linear `readers` read, so that a factor can move from the one to the others.

    `source` is a norm, an embedding or a linear layer; a norm is one only where nothing else reads it. Between it and
    the readers stands no more than what hands a positive factor on: an average over tokens, or a ReLU, which the module
    at `activation` has to be. With `beside` and `undone_by` the channels are a residual as well:
    ``undone_by(channels + beside(…))``, and the link holds where that norm is element-wise, scale and bias.
    """

    source: str
    readers: tuple[str, ...]
    activation: str | None = None
    beside: str | None = None
    undone_by: str | None = None


LAYER_INPUT = "(input)"  # as the `source` of a layer's link: the norm that gives what the layer reads


@dataclass(frozen=True)
class LayerShape:
    """One layer: its attention heads, and the neurons of each of its feed-forwards."""

    heads: int
    neurons: tuple[int, ...]


@dataclass(frozen=True)
class Shape:
    """What structured pruning may change of a model; `embedding_size` is None where the embedding is one table."""

    hidden_size: int
    head_width: int
    layers: tuple[LayerShape, ...]
    embedding_size: int | None = None


@dataclass(frozen=True)
class Cost:
    """What one forward pass costs: multiply-accumulates of the encoder and its head, weights, and operators."""

    macs: int
    params: int
    ops: int


@dataclass(frozen=True)
class Family:
    """Where things are. `layers`, `embeddings` and `word_embedding` start at the model, the other paths at a layer."""

    model_type: str
    layers: str
    embeddings: str
    word_embedding: str
    position_embedding: str
    attention: str
    query: str
    key: str
    value: str
    attention_output: str
    head_count: tuple[str, ...]  # attributes of the attention module that hold the number of heads
    head_width: tuple[str, ...]  # … and those that hold heads × width of a head
    feed_forwards: Callable[[Config], tuple[FeedForward, ...]]
    cost: Callable[[Config, Shape, int], Cost]
    residual: Residual
    hidden_size: str = "hidden_size"
    intermediate_size: str = "intermediate_size"
    num_attention_heads: str = "num_attention_heads"
    num_hidden_layers: str = "num_hidden_layers"
    attention_width: str | None = None  # config name of heads × width of a head, where it is not the hidden size
    takes_token_types: bool = True
    reserved_positions: int = 0  # rows of the position embedding that no token uses
    post_norms: PostNorms | None = None  # None: layers of another build
    # Links inside a layer beside value → attention output and up → down, which every family has.
    layer_links: Callable[[Config], tuple[Link, ...]] = lambda config: ()
    head_links: tuple[Link, ...] = ()  # … and behind the layers, with paths that start at the model
    first_norm: str | None = None  # gives what the first layer reads; its path starts at the model
    last_norm: str | None = None  # gives, in a layer, what the next layer or the head reads
    head_reads: tuple[str, ...] = ()  # linear layers of the heads: the first one that is there reads the last norm


def plain_feed_forward(up: str, activation: str, down: str) -> Callable[[Config], tuple[FeedForward, ...]]:
    """One feed-forward a layer."""
    parts = (FeedForward(up, activation, down),)
    return lambda config: parts


def words_cost(config: Config, shape: Shape, width: int) -> int:
    """Weights of a word embedding into `width` dimensions, in one table or as a product of two."""
    words, size = int(config["vocab_size"]), shape.embedding_size
    return words * width if size is None else words * size + size * width


def plain_cost(pooled: bool) -> Callable[[Config, Shape, int], Cost]:
    """The cost of a BERT-like encoder; `pooled` says whether a dense layer stands before the classifier."""

    def cost(config: Config, shape: Shape, seq_len: int) -> Cost:
        h = shape.hidden_size
        rows = int(config["max_position_embeddings"]) + int(config.get("type_vocab_size", 0))
        classes = int(config.get("num_labels", len(config.get("id2label") or {}) or 2))
        products = small = attended = 0
        for layer in shape.layers:
            a, f = layer.heads * shape.head_width, sum(layer.neurons)
            products += 4 * h * a + 2 * h * f
            attended += 2 * a  # query·key and attention·value, for every pair of tokens
            small += 6 * h + 3 * a + f
        widening = (shape.embedding_size or 0) * h
        return Cost(
            macs=seq_len * (products + widening + seq_len * attended) + h * h * pooled + h * classes,
            params=words_cost(config, shape, h) + rows * h + products + small + 2 * h + (h * h + h) * pooled
            + h * classes + classes,
            ops=40 * len(shape.layers),
        )  # fmt: skip

    return cost
