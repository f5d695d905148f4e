"""MobileBERT (Sun et al. 2020): thin layers between bottlenecks, several feed-forwards a layer, a small embedding."""

from edgetf.models.families.family import Config, Cost, Family, FeedForward


def feed_forwards(config: Config) -> tuple[FeedForward, ...]:
    """The stacked feed-forwards come first, the layer's own last."""
    stacked = int(config["num_feedforward_networks"]) - 1
    first = tuple(FeedForward(f"ffn.{k}.intermediate.dense", f"ffn.{k}.output.dense") for k in range(stacked))
    return (*first, FeedForward("intermediate.dense", "output.dense"))


def cost(config: Config, seq_len: int) -> Cost:
    """The cost of the encoder with a shared key and query bottleneck, as `key_query_shared_bottleneck` says."""
    h, b = int(config["hidden_size"]), int(config["intra_bottleneck_size"])
    f, stacked = int(config["intermediate_size"]), int(config["num_feedforward_networks"])
    layers, e, vocab = int(config["num_hidden_layers"]), int(config["embedding_size"]), int(config["vocab_size"])
    positions = int(config["max_position_embeddings"]) + int(config.get("type_vocab_size", 2))
    classes = int(config.get("num_labels", len(config.get("id2label") or {}) or 2))
    bottlenecks = 2 * h * b + b * h
    layer = bottlenecks + 2 * b * b + h * b + b * b + stacked * 2 * b * f
    scores = layers * 2 * seq_len * b
    small = layers * (6 * b + 4 * h + stacked * (f + 3 * b)) + h * classes + classes
    return Cost(
        macs=seq_len * (3 * e * h + layers * layer + scores) + h * classes,
        params=vocab * e + positions * h + 3 * e * h + layers * layer + small,
        ops=layers * (55 + 12 * stacked),
    )


FAMILY = Family(
    model_type="mobilebert",
    layers="mobilebert.encoder.layer",
    embeddings="mobilebert.embeddings",
    attention="attention.self",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_output="attention.output.dense",
    head_count=("num_attention_heads",),
    head_width=("all_head_size",),
    feed_forwards=feed_forwards,
    cost=cost,
    head_modules=("classifier",),
)
