"""The stages of a recipe: one frozen config each, told apart by `stage`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from edgetf.config.fields import Positive, once
from edgetf.config.training import LossConfig, TrainingConfig
from edgetf.core.device import Format, Scheme, Strict


class FinetuneConfig(TrainingConfig):
    """Give a teacher without a head one, by training on the labels."""

    stage: Literal["finetune"] = "finetune"


class VocabularyConfig(Strict):
    """Remove word pieces that the texts hardly use, and the positions that no input reaches; no training."""

    stage: Literal["vocabulary"] = "vocabulary"
    size: Annotated[Positive | None, Field(description="word pieces that stay; none: all that the texts use")] = None
    embedding_size: Annotated[
        Positive | None, Field(description="low-rank word embedding of this width; none: as wide as it was")
    ] = None
    positions: Annotated[bool, Field(description="cut the position embedding to data.max_length")] = True


class DistillConfig(TrainingConfig, LossConfig):
    """Train the student on what the teacher says."""

    stage: Literal["distill"] = "distill"
    name: Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$", description="tells two distill stages apart")] = "distill"


class PruneTarget(Strict):
    """What the pruned model may cost, one of them; shares are of the model before pruning."""

    params: Annotated[float | None, Field(gt=0, le=1, description="share of the encoder layers' weights")] = None
    macs: Annotated[float | None, Field(gt=0, le=1, description="share of the multiply-accumulates")] = None
    speedup: Annotated[float | None, Field(ge=1, description="times as fast, by a table measured here")] = None

    @model_validator(mode="after")
    def _one(self) -> PruneTarget:
        if sum(value is not None for value in (self.params, self.macs, self.speedup)) != 1:
            raise ValueError("give one of params, macs, speedup")
        return self


class PruneConfig(TrainingConfig, LossConfig):
    """Remove feed-forward neurons, attention heads and hidden width, then recover with the distillation loss."""

    stage: Literal["prune"] = "prune"
    epochs: Annotated[float, Field(ge=0, le=1000, description="0: no training")] = 3
    ffn_ratio: Annotated[float, Field(ge=0, lt=1, description="share of the neurons removed")] = 0.5
    head_ratio: Annotated[float, Field(ge=0, lt=1, description="share of the heads removed")] = 0.0
    hidden_ratio: Annotated[float, Field(ge=0, lt=1, description="share of the hidden width removed")] = 0.0
    round_to: Annotated[Positive, Field(description="kept neurons are a multiple of this")] = 64
    importance: Literal["random", "magnitude", "taylor", "fisher"] = "taylor"
    importance_rows: Positive = 256
    target: Annotated[
        PruneTarget | None,
        Field(description="search the shape of every layer that keeps to it, in place of the ratios"),
    ] = None
    rearrange: Annotated[bool, Field(description="swap units whose gradients repeat one another")] = False
    reconstruct: Annotated[
        bool, Field(description="least squares: what stays makes up for what goes, before any training")
    ] = False
    reconstruct_by: Annotated[
        Literal["weights", "factors"],
        Field(description="`reconstruct` only: solve output projections anew, or one factor for each unit that stays"),
    ] = "weights"
    rounds: Annotated[Positive, Field(description="prune so many times, and train in between")] = 1
    schedule: Annotated[
        Literal["linear", "cubic"],
        Field(description="`rounds` only: equal steps, or large ones first and small ones last"),
    ] = "linear"

    @model_validator(mode="after")
    def _search_or_ratio(self) -> PruneConfig:
        if self.target is not None and self.hidden_ratio:
            raise ValueError("target: the search shapes heads and neurons only; set hidden_ratio=0")
        return self

    @model_validator(mode="after")
    def _whole_hidden_state(self) -> PruneConfig:
        if self.reconstruct and self.hidden_ratio:
            raise ValueError("reconstruct needs the whole hidden state to compare with; set hidden_ratio=0")
        return self


class ExportConfig(Strict):
    """Write the student in the formats that devices run."""

    stage: Literal["export"] = "export"
    formats: Annotated[tuple[Format, ...], AfterValidator(once), Field(min_length=1)] = ("onnx", "tflite")
    opset: Annotated[int, Field(ge=18, le=23)] = 20
    seq_lens: Annotated[
        tuple[Positive, ...], Field(description="TFLite only: fixed lengths, one signature each; none: max_length")
    ] = ()
    rewrite: Annotated[
        bool,
        Field(description="exact rewrites for speed: the last layer on the first token alone, norms kept apart (ONNX)"),
    ] = True


class QuantizeConfig(Strict):
    """Quantize the exported files."""

    stage: Literal["quantize"] = "quantize"
    schemes: Annotated[tuple[Scheme, ...], Field(min_length=1)] = ("w8a8_dynamic",)


Stage = Annotated[
    FinetuneConfig | VocabularyConfig | DistillConfig | PruneConfig | ExportConfig | QuantizeConfig,
    Field(discriminator="stage"),
]
STAGE_ORDER: tuple[str, ...] = ("finetune", "vocabulary", "distill", "prune", "export", "quantize")


def stage_name(stage: Stage) -> str:
    """What a stage is called: its kind, or the name that tells it from another of its kind."""
    return stage.name if isinstance(stage, DistillConfig) else stage.stage
