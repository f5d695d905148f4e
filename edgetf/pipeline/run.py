"""Run a plan: the torch stages in a line, then the fan-out into variants, each validated on each device.

A prune stage with several targets makes a family: from there on each member has a line of its own, and what is made for
one is made for all. Every torch checkpoint is also exported as fp32 ONNX, because a stage's accuracy and speed are
worth what the runtime measures on the file, not what the torch graph promises.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from typing_extensions import assert_never

from edgetf.config.quantization import QuantizeConfig
from edgetf.config.recipe import AUTO
from edgetf.config.stages import (
    DistillConfig,
    ExportConfig,
    FinetuneConfig,
    PruneConfig,
    VocabularyConfig,
    named,
    stage_name,
)
from edgetf.core.artifact import Artifact, load
from edgetf.core.files import read_json, write_json
from edgetf.core.made import made_with
from edgetf.core.schemes import Format
from edgetf.pipeline.deliver import read_rows
from edgetf.pipeline.ladder import Ladder
from edgetf.pipeline.plan import Plan
from edgetf.pipeline.store import Made, Store, run_lock
from edgetf.pipeline.trials import Trials
from edgetf.pipeline.workshop import TORCH, TorchStage, Workshop
from edgetf.report.document import StageResult, VariantResult, document
from edgetf.report.progress import Reporter

REPORT = "report.json"


@dataclass
class StageRecord:
    """One row of the report's stages: the artifacts of a stage, and the ONNX file its numbers were taken on."""

    name: str
    member: str | None
    made: list[Made] = field(default_factory=list)
    measured: Artifact | None = None

    def result(self) -> StageResult:
        """The row as the report takes it."""
        artifacts, cached = [made.artifact for made in self.made], all(made.cached for made in self.made)
        return StageResult(self.name, artifacts, cached, self.measured, self.member)


@dataclass
class Line:
    """A model on its way through the stages; every member of a family has its own."""

    source: Artifact
    member: str | None = None
    record: StageRecord | None = None  # of the stage that made the source
    exports: dict[Format, Artifact] = field(default_factory=dict)

    @property
    def made_by(self) -> str:
        """The kind of the stage that made the source."""
        return self.source.manifest.stage


@dataclass
class Run:
    """What a run has made so far."""

    reference: Artifact | None = None
    stages: list[StageRecord] = field(default_factory=list)
    variants: list[VariantResult] = field(default_factory=list)
    ladders: list[dict[str, Any]] = field(default_factory=list)


def execute(plan: Plan, out: Path, fresh: bool, reporter: Reporter) -> dict[str, Any]:
    """Do the whole plan in `out` and write `report.json`; gives the report.

    Raises:
        EdgetfError: of the kind that the failing stage raises; what was finished stays and is reused.
    """
    describe = partial(document, plan.recipe)
    return executed(out, fresh, lambda store: _Executor(plan, store, reporter).go(), describe)


def executed(
    out: Path, fresh: bool, go: Callable[[Store], Run], describe: Callable[..., dict[str, Any]]
) -> dict[str, Any]:
    """Let `go` fill the run's store while nobody else writes there; gives the report, which `describe` makes of it."""
    started = time.monotonic()
    with run_lock(out):
        run = go(Store(out, fresh))
        record = describe(
            run=out,
            seconds=time.monotonic() - started,
            made=made_with(*TORCH, "onnx", "onnxruntime", "litert-torch", "ai-edge-litert", "ai-edge-quantizer"),
            reference=run.reference,
            stages=[stage.result() for stage in run.stages],
            variants=run.variants,
            ladders=run.ladders,
        )
        write_json(out / REPORT, record)
    return record


