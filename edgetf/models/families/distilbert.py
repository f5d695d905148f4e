"""DistilBERT (Sanh et al. 2019): BERT without token types and pooler, and with config names of its own."""

from edgetf.models.families.family import Family, Link, PostNorms, Residual, plain_cost, plain_feed_forward

FAMILY = Family(
    model_type="distilbert",
    layers="distilbert.transformer.layer",
    embeddings="distilbert.embeddings",
    word_embedding="distilbert.embeddings.word_embeddings",
    position_embedding="distilbert.embeddings.position_embeddings",
    attention="attention",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    attention_output="attention.out_lin",
    head_count=("n_heads",),
    head_width=("dim",),
    feed_forwards=plain_feed_forward("ffn.lin1", "ffn.activation", "ffn.lin2"),
    cost=plain_cost(pooled=True),
    residual=Residual(
        tables=("*.word_embeddings", "*.position_embeddings"),
        writes=("*.out_lin", "*.lin2", "pre_classifier"),
        reads=("*.q_lin", "*.k_lin", "*.v_lin", "*.lin1", "pre_classifier", "classifier"),
        norms=("*.LayerNorm", "*.sa_layer_norm", "*.output_layer_norm"),
    ),
    hidden_size="dim",
    intermediate_size="hidden_dim",
    num_attention_heads="n_heads",
    num_hidden_layers="n_layers",
    takes_token_types=False,
    post_norms=PostNorms("sa_layer_norm", "output_layer_norm"),
    head_links=(Link("pre_classifier", ("classifier",)),),  # with a ReLU between them
    last_norm="output_layer_norm",
    head_reads=("pre_classifier", "classifier"),
)
