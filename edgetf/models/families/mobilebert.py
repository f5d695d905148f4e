"""MobileBERT (Sun et al. 2020): thin layers between bottlenecks, several feed-forwards a layer, a small embedding."""

from edgetf.models.families.family import ATTENTION_WIDTH, Config, Cost, Family, FeedForward


def feed_forwards(config: Config) -> tuple[FeedForward, ...]:
    """The stacked feed-forwards come first, the layer's own last."""
    stacked = int(config["num_feedforward_networks"]) - 1
    first = tuple(FeedForward(f"ffn.{k}.intermediate.dense", f"ffn.{k}.output.dense") for k in range(stacked))
    return (*first, FeedForward("intermediate.dense", "output.dense"))


def cost(config: Config, seq_len: int) -> Cost:
    """The cost of the encoder with a shared key and query bottleneck, as `key_query_shared_bottleneck` says."""
    h, b, e = (int(config[name]) for name in ("hidden_size", "intra_bottleneck_size", "embedding_size"))
    f, stacked = int(config["intermediate_size"]), int(config["num_feedforward_networks"])
    layers, a = int(config["num_hidden_layers"]), int(config.get(ATTENTION_WIDTH, b))
    rows = int(config["max_position_embeddings"]) + int(config.get("type_vocab_size", 2))
    classes = int(config.get("num_labels", len(config.get("id2label") or {}) or 2))
    pooler = h * h * bool(config.get("classifier_activation", True))
    # two bottlenecks in and one out, query and key from the narrow input, value from the wide one
    weights = 3 * h * b + 2 * b * a + h * a + a * b + stacked * 2 * b * f
    biases = 3 * a + 9 * b + 3 * h + stacked * (f + 3 * b)  # with the norms' two vectors each
    embedding = int(config["vocab_size"]) * e + rows * h + 3 * e * h + 3 * h
    head = pooler + h * bool(pooler) + h * classes + classes
    return Cost(
        macs=seq_len * (3 * e * h + layers * (weights + 2 * seq_len * a)) + pooler + h * classes,
        params=embedding + layers * (weights + biases) + head,
        ops=layers * (55 + 12 * stacked),
    )


FAMILY = Family(
    model_type="mobilebert",
    layers="mobilebert.encoder.layer",
    attention="attention.self",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_output="attention.output.dense",
    head_count=("num_attention_heads",),
    head_width=("all_head_size",),
    feed_forwards=feed_forwards,
    cost=cost,
)
