"""RoBERTa (Liu et al. 2019): BERT's modules under another name, a dense layer in the head, no token types."""

from dataclasses import replace

from edgetf.models.families import bert

FAMILY = replace(
    bert.FAMILY,
    model_type="roberta",
    layers="roberta.encoder.layer",
    takes_token_types=False,
    reserved_positions=2,  # positions begin after the padding id, which is 1
)
