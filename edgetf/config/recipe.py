"""The schema of a recipe: typed, frozen, and closed to unknown fields. A field's description is its help text."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, model_validator

from edgetf.core.budget import budget_problems
from edgetf.core.device import Format, Scheme, Strict

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


Item = TypeVar("Item")


def _once(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """Refuse a list that names something twice."""
    if len(set(items)) < len(items):
        raise ValueError("each may be named once")
    return items


class TeacherConfig(Strict):
    """Where the teacher comes from."""

    source: Annotated[str, Field(min_length=1, description="a folder, hub:OWNER/NAME, or package:DISTRIBUTION/path")]
    revision: Annotated[str | None, Field(description="hub only: branch, tag or commit")] = None


class SplitConfig(Strict):
    """Shares of the rows for each use; the rest trains."""

    dev: Fraction = 0.1
    test: Fraction = 0.2
    seed: int = 0

    @model_validator(mode="after")
    def _leave_rows_to_train(self) -> SplitConfig:
        if self.dev + self.test >= 1:
            raise ValueError(f"dev + test is {self.dev + self.test:g}, and nothing is left to train on")
        return self


class DataConfig(Strict):
    """Labelled text. `source` is a data card, a file, a folder with one sub-folder a class, hub: or package:."""

    source: Annotated[str, Field(min_length=1)]
    dev_source: Annotated[str | None, Field(description="rows for early stopping, where they come apart")] = None
    test_source: Annotated[str | None, Field(description="evaluation rows, where they come apart")] = None
    text: Annotated[str, Field(description="column of the text")] = "text"
    text_pair: Annotated[str | None, Field(description="column of a second text")] = None
    label: Annotated[str, Field(description="column of the class")] = "label"
    encoding: str = "utf-8"
    revision: Annotated[str | None, Field(description="hub only: branch, tag or commit")] = None
    split: SplitConfig = SplitConfig()
    max_length: Annotated[int, Field(ge=8, le=4096, description="tokens of one input")] = 128
    long_texts: Annotated[
        Literal["truncate", "chunk"], Field(description="cut what is too long, or train on every piece of it")
    ] = "truncate"
    max_train_rows: Annotated[Positive | None, Field(description="use at most so many, drawn by the seed")] = None


class FromTeacher(Strict):
    """A student with the teacher's architecture: some of its layers, its embeddings and its head."""

    architecture: Literal["teacher"] = "teacher"
    num_hidden_layers: Positive = 3
    layers: Annotated[
        tuple[int, ...] | None, Field(description="teacher layers to copy, from 0; evenly spread if left out")
    ] = None

    @model_validator(mode="after")
    def _as_many_layers(self) -> FromTeacher:
        if self.layers is not None and len(self.layers) != self.num_hidden_layers:
            raise ValueError(f"{len(self.layers)} layers are listed for num_hidden_layers={self.num_hidden_layers}")
        return self


