"""Run a plan: the torch stages in a line, then the fan-out into variants, each validated on each device.

Every torch checkpoint is also exported as fp32 ONNX, because a stage's accuracy and speed are worth what the runtime
measures on the file, not what the torch graph promises.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from typing_extensions import assert_never

from edgetf.config.stages import (
    DistillConfig,
    ExportConfig,
    FinetuneConfig,
    PruneConfig,
    QuantizeConfig,
    VocabularyConfig,
    stage_name,
)
from edgetf.config.training import VECTORS_ONLY
from edgetf.core.artifact import Artifact, Spec, load
from edgetf.core.device import Format, load_device
from edgetf.core.errors import needs
from edgetf.core.files import file_sha256, read_json, write_json
from edgetf.core.made import machine, made_with
from edgetf.core.quiet import quiet
from edgetf.core.task_names import CLASSIFICATION
from edgetf.models.checkpoint import WEIGHTS, copy_checkpoint, locate_teacher, read_config
from edgetf.pipeline.deliver import deliver_reference, deliver_variant, read_rows
from edgetf.pipeline.plan import Plan
from edgetf.pipeline.store import Made, Store, run_lock
from edgetf.report.document import document
from edgetf.report.progress import Reporter
from edgetf.stages.context import Context
from edgetf.stages.deployment import Deployment
from edgetf.validation.validate import Settings

TORCH = ("torch", "transformers", "accelerate", "tokenizers")
EXPORT: dict[Format, tuple[str, ...]] = {
    "onnx": ("torch", "transformers", "onnx", "onnxscript", "onnxruntime"),
    "tflite": ("torch", "transformers", "litert-torch", "ai-edge-litert"),
}
QUANTIZE: dict[Format, tuple[str, ...]] = {"onnx": ("onnx", "onnxruntime"), "tflite": ("ai-edge-quantizer",)}
RUNTIMES = ("onnxruntime", "ai-edge-litert", "tokenizers", "numpy")
REPORT = "report.json"
TorchStage = FinetuneConfig | VocabularyConfig | DistillConfig | PruneConfig


@dataclass
class StageRecord:
    """One row of the report's stages: the artifacts of a stage, and the ONNX file its numbers were taken on."""

    name: str
    made: list[Made]
    measured: Artifact | None = None


@dataclass
class Run:
    """What a run has made so far."""

    reference: Artifact | None = None
    stages: list[StageRecord] = field(default_factory=list)
    variants: list[Artifact] = field(default_factory=list)


def execute(plan: Plan, out: Path, fresh: bool, reporter: Reporter) -> dict[str, Any]:
    """Do the whole plan in `out` and write `report.json`; gives the report.

    Raises:
        EdgetfError: of the kind that the failing stage raises; what was finished stays and is reused.
    """
    started = time.monotonic()
    with run_lock(out):
        run = _Executor(plan, Store(out, fresh), reporter).go()
        record = document(
            recipe=plan.recipe,
            run=out,
            seconds=time.monotonic() - started,
            made=made_with(*TORCH, "onnx", "onnxruntime", "litert-torch", "ai-edge-litert", "ai-edge-quantizer"),
            reference=run.reference,
            stages=[(stage.name, [m.artifact for m in stage.made], all(m.cached for m in stage.made), stage.measured)
                    for stage in run.stages],
            variants=[(variant, read_rows(variant)) for variant in run.variants],
        )  # fmt: skip
        write_json(out / REPORT, record)
    return record


