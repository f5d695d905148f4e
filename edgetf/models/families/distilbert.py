"""DistilBERT (Sanh et al. 2019): BERT without token types and pooler, and with config names of its own."""

from edgetf.models.families.family import Family, plain_cost, plain_feed_forward

_NAMES = {"hidden_size": "dim", "intermediate_size": "hidden_dim", "num_hidden_layers": "n_layers"}

FAMILY = Family(
    model_type="distilbert",
    layers="distilbert.transformer.layer",
    attention="attention",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    attention_output="attention.out_lin",
    head_count=("n_heads",),
    head_width=("dim",),
    feed_forwards=plain_feed_forward("ffn.lin1", "ffn.lin2"),
    cost=plain_cost(_NAMES, pooled=True),
    hidden_size="dim",
    intermediate_size="hidden_dim",
    num_attention_heads="n_heads",
    num_hidden_layers="n_layers",
    takes_token_types=False,
)
