"""BERT (Devlin et al. 2019), and with it MiniLM and TinyBERT, which keep its modules."""

from edgetf.models.families.family import Family, plain_cost, plain_feed_forward

FAMILY = Family(
    model_type="bert",
    layers="bert.encoder.layer",
    attention="attention.self",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_output="attention.output.dense",
    head_count=("num_attention_heads",),
    head_width=("all_head_size",),
    feed_forwards=plain_feed_forward("intermediate.dense", "output.dense"),
    cost=plain_cost({}, pooled=True),
)
