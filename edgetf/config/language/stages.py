"""The stages of a language recipe: one frozen config each, told apart by `stage`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from edgetf.config.fields import Fraction, Positive, Weight, once
from edgetf.core.schemes import Format, Scheme
from edgetf.core.strict import Strict

Ratio = Annotated[float, Field(ge=0, lt=1)]


class StepsConfig(Strict):
    """How a stage trains: a number of optimizer steps over packed sequences."""

    steps: Annotated[int, Field(ge=1, le=10_000_000, description="optimizer steps")] = 1000
    batch_size: Annotated[Positive, Field(description="packed sequences of one forward pass")] = 16
    gradient_accumulation: Positive = 1
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    weight_decay: Weight = 0.1
    warmup: Annotated[Fraction, Field(description="share of the steps")] = 0.05
    max_grad_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    evaluate_every: Annotated[
        Positive | None, Field(description="steps between dev perplexities (1,000 at most); none: 5 of them")
    ] = None
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        Field(description="auto: bf16 or fp16 on a GPU or a processor that has it"),
    ] = "auto"
    threads: Annotated[
        Positive | Literal["auto"], Field(description="auto: all cores when they are idle, else one")
    ] = "auto"
    checkpoint_seconds: Annotated[float, Field(gt=0, description="save the state at least this often")] = 30


class DivergenceConfig(Strict):
    """What a student learns of its teacher's next-token distributions; see edgetf.algorithms.divergences."""

    divergence: Annotated[
        Literal["forward_kl", "reverse_kl", "jsd"],
        Field(description="KL(teacher‖student), KL(student‖teacher), or the generalized Jensen-Shannon divergence"),
    ] = "forward_kl"
    beta: Annotated[float, Field(gt=0, lt=1, description="jsd only: weight of the teacher in the mixture")] = 0.5
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    teacher: Annotated[Weight, Field(description="weight of the divergence")] = 0.7
    labels: Annotated[Weight, Field(description="weight of the next token of the text itself")] = 0.3
    top_k: Annotated[Positive | None, Field(description="logits kept of each of the teacher's answers; none: all")] = 64

    @model_validator(mode="after")
    def _something_to_learn(self) -> DivergenceConfig:
        if not (self.teacher or self.labels):
            raise ValueError("teacher and labels both weigh 0; give one of them a weight")
        return self


class OnPolicyConfig(Strict):
    """Sequences that the student writes itself, judged by the teacher (Agarwal et al. 2024)."""

    share: Annotated[float, Field(gt=0, le=1, description="of the batches")] = 0.25
    prompt_tokens: Positive = 16
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0


class SequenceLevelConfig(Strict):
    """Texts that the teacher writes on from beginnings of training documents (Kim & Rush 2016)."""

    samples: Annotated[Positive, Field(description="texts in all")] = 200
    prompt_tokens: Annotated[Positive, Field(description="tokens (or, of an endpoint, words) of a beginning")] = 16
    max_new_tokens: Positive = 128
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    with_documents: Annotated[bool, Field(description="train on the documents too")] = True


class PretrainConfig(StepsConfig):
    """Train the teacher from nothing, on the next token of the training documents."""

    stage: Literal["pretrain"] = "pretrain"


class LanguageVocabularyConfig(Strict):
    """Remove tokens that the texts hardly use, with their rows of the embedding; no training."""

    stage: Literal["vocabulary"] = "vocabulary"
    size: Annotated[Positive | None, Field(description="tokens that stay; none: all that the texts use")] = None


class LanguagePruneConfig(StepsConfig, DivergenceConfig):
    """Remove layers, KV groups, heads, feed-forward neurons and hidden width; then recover by distillation."""

    stage: Literal["prune"] = "prune"
    steps: Annotated[int, Field(ge=0, le=10_000_000, description="optimizer steps; 0: no training")] = 300
    layer_ratio: Annotated[Ratio, Field(description="share of the layers removed, those of the least influence")] = 0.0
    kv_group_ratio: Annotated[Ratio, Field(description="share of the KV groups removed, with their query heads")] = 0.0
    head_ratio: Annotated[Ratio, Field(description="share of the query heads of each group removed")] = 0.0
    ffn_ratio: Annotated[Ratio, Field(description="share of the neurons removed")] = 0.0
    hidden_ratio: Annotated[Ratio, Field(description="share of the hidden width removed")] = 0.0
    round_to: Annotated[Positive, Field(description="kept neurons and hidden width are multiples of this")] = 32
    importance: Literal["random", "magnitude", "activation", "taylor"] = "activation"
    importance_sequences: Positive = 64

    @model_validator(mode="after")
    def _something_goes(self) -> LanguagePruneConfig:
        ratios = (self.layer_ratio, self.kv_group_ratio, self.head_ratio, self.ffn_ratio, self.hidden_ratio)
        if not any(ratios):
            raise ValueError("every ratio is 0, so that nothing is pruned; give one, or drop the stage with prune=null")
        return self


class LanguageDistillConfig(StepsConfig, DivergenceConfig):
    """Train the student on what the teacher says."""

    stage: Literal["distill"] = "distill"
    on_policy: OnPolicyConfig | None = None
    sequence_level: SequenceLevelConfig | None = None


class LanguageExportConfig(Strict):
    """Write the student with its key-value cache in the formats that devices run."""

    stage: Literal["export"] = "export"
    formats: Annotated[tuple[Format, ...], AfterValidator(once), Field(min_length=1)] = ("onnx",)
    opset: Annotated[int, Field(ge=18, le=23)] = 20
    context: Annotated[
        Positive | None, Field(description="tokens that the cache may hold; none: the model's positions")
    ] = None
    kv_cache: Annotated[Literal["fp32", "int8"], Field(description="ONNX: how the cache is stored")] = "fp32"
    fuse: Annotated[bool, Field(description="ONNX: attention and norms as single operators of ONNX Runtime")] = True


class LanguageQuantizeConfig(Strict):
    """Quantize the exported files."""

    stage: Literal["quantize"] = "quantize"
    schemes: Annotated[tuple[Scheme, ...], AfterValidator(once), Field(min_length=1)] = ("w8", "w4")
    embeddings: Annotated[bool, Field(description="the embedding and the output layer too")] = True
    embedding_bits: Annotated[
        Literal[4, 8, "auto"],
        Field(description="ONNX w4: of the embedding; auto: 8 where it has a quarter of the weights or less"),
    ] = "auto"
    calibration_tokens: Annotated[
        int,
        Field(
            ge=0, description="ONNX w4: of training documents, on which codes make up for one another's errors; 0: none"
        ),
    ] = 65_536

    @model_validator(mode="after")
    def _known_for_decoders(self) -> LanguageQuantizeConfig:
        strange = [scheme for scheme in self.schemes if scheme not in ("w8a8_dynamic", "w8", "w4")]
        if strange:
            raise ValueError(f"schemes: got {', '.join(strange)}, allowed for decoders: w8a8_dynamic, w8, w4")
        return self


LanguageStage = Annotated[
    PretrainConfig
    | LanguageVocabularyConfig
    | LanguagePruneConfig
    | LanguageDistillConfig
    | LanguageExportConfig
    | LanguageQuantizeConfig,
    Field(discriminator="stage"),
]
LANGUAGE_STAGE_ORDER: tuple[str, ...] = ("pretrain", "vocabulary", "prune", "distill", "export", "quantize")
