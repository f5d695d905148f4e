"""The kinds of artifacts of a run: what each is made from, hence its key, and which stage writes it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from typing_extensions import assert_never

from edgetf.config.stages import DistillConfig, ExportConfig, FinetuneConfig, PruneConfig, VocabularyConfig
from edgetf.config.training import VECTORS_ONLY
from edgetf.core.artifact import Artifact, Spec
from edgetf.core.device import load_device
from edgetf.core.errors import ConfigError, needs
from edgetf.core.files import file_sha256
from edgetf.core.made import machine
from edgetf.core.quiet import quiet
from edgetf.core.schemes import Format, Scheme
from edgetf.core.task_names import CLASSIFICATION
from edgetf.formats.quantization import Quantization
from edgetf.models.checkpoint import WEIGHTS, copy_checkpoint, locate_teacher, read_config
from edgetf.pipeline.deliver import deliver_reference, deliver_variant
from edgetf.pipeline.plan import Plan
from edgetf.pipeline.store import Made, Store
from edgetf.report.progress import Reporter
from edgetf.stages.context import Context
from edgetf.stages.deployment import Deployment
from edgetf.validation.validate import Settings

TORCH = ("torch", "transformers", "accelerate", "tokenizers")
EXPORT: dict[Format, tuple[str, ...]] = {
    "onnx": ("torch", "transformers", "onnx", "onnxscript", "onnxruntime"),
    "tflite": ("torch", "transformers", "litert-torch", "ai-edge-litert"),
}
QUANTIZE: dict[str, tuple[str, ...]] = {"onnx": ("onnx", "onnxruntime"), "tflite": ("ai-edge-quantizer",)}
RUNTIMES = ("onnxruntime", "ai-edge-litert", "tokenizers", "numpy")
TorchStage = FinetuneConfig | VocabularyConfig | DistillConfig | PruneConfig


class Workshop:
    """Makes the artifacts of one plan, or finds them in the store; knows the task's teacher once there is one."""

    def __init__(self, plan: Plan, store: Store, reporter: Reporter) -> None:
        self.plan, self.store, self.reporter = plan, store, reporter
        self.context = Context(plan.recipe, plan.data, reporter.update, reporter.say)
        self.reference: Artifact | None = None

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

    def teacher(self, refusal: str | None = None) -> Artifact:
        """The recipe's teacher, as a checkpoint of the run; a `refusal` says why it must be there already.

        Raises:
            ConfigError: it is not.
        """
        teacher = self.plan.recipe.teacher
        folder = locate_teacher(teacher.source, teacher.revision)
        config = {"source": teacher.model_dump(), "weights": file_sha256(folder / WEIGHTS), **self._input_config()}

        def write(out: Path) -> tuple[Spec, float]:
            if refusal:
                raise ConfigError(refusal)
            started = time.monotonic()
            params = copy_checkpoint(folder, out)
            pad_id = int(read_config(folder).get("pad_token_id") or 0)
            details = self.context.input_details(pad_id)
            return Spec("torch", WEIGHTS, params, details=details), time.monotonic() - started

        return self._make("0-teacher", "teacher", config, [], (), write).artifact

    def _input_config(self) -> dict[str, Any]:
        """What every artifact's `details` say of the input, hence part of its key."""
        recipe, data = self.plan.recipe, self.plan.recipe.data
        record: dict[str, Any] = {"max_length": data.max_length, "long_texts": data.long_texts}
        record["labels"] = self.plan.data.label_names
        record |= {"pooling": recipe.pooling.model_dump()} if recipe.pooling else {}
        return record if recipe.task == CLASSIFICATION else {**record, "task": recipe.task}

    def ensemble(self, number: int, stage: FinetuneConfig, source: Artifact, refusal: str | None = None) -> list[Made]:
        """The teachers beside the first, each fine-tuned with the next seed; later stages learn from all of them.

        Raises:
            ConfigError: a `refusal` says why they must be there already, and one is not.
        """
        made = [
            self.checkpoint(f"{number}-finetune-{k}", stage, source, refusal=refusal, seed=self.plan.recipe.seed + k)
            for k in range(1, stage.ensemble)
        ]
        self.context = self.context.with_ensemble([each.artifact for each in made])
        return made

    def checkpoint(
        self, name: str, stage: TorchStage, source: Artifact, dense: Artifact | None = None,
        refusal: str | None = None, seed: int | None = None,
    ) -> Made:  # fmt: skip
        """What a torch stage makes of `source`; a later member of a family is held against the `dense` model.

        `seed` is the recipe's, if not given.

        Raises:
            ConfigError: a `refusal` says why it must be there already, and it is not.
        """
        first = stage is next((s for s in self.plan.recipe.stages if isinstance(s, DistillConfig)), None)
        deployment = self._deployment()
        context = self.context if seed is None else self.context.with_seed(seed)
        config = {**self._stage_config(stage, first), "seed": context.recipe.seed}
        if isinstance(stage, PruneConfig) and stage.target:
            by_time = stage.target.unit == "speedup"
            config["deployment"] = {**deployment.record(), "machine": machine() if by_time else None}
        parents = [source, *([dense] if dense else [])]
        if not isinstance(stage, FinetuneConfig):
            parents += [artifact for artifact in (context.the_teacher(), context.tutor) if artifact]
            parents += context.ensemble

        def write(out: Path) -> tuple[Spec, float]:
            if refusal:
                raise ConfigError(refusal)
            with needs("compress"), quiet():  # imported here, because a reused stage needs no torch
                from edgetf.stages import distill, finetune, prune, vocabulary

            match stage:
                case FinetuneConfig():
                    return finetune.run(stage, source, context, out)
                case VocabularyConfig():
                    return vocabulary.run(stage, source, context, out)
                case DistillConfig():
                    return distill.run(stage, source, context, out, first)
                case PruneConfig():
                    return prune.run(stage, source, context, out, deployment, dense)
                case _:
                    assert_never(stage)

        return self._make(name, stage.stage, config, parents, TORCH, write)

    def _stage_config(self, stage: TorchStage, first: bool) -> dict[str, Any]:
        """What beside its parents a torch stage's result rests on; the `first` distill stage builds the student."""
        recipe, data = self.plan.recipe, self.plan.data
        unread = {"checkpoint_seconds", "threads", "ensemble"} | (set() if recipe.pooling else VECTORS_ONLY)
        config: dict[str, Any] = {
            "stage": stage.model_dump(exclude=unread),
            "data": data.fingerprint if isinstance(stage, FinetuneConfig) else data.transfer_fingerprint(),
        }
        if not isinstance(stage, FinetuneConfig):
            added = (recipe.data.augment, recipe.data.labeller)
            config["added"] = [None if part is None else part.model_dump() for part in added]
        if first:
            config["student"] = recipe.student.model_dump()
            weights = Path(getattr(recipe.student, "checkpoint", None) or "") / WEIGHTS
            config |= {"checkpoint": file_sha256(weights)} if weights.is_file() else {}
        return config

    def _deployment(self) -> Deployment:
        """What a search by latency measures: the first format in its last scheme, as it will be validated."""
        recipe, asked = self.plan.recipe, self.plan.recipe.validation
        first, _ = recipe.variants()[0]
        scheme = [scheme for model_format, scheme in recipe.variants() if model_format == first][-1]
        rewrite = self._export_stage().rewrite
        seq_len = asked.seq_len or recipe.data.max_length
        return Deployment(first, scheme, asked.threads, seq_len, rewrite, self.context.head)

    def _export_stage(self) -> ExportConfig:
        return next(stage for stage in self.plan.recipe.stages if isinstance(stage, ExportConfig))

    def becomes_teacher(self, name: str, checkpoint: Artifact) -> Artifact:
        """Later stages learn from this checkpoint, and every variant is compared with the fp32 ONNX file given back."""
        self.context = self.context.with_teacher(checkpoint)
        exported = self.export(name, checkpoint, "onnx", plain=True)
        config = {"data": self.plan.data.fingerprint, "machine": machine(), "settings": vars(self._settings())}
        write = partial(deliver_reference, exported.artifact, self.context, self._settings(), self.reporter.update)
        made = self._make("teacher-onnx-fp32", "reference", config, [exported.artifact], RUNTIMES, write)
        self.reference = made.artifact
        return made.artifact

    def export(self, name: str, source: Artifact, model_format: Format, plain: bool = False) -> Made:
        """One exported file; a `plain` one as torch writes it, which is what users have before they come here."""
        stage = self._export_stage()
        stage = stage.model_copy(update={"rewrite": False}) if plain else stage
        config = {"stage": stage.model_dump(exclude={"formats"}), "format": model_format, **self._input_config(),
                  "dev": self.plan.data.fingerprint}  # fmt: skip

        def write(out: Path) -> tuple[Spec, float]:
            with needs("compress"), quiet():
                from edgetf.stages import export

            return export.run(stage, source, self.context, out, model_format)

        return self._make(name, "export", config, [source], EXPORT[model_format], write)

    def quantize(self, name: str, exported: Artifact, scheme: Scheme) -> Made:
        """An exported file in a scheme."""

        def write(out: Path) -> tuple[Spec, float]:
            with needs("compress"), quiet():
                from edgetf.stages import quantize

            return quantize.run(Quantization(scheme), exported, self.context, out)

        return self._make(name, "quantize", scheme, [exported], QUANTIZE[exported.spec.kind], write)

    def deliver(self, name: str, exported: Artifact, devices: tuple[str, ...], made_by: str) -> Artifact:
        """A file of the model that a kind of stage made, measured on every device against the teacher's."""
        if self.reference is None:
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
            deliver_variant, exported, self.reference, profiles, self._settings(), recipe, made_by,
            self.reporter.update,
        )  # fmt: skip
        return self._make(name, "validate", config, [exported, self.reference], RUNTIMES, write).artifact

    def _settings(self) -> Settings:
        asked = self.plan.recipe.validation
        return Settings(asked.threads, asked.samples, asked.seq_len)