class _Executor:
    """Walks through the stages of one plan."""

    def __init__(self, plan: Plan, store: Store, reporter: Reporter) -> None:
        self.plan, self.shop = plan, Workshop(plan, store, reporter)
        self.run = Run()
        self.number = 0

    def go(self) -> Run:
        stages = self.plan.recipe.stages
        line = Line(self.shop.teacher())
        if not any(isinstance(stage, FinetuneConfig) for stage in stages):
            self._becomes_teacher(line)
        lines = [line]
        for self.number, stage in enumerate(stages, start=1):
            match stage:
                case FinetuneConfig() | VocabularyConfig() | DistillConfig():
                    self._train(stage, line)
                case PruneConfig():
                    lines = self._prune(stage, line)
                case ExportConfig():
                    for one in lines:
                        self._export(stage, one)
                case QuantizeConfig():
                    for one in lines:
                        self._quantize(stage, one)
                case _:
                    assert_never(stage)
        return self.run

    def _record(self, stage: str, member: str | None) -> StageRecord:
        """A new row of the report."""
        record = StageRecord(stage if member is None else f"{stage}-{member}", member)
        self.run.stages.append(record)
        return record

    def _train(self, stage: TorchStage, line: Line, dense: Artifact | None = None) -> None:
        """Let a torch stage take the line's model further; what it took is measured first, unless it was already."""
        self._measure(line)
        record, source = self._record(stage_name(stage), line.member), line.source
        made = self.shop.checkpoint(f"{self.number}-{record.name}", stage, source, dense)
        record.made.append(made)
        line.source, line.record = made.artifact, record
        if isinstance(stage, FinetuneConfig):
            self._becomes_teacher(line)
            record.made += self.shop.ensemble(self.number, stage, source)
        elif isinstance(stage, VocabularyConfig):
            self.shop.context = self.shop.context.with_tutor(line.source)

    def _prune(self, stage: PruneConfig, line: Line) -> list[Line]:
        """A line for each member of the family, each pruned from the member before it."""
        self._measure(line)
        dense = line.source
        lines: list[Line] = []
        for member, config in stage.members().items():
            source = lines[-1].source if lines else dense
            lines.append(Line(source, member))
            self._train(config, lines[-1], None if source is dense else dense)
        return lines

    def _becomes_teacher(self, line: Line) -> None:
        """Later stages learn from this checkpoint, and every variant is compared with its fp32 ONNX file."""
        self.run.reference = self.shop.becomes_teacher(f"{self.number}-teacher-onnx", line.source)
        if line.record:
            line.record.measured = self.run.reference

    def _measure(self, line: Line) -> None:
        """Take the last stage's numbers on its fp32 ONNX file; those of the last torch stage are its variant's."""
        record = line.record
        if record is None or record.measured is not None:
            return
        exported = self.shop.export(f"{line.source.manifest.name}-onnx", line.source, "onnx")
        record.measured = self.shop.deliver(f"{record.name}-onnx-fp32", exported.artifact, ("host",), line.made_by)

    def _export(self, stage: ExportConfig, line: Line) -> None:
        record = self._record("export", line.member)
        for model_format in stage.formats:
            name = f"{self.number}-export-{named(model_format, line.member)}"
            made = self.shop.export(name, line.source, model_format)
            line.exports[model_format] = made.artifact
            self._add_variant(record, made, line, f"{model_format}-fp32")
        if line.record is not None and line.record.measured is None:
            line.record.measured = record.measured

    def _quantize(self, stage: QuantizeConfig, line: Line) -> None:
        if not stage.named_schemes and stage.accuracy_drop is None:
            return
        record = self._record("quantize", line.member)
        for model_format, exported in line.exports.items():
            for scheme in stage.named_schemes:
                variant = f"{model_format}-{scheme}"
                name = f"{self.number}-quantize-{named(variant, line.member)}"
                how = self.shop.quantization(stage, scheme, model_format)
                self._add_variant(record, self.shop.quantize(name, exported, how), line, variant)
            if stage.accuracy_drop is not None:
                self._climb(stage, stage.accuracy_drop, record, model_format, line)

    def _climb(self, stage: QuantizeConfig, most: float, record: StageRecord, model_format: Format, line: Line) -> None:
        """Let the ladder find a scheme, and put down what it chose as the variant `auto`."""
        exported = line.exports[model_format]
        climb = Ladder(most, Trials(self.shop, stage, self.number, line.member, line.source, exported)).go()
        self.shop.reporter.say(climb.said())
        self._add_variant(record, climb.chosen.made, line, f"{model_format}-{AUTO}")
        self.run.ladders.append({"member": line.member, **climb.to_json()})

    def _add_variant(self, record: StageRecord, made: Made, line: Line, variant: str) -> None:
        """Measure a file that ships, and put it down."""
        devices = self.plan.recipe.validation.devices
        delivered = self.shop.deliver(named(variant, line.member), made.artifact, devices, line.made_by)
        record.made.append(made)
        record.measured = record.measured or delivered
        self.run.variants.append(VariantResult(delivered, read_rows(delivered), line.member, line.made_by))


def open_run(folder: Path) -> dict[str, Any]:
    """The report of a finished run.

    Raises:
        ArtifactError: there is none.
    """
    record: dict[str, Any] = read_json(folder / REPORT)
    return record


def artifacts_in(folder: Path) -> list[Artifact]:
    """Every sealed artifact of a run, by name."""
    return [load(path.parent) for path in sorted(folder.glob("*/manifest.json")) if path.parent.suffix != ".partial"]
