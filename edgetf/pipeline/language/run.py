"""Run a language plan: the torch stages in a line, then the fan-out into variants, each validated on each device.

What later stages learn from is the tutor: the teacher, with the student's vocabulary where that was pruned. Its fp32
ONNX file is the reference: perplexities of one tokenizer can be compared, and those of two cannot.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from typing_extensions import assert_never

from edgetf.config.language.models import Pretrained
from edgetf.config.language.stages import (
    LanguageDistillConfig,
    LanguageExportConfig,
    LanguagePruneConfig,
    LanguageQuantizeConfig,
    LanguageVocabularyConfig,
    PretrainConfig,
)
from edgetf.core.artifact import Artifact
from edgetf.core.schemes import Format
from edgetf.pipeline.deliver import read_rows
from edgetf.pipeline.language.plan import LanguagePlan
from edgetf.pipeline.language.workshop import LanguageWorkshop, TorchStage
from edgetf.pipeline.run import Run, StageRecord, executed
from edgetf.pipeline.store import Made, Store
from edgetf.report.document import VariantResult
from edgetf.report.language_document import language_document
from edgetf.report.progress import Reporter


def execute_language(plan: LanguagePlan, out: Path, fresh: bool, reporter: Reporter) -> dict[str, Any]:
    """Do the whole plan in `out` and write `report.json`; gives the report.

    Raises:
        EdgetfError: of the kind that the failing stage raises; what was finished stays and is reused.
    """
    describe = partial(language_document, plan.recipe)
    return executed(out, fresh, lambda store: _Executor(plan, store, reporter).go(), describe)


class _Executor:
    """Walks through the stages of one plan."""

    def __init__(self, plan: LanguagePlan, store: Store, reporter: Reporter) -> None:
        self.plan, self.shop = plan, LanguageWorkshop(plan, store, reporter)
        self.run = Run()
        self.source: Artifact | None = None
        self.record: StageRecord | None = None  # of the stage that made the source
        self.exports: dict[Format, Artifact] = {}

    def go(self) -> Run:
        if isinstance(self.plan.recipe.teacher, Pretrained):
            self.source = self.shop.teacher(self.plan.recipe.teacher).artifact
            self.shop.context = self.shop.context.with_tutor(self.source)
        for number, stage in enumerate(self.plan.recipe.stages, start=1):
            match stage:
                case PretrainConfig() | LanguageVocabularyConfig() | LanguagePruneConfig() | LanguageDistillConfig():
                    self._train(number, stage)
                case LanguageExportConfig():
                    self._export(number, stage)
                case LanguageQuantizeConfig():
                    self._quantize(number, stage)
                case _:
                    assert_never(stage)
        return self.run

    def _train(self, number: int, stage: TorchStage) -> None:
        """Let a torch stage take the model further."""
        learns = isinstance(stage, LanguagePruneConfig | LanguageDistillConfig)
        if learns and self.run.reference is None and self.source is not None:
            self._becomes_reference(number)
        elif learns:
            self._measure()
        record = self._new_record(stage.stage)
        made = self.shop.checkpoint(f"{number}-{stage.stage}", stage, self.source)
        record.made.append(made)
        self.source, self.record = made.artifact, record
        if not learns:
            self.shop.context = self.shop.context.with_tutor(made.artifact)

    def _new_record(self, name: str) -> StageRecord:
        """A new row of the report."""
        record = StageRecord(name, None)
        self.run.stages.append(record)
        return record

    def _becomes_reference(self, number: int) -> None:
        """Every variant is compared with the fp32 ONNX file of the model that stages learn from."""
        self.run.reference = self.shop.becomes_reference(f"{number}-teacher-onnx", self._the_source())
        if self.record is not None:
            self.record.measured = self.run.reference

    def _measure(self) -> None:
        """Take the last stage's numbers on its fp32 ONNX file; those of the last torch stage are its variant's."""
        record, source = self.record, self.source
        if record is None or record.measured is not None or source is None:
            return
        exported = self.shop.export(f"{source.manifest.name}-onnx", source, "onnx").artifact
        record.measured = self.shop.deliver(f"{record.name}-onnx-fp32", exported, ("host",), source.manifest.stage)

    def _export(self, number: int, stage: LanguageExportConfig) -> None:
        source = self._the_source()
        if self.run.reference is None:  # nothing learned: the model, or that of an endpoint's texts, is its own measure
            self._becomes_reference(number)
        record = self._new_record("export")
        for model_format in stage.formats:
            made = self.shop.export(f"{number}-export-{model_format}", source, model_format)
            self.exports[model_format] = made.artifact
            self._add_variant(record, made, f"{model_format}-fp32")
        if self.record is not None and self.record.measured is None:
            self.record.measured = record.measured

    def _quantize(self, number: int, stage: LanguageQuantizeConfig) -> None:
        record = self._new_record("quantize")
        for model_format, exported in self.exports.items():
            for scheme in stage.schemes:
                variant = f"{model_format}-{scheme}"
                made = self.shop.quantize(f"{number}-quantize-{variant}", stage, scheme, exported)
                self._add_variant(record, made, variant)

    def _add_variant(self, record: StageRecord, made: Made, variant: str) -> None:
        """Measure a file that ships, and put it down."""
        made_by = self._the_source().manifest.stage
        delivered = self.shop.deliver(variant, made.artifact, self.plan.recipe.validation.devices, made_by)
        record.made.append(made)
        record.measured = record.measured or delivered
        self.run.variants.append(VariantResult(delivered, read_rows(delivered), None, made_by))

    def _the_source(self) -> Artifact:
        """The model that the stages have come to."""
        if self.source is None:
            raise RuntimeError("the schema lets no recipe export before there is a model")
        return self.source
