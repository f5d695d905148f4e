"""What a ladder makes and measures, each an artifact of the run: changed checkpoints, files, and notes on them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgetf.config.quantization import QatConfig, QuantizeConfig
from edgetf.config.stages import named
from edgetf.core.artifact import Artifact, Spec
from edgetf.core.errors import needs
from edgetf.core.files import read_json, write_json
from edgetf.core.made import machine
from edgetf.core.quiet import quiet
from edgetf.core.schemes import CalibrationMethod, Format, Scheme
from edgetf.formats.quantization import Quantization
from edgetf.pipeline.settings import quantization
from edgetf.pipeline.store import Made
from edgetf.pipeline.workshop import QUANTIZE, RUNTIMES, Workshop
from edgetf.tasks import task_of
from edgetf.validation.evaluation import EVALUATION, Evaluation, read_evaluation, write_evaluation
from edgetf.validation.golden import deployable_model, runtime_logits
from edgetf.validation.rungs import Rung, measure, unquantized

NOTE = "note.json"


class Trials:
    """Makes what one ladder asks for, of one member's checkpoint, the `source`, and its exported fp32 file.

    `number` is that of the quantize stage.
    """

    def __init__(
        self, shop: Workshop, stage: QuantizeConfig, number: int, member: str | None, source: Artifact,
        exported: Artifact,
    ) -> None:  # fmt: skip
        self.shop, self.stage, self.number, self.member = shop, stage, number, member
        self.source, self.exported = source, exported
        self.model_format: Format = "onnx" if exported.spec.kind == "onnx" else "tflite"

    def quantization(self, scheme: Scheme, method: CalibrationMethod | None) -> Quantization:
        """A scheme as the stage and the devices of the recipe want it."""
        return quantization(self.stage, scheme, self.model_format, self.shop.devices, method)

    def refusal(self, how: Quantization) -> str | None:
        """Why a device of the recipe would not run a file in this scheme, or None."""
        reasons = (d.refuses(self.model_format, how.scheme, how.granularity) for d in self.shop.devices)
        return next((reason for reason in reasons if reason is not None), None)

    def plain(self, checkpoint: Artifact) -> Artifact:
        """The fp32 file of a checkpoint; that of the source is there already."""
        if checkpoint is self.source:
            return self.exported
        name = f"{checkpoint.manifest.name}-{self.model_format}"
        return self.shop.export(name, checkpoint, self.model_format).artifact

    def smoothed(self, checkpoint: Artifact, alpha: float) -> Artifact:
        """The checkpoint with its outliers moved from activations into weights."""
        rows = self.stage.calibration.rows

        def write(out: Path) -> tuple[Spec, float]:
            with needs("compress"), quiet():
                from edgetf.stages import smooth

            return smooth.run(checkpoint, self.shop.context, out, alpha, rows)

        config = {"alpha": alpha, "rows": rows, "data": self.shop.plan.data.fingerprint}
        return self.shop.torch_artifact(self._named("smooth", with_format=False), "smooth", config, [checkpoint], write)

    def trained(self, checkpoint: Artifact, config: QatConfig) -> Artifact:
        """The checkpoint after some training with rounded weights and activations."""
        return self.shop.quantization_aware(self._named("qat", with_format=False), config, checkpoint)

    def quantized(self, name: str, plain: Artifact, how: Quantization) -> Made:
        """A file in a scheme."""
        return self.shop.quantize(self._named(name), plain, how)

    def measured(self, name: str, quantized: Artifact, plain: Artifact) -> Rung:
        """What the runtime says of a file beside the fp32 one."""
        settings = self.shop.settings()
        config = {"settings": vars(settings), "machine": machine()}
        rows = self._dev_rows(plain)

        def note() -> dict[str, Any]:
            return asdict(measure(name, quantized, plain, rows, settings))

        record = self._note(f"{name}-measured", config, [quantized, plain], RUNTIMES, note)
        return Rung(**{**record, "name": name, "latency_ratio_ci95": tuple(record["latency_ratio_ci95"])})

    def unquantized(self, plain: Artifact) -> Rung:
        """The fp32 file, which the others are held against."""
        return unquantized(plain, self._dev_rows(plain))

    def sensitivities(self, plain: Artifact, how: Quantization) -> dict[str, tuple[str, ...]]:
        """The groups of weights, the most sensitive to a scheme first."""
        with needs("compress"), quiet():
            from edgetf.formats.quantize import summarize_file
            from edgetf.stages.sensitivity import groups_of, sensitivities
        groups = groups_of(summarize_file(self.model_format, plain.model_path).weighted)

        def note() -> dict[str, Any]:
            feeds = self.shop.feeds(plain, how.scheme)
            update = self.shop.reporter.update
            return sensitivities(self.model_format, plain, how, groups, feeds, lambda k, n: update(k, n, "sensitivity"))

        config = {"how": how.record(), "calibration": self.shop.calibration_key(how.scheme)}
        found = self._note("sensitivity", config, [plain], QUANTIZE[self.model_format], note)
        return {label: groups[label] for label in sorted(groups, key=lambda label: -found[label])}

    def _dev_rows(self, plain: Artifact) -> Evaluation:
        """The dev rows with the fp32 file's answers to them."""
        plan, settings = self.shop.plan, self.shop.settings()
        task, names = plan.recipe.task, tuple(plan.data.label_names)

        def write(out: Path) -> tuple[Spec, float]:
            started, dev = time.monotonic(), plan.data.dev
            answer = runtime_logits(deployable_model(plain), dev.texts, dev.pairs, settings.threads)
            labels = task_of(task).labels(dev.labels if task_of(task).labelled else [])
            write_evaluation(out, Evaluation(dev.texts, dev.pairs, labels, np.asarray(answer["logits"]), task, names))
            return Spec("answers", EVALUATION, details={"task": task}), time.monotonic() - started

        config = {"data": plan.data.fingerprint}
        made = self.shop.make(f"{plain.manifest.name}-dev", "answers", config, [plain], RUNTIMES, write)
        return read_evaluation(made.artifact.path, task, names)

    def _note(
        self,
        name: str,
        config: Any,
        parents: list[Artifact],
        packages: tuple[str, ...],
        note: Callable[[], dict[str, Any]],
    ) -> dict[str, Any]:  # fmt: skip
        """A small record, kept as an artifact."""

        def write(out: Path) -> tuple[Spec, float]:
            started = time.monotonic()
            write_json(out / NOTE, note())
            return Spec("note", NOTE), time.monotonic() - started

        made = self.shop.make(self._named(name), "note", config, parents, packages, write)
        record: dict[str, Any] = read_json(made.artifact.path / NOTE)
        return record

    def _named(self, name: str, with_format: bool = True) -> str:
        variant = f"{self.model_format}-{name}" if with_format else name
        return f"{self.number}-ladder-{named(variant, self.member)}"
