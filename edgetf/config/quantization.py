"""How the exported files are quantized: named schemes, or an accuracy that may be lost and a ladder that finds one."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from edgetf.config.fields import Positive, once
from edgetf.config.training import LossConfig, TrainingConfig
from edgetf.core.schemes import MEANINGS, CalibrationMethod, Granularity, Scheme, Signedness, Writer
from edgetf.core.strict import Strict

Rung = Literal["dynamic", "static", "smooth", "sensitive", "qat"]
NNCF_SCHEMES: tuple[Scheme, ...] = ("w8a8", "w8")
RUNGS: tuple[Rung, ...] = get_args(Rung)


class CalibrationConfig(Strict):
    """The rows by which static schemes learn what activations range over; never rows that evaluate."""

    rows: Annotated[Positive, Field(description="drawn from all classes and lengths alike")] = 128
    method: Annotated[CalibrationMethod, Field(description="of all that was seen, what the 8 bits cover")] = "min_max"
    source: Annotated[
        str | None, Field(description="texts, as `data.source`; labels are not needed; none: the training rows")
    ] = None


class QatConfig(TrainingConfig, LossConfig):
    """The ladder's training with rounded weights and activations, from the teacher's answers."""

    epochs: Annotated[float, Field(gt=0, le=1000)] = 1
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 5e-5


class QuantizeConfig(Strict):
    """Quantize the exported files."""

    stage: Literal["quantize"] = "quantize"
    schemes: Annotated[
        tuple[Scheme, ...] | None,
        Field(min_length=1, description="none: w8a8_dynamic, or only what accuracy_drop finds"),
    ] = None
    accuracy_drop: Annotated[
        float | None,
        Field(ge=0, lt=1, description="of the task's metric, against the fp32 file; finds the fastest that keeps it"),
    ] = None
    granularity: Annotated[
        Literal[Granularity, "auto"], Field(description="auto: per_channel, unless a device's runtime is wrong then")
    ] = "auto"
    activations: Annotated[
        Literal[Signedness, "auto"], Field(description="of 8 bits; auto: what the first device is fast with")
    ] = "auto"
    writer: Annotated[Writer, Field(description="that writes ONNX files; nncf: w8a8 and w8")] = "onnxruntime"
    keep_float: Annotated[
        tuple[str, ...], Field(description="patterns of modules that stay in float, such as *.layer.0.*")
    ] = ()
    calibration: CalibrationConfig = CalibrationConfig()
    rungs: Annotated[
        tuple[Rung, ...], AfterValidator(once), Field(min_length=1, description="what the ladder may try, in order")
    ] = RUNGS
    qat: QatConfig = QatConfig()

    @property
    def named_schemes(self) -> tuple[Scheme, ...]:
        """The schemes that are written whatever the ladder finds, without fp32, whose files are there already."""
        found = self.schemes or (() if self.accuracy_drop is not None else ("w8a8_dynamic",))
        return tuple(dict.fromkeys(scheme for scheme in found if scheme != "fp32"))

    @property
    def calibrates(self) -> bool:
        """Whether some file will need calibration rows."""
        return self.accuracy_drop is not None or any(MEANINGS[scheme].calibrated for scheme in self.named_schemes)

    @model_validator(mode="after")
    def _its_writer_writes_it(self) -> QuantizeConfig:
        strange = [scheme for scheme in self.named_schemes if self.writer == "nncf" and scheme not in NNCF_SCHEMES]
        if strange:
            raise ValueError(f"writer: nncf does not write {', '.join(strange)}; allowed: {', '.join(NNCF_SCHEMES)}")
        return self

    @model_validator(mode="after")
    def _in_order(self) -> QuantizeConfig:
        if list(self.rungs) != [rung for rung in RUNGS if rung in self.rungs]:
            raise ValueError(f"rungs: give them in the order {', '.join(RUNGS)}")
        return self