class MobileBert(Strict):
    """A MobileBERT student (Sun et al. 2020): thin bottleneck layers, stacked feed-forwards, small embedding."""

    architecture: Literal["mobilebert"]
    num_hidden_layers: Positive = 8
    hidden_size: Positive = 256
    intra_bottleneck_size: Positive = 128
    embedding_size: Positive = 128
    intermediate_size: Positive = 256
    num_attention_heads: Positive = 4
    num_feedforward_networks: Positive = 2
    normalization_type: Literal["no_norm", "layer_norm"] = "no_norm"

    @model_validator(mode="after")
    def _heads_divide(self) -> MobileBert:
        if self.intra_bottleneck_size % self.num_attention_heads:
            raise ValueError(
                f"intra_bottleneck_size {self.intra_bottleneck_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )
        return self


Student = Annotated[FromTeacher | MobileBert, Field(discriminator="architecture")]


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


class LossConfig(Strict):
    """Weights of the distillation loss; see edgetf.algorithms.distillation for the formulas."""

    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0
    logits: Weight = 0.7
    labels: Weight = 0.3
    relations: Annotated[Weight, Field(description="MiniLMv2 query, key and value relations")] = 0.0
    relation_heads: Positive = 12
    relation_layer: Annotated[int, Field(description="teacher layer, from 0; negative counts from the end")] = -1

    @model_validator(mode="after")
    def _something_to_learn(self) -> LossConfig:
        if self.logits + self.labels + self.relations == 0:
            raise ValueError("logits, labels and relations all weigh 0; give one of them a weight")
        return self


class FinetuneConfig(TrainingConfig):
    """Give a teacher without a head one, by training on the labels."""

    stage: Literal["finetune"] = "finetune"


class DistillConfig(TrainingConfig, LossConfig):
    """Train the student on what the teacher says."""

    stage: Literal["distill"] = "distill"


class PruneConfig(TrainingConfig, LossConfig):
    """Remove feed-forward neurons and attention heads, then recover with the distillation loss."""

    stage: Literal["prune"] = "prune"
    ffn_ratio: Annotated[float, Field(ge=0, lt=1, description="share of the neurons removed")] = 0.5
    head_ratio: Annotated[float, Field(ge=0, lt=1, description="share of the heads removed")] = 0.0
    round_to: Annotated[Positive, Field(description="kept neurons are a multiple of this")] = 64
    importance: Literal["taylor", "magnitude"] = "taylor"
    importance_rows: Positive = 256


class ExportConfig(Strict):
    """Write the student in the formats that devices run."""

    stage: Literal["export"] = "export"
    formats: Annotated[tuple[Format, ...], AfterValidator(_once), Field(min_length=1)] = ("onnx", "tflite")
    opset: Annotated[int, Field(ge=18, le=23)] = 20
    seq_lens: Annotated[
        tuple[Positive, ...], Field(description="TFLite only: fixed lengths, one signature each; none: max_length")
    ] = ()


class QuantizeConfig(Strict):
    """Quantize the exported files."""

    stage: Literal["quantize"] = "quantize"
    schemes: Annotated[tuple[Scheme, ...], Field(min_length=1)] = ("w8a8_dynamic",)


Stage = Annotated[
    FinetuneConfig | DistillConfig | PruneConfig | ExportConfig | QuantizeConfig, Field(discriminator="stage")
]
STAGE_ORDER = ("finetune", "distill", "prune", "export", "quantize")


class ValidateConfig(Strict):
    """How the finished variants are measured."""

    devices: Annotated[tuple[str, ...], Field(min_length=1)] = ("host",)
    threads: Positive = 1
    samples: Annotated[int, Field(ge=30, description="latency samples of each model")] = 60
    seq_len: Annotated[Positive | None, Field(description="tokens of the timed input; none: max_length")] = None


class Recipe(Strict):
    """A whole job, from a teacher to validated variants."""

    name: str
    description: str = ""
    task: Literal["sequence_classification"] = "sequence_classification"
    seed: int = 0
    teacher: TeacherConfig
    data: DataConfig
    student: Student = FromTeacher()
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    budget: dict[str, float] = Field(default_factory=dict)
    validation: ValidateConfig = ValidateConfig()

    @model_validator(mode="before")
    @classmethod
    def _student_is_like_its_teacher(cls, tree: Any) -> Any:
        student = tree.get("student") if isinstance(tree, dict) else None
        if isinstance(student, dict) and "architecture" not in student:
            return {**tree, "student": {"architecture": "teacher", **student}}
        return tree

    @model_validator(mode="after")
    def _stages_chain(self) -> Recipe:
        names = [stage.stage for stage in self.stages]
        wanted = [name for name in STAGE_ORDER if name in names]
        if names != wanted:
            raise ValueError(f"stages: got the order {', '.join(names)}, allowed: {', '.join(wanted)}, each once")
        if "export" not in names:
            raise ValueError("stages: there is no export stage, so nothing would run on a device; add one")
        return self

    @model_validator(mode="after")
    def _budget_is_known(self) -> Recipe:
        problems = budget_problems(self.budget, "budget.")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def variants(self) -> list[tuple[Format, Scheme]]:
        """Every format × scheme that this recipe ends in."""
        formats: tuple[Format, ...] = ()
        schemes: list[Scheme] = ["fp32"]
        for stage in self.stages:
            if isinstance(stage, ExportConfig):
                formats = stage.formats
            elif isinstance(stage, QuantizeConfig):
                schemes += [scheme for scheme in stage.schemes if scheme not in schemes]
        return [(model_format, scheme) for model_format in formats for scheme in schemes]
