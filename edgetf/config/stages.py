"""The stages of a recipe: one frozen config each, told apart by `stage`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from edgetf.config.fields import Positive, once
from edgetf.config.quantization import QuantizeConfig
from edgetf.config.training import LossConfig, TrainingConfig
from edgetf.core.schemes import Format
from edgetf.core.strict import Strict


class FinetuneConfig(TrainingConfig):
    """Give a teacher without a head one, by training on the labels."""

    stage: Literal["finetune"] = "finetune"
    ensemble: Annotated[
        int, Field(ge=1, le=16, description="teachers, each with a seed of its own; students learn from their mean")
    ] = 1


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


def _one_or_several(value: object) -> str:
    return "several" if isinstance(value, list | tuple) else "one"


Share = Annotated[float, Field(gt=0, le=1)]
Times = Annotated[float, Field(ge=1, allow_inf_nan=False)]
Shares = Annotated[
    Annotated[Share, Tag("one")] | Annotated[tuple[Share, ...], Tag("several"), Field(min_length=1)],
    Discriminator(_one_or_several),
]
Speedups = Annotated[
    Annotated[Times, Tag("one")] | Annotated[tuple[Times, ...], Tag("several"), Field(min_length=1)],
    Discriminator(_one_or_several),
]


class PruneTarget(Strict):
    """What the pruned model may cost, one of them, of the model before pruning; several make a family."""

    params: Annotated[Shares | None, Field(description="share of the encoder layers' weights")] = None
    macs: Annotated[Shares | None, Field(description="share of the multiply-accumulates")] = None
    speedup: Annotated[Speedups | None, Field(description="times as fast, by a table measured here")] = None

    @property
    def unit(self) -> Literal["params", "macs", "speedup"]:
        """What is asked for."""
        return "params" if self.params is not None else "macs" if self.macs is not None else "speedup"

    @property
    def values(self) -> tuple[float, ...]:
        """What it shall be, once for every member of the family."""
        given: float | tuple[float, ...] = getattr(self, self.unit)
        return given if isinstance(given, tuple) else (given,)

    @property
    def left(self) -> float:
        """The share of the cost that is left, of the first member where there are several."""
        return 1 / self.values[0] if self.unit == "speedup" else self.values[0]

    def each(self) -> dict[str, PruneTarget]:
        """The target of every member by the member's name, the largest model first.

        >>> list(PruneTarget(speedup=[2, 3.5]).each()), list(PruneTarget(macs=0.5).each())
        (['2x', '3.5x'], ['0.5macs'])
        """
        suffix = "x" if self.unit == "speedup" else self.unit
        return {f"{value:g}{suffix}": PruneTarget.model_validate({self.unit: value}) for value in self.values}

    @model_validator(mode="after")
    def _one(self) -> PruneTarget:
        if sum(value is not None for value in (self.params, self.macs, self.speedup)) != 1:
            raise ValueError("give one of params, macs, speedup")
        return self

    @model_validator(mode="after")
    def _from_large_to_small(self) -> PruneTarget:
        falling = sorted(set(self.values), reverse=self.unit != "speedup")
        if list(self.values) != falling or len({f"{value:g}" for value in falling}) < len(falling):
            raise ValueError(
                "each model is made from the one before it: give speedups that rise, or shares that fall, "
                "in six digits or less"
            )
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

    def members(self) -> dict[str | None, PruneConfig]:
        """The pruning of every member of a family by its name, the largest model first; None: the only one."""
        if self.target is None or len(self.target.values) == 1:
            first = self.target and next(iter(self.target.each().values()))
            return {None: self.model_copy(update={"target": first})}
        return {name: self.model_copy(update={"target": target}) for name, target in self.target.each().items()}

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


def named(name: str, member: str | None) -> str:
    """What belongs to a member of a family, told apart from the same of the others.

    >>> named("onnx-fp32", "2x"), named("onnx-fp32", None)
    ('2x-onnx-fp32', 'onnx-fp32')
    """
    return name if member is None else f"{member}-{name}"


Stage = Annotated[
    FinetuneConfig | VocabularyConfig | DistillConfig | PruneConfig | ExportConfig | QuantizeConfig,
    Field(discriminator="stage"),
]
STAGE_ORDER: tuple[str, ...] = ("finetune", "vocabulary", "distill", "prune", "export", "quantize")


def stage_name(stage: Stage) -> str:
    """What a stage is called: its kind, or the name that tells it from another of its kind."""
    return stage.name if isinstance(stage, DistillConfig) else stage.stage
