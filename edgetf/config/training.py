"""How a stage of a recipe trains, and the weights of the distillation loss."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from edgetf.config.fields import Fraction, Positive, Weight
from edgetf.core.strict import Strict


class TrainingConfig(Strict):
    """How a stage trains."""

    epochs: Annotated[float, Field(gt=0, le=1000)] = 3
    batch_size: Positive = 16
    gradient_accumulation: Positive = 1
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    weight_decay: Weight = 0.01
    warmup: Annotated[Fraction, Field(description="share of the steps")] = 0.1
    max_grad_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    patience: Annotated[Positive | None, Field(description="epochs without a better dev accuracy")] = None
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"], Field(description="auto: bf16 or fp16 on a GPU that has it")
    ] = "auto"
    threads: Annotated[
        Positive | Literal["auto"], Field(description="auto: all cores when they are idle, else one")
    ] = "auto"
    freeze_embeddings: bool = False
    checkpoint_seconds: Annotated[float, Field(gt=0, description="save the state at least this often")] = 30


Term = Literal["logits", "labels", "similarities", "relations", "hidden", "attention", "embedding"]
TERMS: tuple[Term, ...] = get_args(Term)
Factor = Annotated[float, Field(ge=0, allow_inf_nan=False)]


VECTORS_ONLY = {"similarities", "pooled_distance"}  # fields that say nothing to a task without vectors


class LossConfig(Strict):
    """Weights of the distillation loss; see edgetf.algorithms.distillation for the formulas."""

    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0
    top_k: Annotated[Positive | None, Field(description="keep so many of the teacher's logits; none: all")] = None
    logits: Weight = 0.7
    labels: Weight = 0.3
    similarities: Annotated[Weight, Field(description="sentence_embeddings: cosines of all pairs of a batch")] = 0.0
    pooled_distance: Annotated[
        Literal["cosine", "mse"], Field(description="sentence_embeddings: `logits` is this distance of the vectors")
    ] = "cosine"
    relations: Annotated[Weight, Field(description="MiniLMv2 query, key and value relations")] = 0.0
    relation_heads: Positive = 12
    relation_layer: Annotated[int, Field(description="teacher layer, from 0; negative counts from the end")] = -1
    hidden: Annotated[Weight, Field(description="hidden states, through a learned projection")] = 0.0
    hidden_distance: Literal["mse", "cosine", "normalized"] = "mse"
    hidden_tokens: Annotated[Literal["all", "first"], Field(description="first: [CLS] alone, as PKD has it")] = "all"
    attention: Annotated[Weight, Field(description="attention scores, padding masked")] = 0.0
    attention_distance: Annotated[
        Literal["mse", "kl"], Field(description="of the scores before the softmax, or of the distributions")
    ] = "mse"
    embedding: Annotated[Weight, Field(description="output of the embedding layer")] = 0.0
    embedding_distance: Literal["mse", "cosine"] = "mse"
    layer_map: Annotated[
        Literal["uniform", "last"] | tuple[int | None, ...],
        Field(description="teacher layer of each student layer, from 0, null for none; uniform: evenly spread"),
    ] = "uniform"
    schedules: Annotated[
        dict[Term, tuple[Factor, Factor]], Field(description="factor on a weight at the first and the last step")
    ] = Field(default_factory=dict)
    progressive: Annotated[
        Fraction, Field(description="share of the steps in which one layer after the other learns, from the bottom")
    ] = 0.0
    rows: Annotated[
        Literal["all", "labelled", "unlabelled"], Field(description="unlabelled: data.unlabelled and augmented texts")
    ] = "all"
    cache_states: Annotated[
        bool, Field(description="keep the teacher's states on disk too, so that it does not run beside the student")
    ] = False

    def weights(self) -> dict[Term, float]:
        """The weight of every term, at the full factor."""
        return {term: getattr(self, term) for term in TERMS}

    @property
    def asks_answers(self) -> bool:
        """Whether a term compares with the teacher's answers."""
        return self.logits + self.similarities > 0

    @model_validator(mode="after")
    def _something_to_learn(self) -> LossConfig:
        if not any(self.weights().values()):
            every = [term for term in TERMS if term not in VECTORS_ONLY]
            raise ValueError(f"{', '.join(every[:-1])} and {every[-1]} all weigh 0; give one of them a weight")
        return self

    @model_validator(mode="after")
    def _layers_to_warm(self) -> LossConfig:
        if self.progressive and not (self.hidden or self.attention):
            raise ValueError(
                "progressive: its steps learn hidden states and attention; give hidden or attention a weight"
            )
        return self
