"""RoBERTa (Liu et al. 2019): BERT's modules under another name, a dense layer in the head, no token types."""

from dataclasses import replace

from edgetf.models.families import bert

FAMILY = replace(
    bert.FAMILY,
    model_type="roberta",
    layers="roberta.encoder.layer",
    embeddings="roberta.embeddings",
    word_embedding="roberta.embeddings.word_embeddings",
    position_embedding="roberta.embeddings.position_embeddings",
    residual=replace(
        bert.FAMILY.residual,
        writes=("*.output.dense", "classifier.dense"),
        reads=("*.query", "*.key", "*.value", "*.intermediate.dense", "classifier", "classifier.dense",
               "classifier.out_proj"),
    ),
    takes_token_types=False,
    head_reads=("classifier.dense", "classifier"),
    reserved_positions=2,  # positions begin after the padding id, which is 1
)  # fmt: skip
