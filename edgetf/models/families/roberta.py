"""RoBERTa (Liu et al. 2019): BERT's modules under another name, a dense layer in the head, no token types."""

from edgetf.models.families.family import Family, plain_cost, plain_feed_forward

FAMILY = Family(
    model_type="roberta",
    layers="roberta.encoder.layer",
    attention="attention.self",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_output="attention.output.dense",
    head_count=("num_attention_heads",),
    head_width=("all_head_size",),
    feed_forwards=plain_feed_forward("intermediate.dense", "output.dense"),
    cost=plain_cost({}, pooled=True),
    takes_token_types=False,
    reserved_positions=2,  # positions begin after the padding id, which is 1
)
