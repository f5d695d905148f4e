"""MobileBERT (Sun et al. 2020): thin layers between bottlenecks, several feed-forwards a layer, a small embedding."""

from edgetf.models.families.family import (
    LAYER_INPUT,
    Config,
    Cost,
    Family,
    FeedForward,
    Link,
    Residual,
    Shape,
    words_cost,
)


def feed_forwards(config: Config) -> tuple[FeedForward, ...]:
    """The stacked feed-forwards come first, the layer's own last."""
    stacked = int(config["num_feedforward_networks"]) - 1
    places = (*(f"ffn.{k}." for k in range(stacked)), "")
    return tuple(
        FeedForward(f"{at}intermediate.dense", f"{at}intermediate.intermediate_act_fn", f"{at}output.dense")
        for at in places
    )


def layer_links(config: Config) -> tuple[Link, ...]:
    """The thin residual stream between the bottlenecks, the wide one between the layers, and what reads each of them.

    Which of them attention reads, the config says. A norm that gives a residual holds as a link with NoNorm only.
    """
    if not config.get("use_bottleneck", True):
        return ()
    projections = ("attention.self.query", "attention.self.key", "attention.self.value")
    wide: list[str] = ["bottleneck.input.dense"]
    thin: list[str] = []
    shared: list[str] = []
    if config.get("use_bottleneck_attention"):
        thin += projections
    elif config.get("key_query_shared_bottleneck", True):
        wide += ["bottleneck.attention.dense", projections[2]]
        shared += projections[:2]
    else:
        wide += projections
    links = [
        Link(LAYER_INPUT, tuple(wide), beside="output.bottleneck.dense", undone_by="output.bottleneck.LayerNorm"),
        Link("bottleneck.attention.LayerNorm", tuple(shared)),
    ]
    steps = [("bottleneck.input.LayerNorm", tuple(thin), "attention.output.dense", "attention.output.LayerNorm")]
    for part in feed_forwards(config):
        steps.append((steps[-1][3], (part.up,), part.down, part.down.replace("dense", "LayerNorm")))
    links += [Link(norm, readers, beside=beside, undone_by=after) for norm, readers, beside, after in steps]
    return (*links, Link("output.LayerNorm", ("output.bottleneck.dense",)))


def cost(config: Config, shape: Shape, seq_len: int) -> Cost:
    """The cost of the encoder with a shared key and query bottleneck, as `key_query_shared_bottleneck` says."""
    h, b, e = shape.hidden_size, int(config["intra_bottleneck_size"]), int(config["embedding_size"])
    rows = int(config["max_position_embeddings"]) + int(config.get("type_vocab_size", 2))
    classes = int(config.get("num_labels", len(config.get("id2label") or {}) or 2))
    pooler = h * h * bool(config.get("classifier_activation", True))
    products = attended = small = ops = 0
    for layer in shape.layers:
        a, stacked = layer.heads * shape.head_width, len(layer.neurons)
        # two bottlenecks in and one out, query and key from the narrow input, value from the wide one
        products += 3 * h * b + 2 * b * a + h * a + a * b + 2 * b * sum(layer.neurons)
        attended += 2 * a
        small += 3 * a + 9 * b + 3 * h + sum(layer.neurons) + 3 * b * stacked  # with the norms' two vectors each
        ops += 55 + 12 * stacked
    embedding = words_cost(config, shape, e) + rows * h + 3 * e * h + 3 * h
    head = pooler + h * bool(pooler) + h * classes + classes
    widening = (shape.embedding_size or 0) * e + 3 * e * h
    return Cost(
        macs=seq_len * (widening + products + seq_len * attended) + pooler + h * classes,
        params=embedding + products + small + head,
        ops=ops,
    )


FAMILY = Family(
    model_type="mobilebert",
    layers="mobilebert.encoder.layer",
    embeddings="mobilebert.embeddings",
    word_embedding="mobilebert.embeddings.word_embeddings",
    position_embedding="mobilebert.embeddings.position_embeddings",
    attention="attention.self",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_output="attention.output.dense",
    head_count=("num_attention_heads",),
    head_width=("all_head_size",),
    feed_forwards=feed_forwards,
    cost=cost,
    residual=Residual(
        tables=("*.position_embeddings", "*.token_type_embeddings"),
        writes=("*.embedding_transformation", "*.output.bottleneck.dense", "*.pooler.dense"),
        reads=("*.bottleneck.input.dense", "*.bottleneck.attention.dense", "*.self.value", "*.pooler.dense",
               "classifier"),
        norms=("*.embeddings.LayerNorm", "*.output.bottleneck.LayerNorm"),
    ),
    attention_width="intra_bottleneck_size",
    layer_links=layer_links,
    first_norm="mobilebert.embeddings.LayerNorm",
    last_norm="output.bottleneck.LayerNorm",
    head_reads=("mobilebert.pooler.dense", "classifier"),
)  # fmt: skip
