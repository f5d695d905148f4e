"""BERT (Devlin et al. 2019), and with it MiniLM and TinyBERT, which keep its modules."""

from edgetf.models.families.family import Family, PostNorms, Residual, plain_cost, plain_feed_forward

FAMILY = Family(
    model_type="bert",
    layers="bert.encoder.layer",
    embeddings="bert.embeddings",
    word_embedding="bert.embeddings.word_embeddings",
    position_embedding="bert.embeddings.position_embeddings",
    attention="attention.self",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_output="attention.output.dense",
    head_count=("num_attention_heads",),
    head_width=("all_head_size",),
    feed_forwards=plain_feed_forward("intermediate.dense", "intermediate.intermediate_act_fn", "output.dense"),
    cost=plain_cost(pooled=True),
    residual=Residual(
        tables=("*.word_embeddings", "*.position_embeddings", "*.token_type_embeddings"),
        writes=("*.output.dense", "*.pooler.dense"),
        reads=("*.query", "*.key", "*.value", "*.intermediate.dense", "*.pooler.dense", "classifier"),
        norms=("*.LayerNorm",),
    ),
    post_norms=PostNorms("attention.output.LayerNorm", "output.LayerNorm"),
    last_norm="output.LayerNorm",
    head_reads=("bert.pooler.dense", "classifier"),
)