class _Executor:
    """Walks through the stages of one plan."""

    def __init__(self, plan: Plan, store: Store, reporter: Reporter) -> None:
        self.plan, self.store, self.reporter = plan, store, reporter
        self.context = Context(plan.recipe, plan.data, reporter.update, reporter.say)
        self.run = Run()
        self.number = 0

    def go(self) -> Run:
        recipe = self.plan.recipe
        source = self._teacher()
        exports: dict[Format, Artifact] = {}
        if not any(isinstance(stage, FinetuneConfig) for stage in recipe.stages):
            self._becomes_teacher(source)
        torch_stages = [s for s in recipe.stages if isinstance(s, TorchStage)]
        for stage in recipe.stages:
            self.number += 1
            match stage:
                case FinetuneConfig() | VocabularyConfig() | DistillConfig() | PruneConfig():
                    source = self._train(stage, source)
                    if isinstance(stage, FinetuneConfig):
                        self._becomes_teacher(source)
                        continue
                    if isinstance(stage, VocabularyConfig):
                        self.context = self.context.with_tutor(source)
                    if stage is not torch_stages[-1]:
                        self._measure(self.run.stages[-1], source, f"{stage_name(stage)}-onnx-fp32")
                case ExportConfig():
                    exports = self._export(stage, source)
                case QuantizeConfig():
                    self._quantize(stage, exports)
                case _:
                    assert_never(stage)
        return self.run

    def _make(
        self, name: str, stage: str, config: Any, parents: list[Artifact], packages: tuple[str, ...],
        write: Callable[[Path], tuple[Spec, float]],
    ) -> Made:  # fmt: skip
        def shown(out: Path) -> tuple[Spec, float]:
            with self.reporter.step(name):
                return write(out)

        made = self.store.make(name, stage, config, parents, packages, shown)
        if made.cached:
            self.reporter.say(f"{name}: reused")
        return made

    def _teacher(self) -> Artifact:
        teacher = self.plan.recipe.teacher
        folder = locate_teacher(teacher.source, teacher.revision)
        config = {"source": teacher.model_dump(), "weights": file_sha256(folder / WEIGHTS), **self._input_config()}

        def write(out: Path) -> tuple[Spec, float]:
            started = time.monotonic()
            params = copy_checkpoint(folder, out)
            pad_id = int(read_config(folder).get("pad_token_id") or 0)
            details = self.context.input_details(pad_id)
            return Spec("torch", WEIGHTS, params, details=details), time.monotonic() - started

        return self._make("0-teacher", "teacher", config, [], (), write).artifact

    def _input_config(self) -> dict[str, Any]:
        """What every artifact's `details` say of the input, hence part of its key."""
        data = self.plan.recipe.data
        record: dict[str, Any] = {"max_length": data.max_length, "long_texts": data.long_texts}
        record["labels"] = self.plan.data.label_names
        task, pooling = self.plan.recipe.task, self.plan.recipe.pooling
        record |= {"pooling": pooling.model_dump()} if pooling else {}
        return record if task == CLASSIFICATION else {**record, "task": task}

    def _train(self, stage: TorchStage, source: Artifact) -> Artifact:
        recipe, data = self.plan.recipe, self.plan.data
        unread = {"checkpoint_seconds", "threads"} | (set() if recipe.pooling else VECTORS_ONLY)
        config: dict[str, Any] = {
            "stage": stage.model_dump(exclude=unread),
            "seed": recipe.seed,
            "data": data.fingerprint if isinstance(stage, FinetuneConfig) else data.transfer_fingerprint(),
        }
        parents = [source]
        first = stage is next((s for s in recipe.stages if isinstance(s, DistillConfig)), None)
        if not isinstance(stage, FinetuneConfig):
            parents += [artifact for artifact in (self.context.the_teacher(), self.context.tutor) if artifact]
            added = (recipe.data.augment, recipe.data.labeller)
            config["added"] = [None if part is None else part.model_dump() for part in added]
        if first:
            config["student"] = recipe.student.model_dump()
            weights = Path(getattr(recipe.student, "checkpoint", None) or "") / WEIGHTS
            config |= {"checkpoint": file_sha256(weights)} if weights.is_file() else {}
        deployment = self._deployment()
        if isinstance(stage, PruneConfig) and stage.target:
            config["deployment"] = {**deployment.record(), "machine": machine() if stage.target.speedup else None}

        def write(out: Path) -> tuple[Spec, float]:
            with needs("compress"), quiet():  # imported here, because a reused stage needs no torch
                from edgetf.stages import distill, finetune, prune, vocabulary

            match stage:
                case FinetuneConfig():
                    return finetune.run(stage, source, self.context, out)
                case VocabularyConfig():
                    return vocabulary.run(stage, source, self.context, out)
                case DistillConfig():
                    return distill.run(stage, source, self.context, out, first)
                case PruneConfig():
                    return prune.run(stage, source, self.context, out, deployment)
                case _:
                    assert_never(stage)

        name = stage_name(stage)
        made = self._make(f"{self.number}-{name}", stage.stage, config, parents, TORCH, write)
        self.run.stages.append(StageRecord(name, [made]))
        return made.artifact

    def _deployment(self) -> Deployment:
        """What a search by latency measures: the first format in its last scheme, as it will be validated."""
        recipe, asked = self.plan.recipe, self.plan.recipe.validation
        first, _ = recipe.variants()[0]
        scheme = [scheme for model_format, scheme in recipe.variants() if model_format == first][-1]
        export = next(stage for stage in recipe.stages if isinstance(stage, ExportConfig))
        return Deployment(
            first,
            scheme,
            asked.threads,
            asked.seq_len or recipe.data.max_length,
            export.rewrite,
            self.context.head,
        )

    def _becomes_teacher(self, checkpoint: Artifact) -> None:
        """Later stages learn from this checkpoint, and every variant is compared with its fp32 ONNX file."""
        self.context = self.context.with_teacher(checkpoint)
        exported = self._export_one(checkpoint, "onnx", f"{self.number}-teacher-onnx", plain=True)
        config = {"data": self.plan.data.fingerprint, "machine": machine(), "settings": vars(self._settings())}
        write = partial(deliver_reference, exported.artifact, self.context, self._settings(), self.reporter.update)
        name = "teacher-onnx-fp32"
        reference = self._make(name, "reference", config, [exported.artifact], RUNTIMES, write).artifact
        self.run.reference = reference
        if self.run.stages:
            self.run.stages[-1].measured = reference

    def _export_one(self, source: Artifact, model_format: Format, name: str, plain: bool = False) -> Made:
        """One exported file; a `plain` one as torch writes it, which is what users have before they come here."""
        stage = next(s for s in self.plan.recipe.stages if isinstance(s, ExportConfig))
        stage = stage.model_copy(update={"rewrite": False}) if plain else stage
        config = {"stage": stage.model_dump(exclude={"formats"}), "format": model_format, **self._input_config(),
                  "dev": self.plan.data.fingerprint}  # fmt: skip

        def write(out: Path) -> tuple[Spec, float]:
            with needs("compress"), quiet():
                from edgetf.stages import export

            return export.run(stage, source, self.context, out, model_format)

        return self._make(name, "export", config, [source], EXPORT[model_format], write)

    def _measure(self, record: StageRecord, checkpoint: Artifact, name: str) -> None:
        """Take a stage's numbers on its fp32 ONNX file."""
        exported = self._export_one(checkpoint, "onnx", f"{self.number}-{record.name}-onnx")
        record.measured = self._deliver(exported.artifact, name, ("host",))

    def _deliver(self, exported: Artifact, name: str, devices: tuple[str, ...]) -> Artifact:
        reference = self.run.reference
        if reference is None:
            raise RuntimeError("there is no reference to compare with")
        profiles = [load_device(device) for device in devices]
        recipe = self.plan.recipe
        config = {
            "recipe": recipe.name,
            "devices": [profile.model_dump() for profile in profiles],
            "settings": vars(self._settings()),
            "machine": machine(),
        }
        write = partial(
            deliver_variant, exported, reference, profiles, self._settings(), recipe.name, recipe.task,
            self.reporter.update,
        )  # fmt: skip
        return self._make(name, "validate", config, [exported, reference], RUNTIMES, write).artifact

    def _settings(self) -> Settings:
        asked = self.plan.recipe.validation
        return Settings(asked.threads, asked.samples, asked.seq_len)

    def _export(self, stage: ExportConfig, source: Artifact) -> dict[Format, Artifact]:
        record = StageRecord("export", [])
        exports: dict[Format, Artifact] = {}
        for model_format in stage.formats:
            made = self._export_one(source, model_format, f"{self.number}-export-{model_format}")
            record.made.append(made)
            exports[model_format] = made.artifact
            variant = self._deliver(made.artifact, f"{model_format}-fp32", self.plan.recipe.validation.devices)
            self.run.variants.append(variant)
            record.measured = record.measured or variant
        last_torch = self.run.stages[-1] if self.run.stages else None
        if last_torch is not None and last_torch.measured is None:
            last_torch.measured = record.measured
        self.run.stages.append(record)
        return exports

    def _quantize(self, stage: QuantizeConfig, exports: dict[Format, Artifact]) -> None:
        record = StageRecord("quantize", [])
        for model_format, exported in exports.items():
            for scheme in stage.schemes:
                if scheme == "fp32":
                    continue
                name = f"{model_format}-{scheme}"

                def write(out: Path, exported: Artifact = exported, scheme: Any = scheme) -> tuple[Spec, float]:
                    with needs("compress"), quiet():
                        from edgetf.stages import quantize

                    return quantize.run(scheme, exported, self.context, out)

                packages = QUANTIZE[model_format]
                made = self._make(f"{self.number}-quantize-{name}", "quantize", scheme, [exported], packages, write)
                record.made.append(made)
                variant = self._deliver(made.artifact, name, self.plan.recipe.validation.devices)
                self.run.variants.append(variant)
                record.measured = record.measured or variant
        self.run.stages.append(record)


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
