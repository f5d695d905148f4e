"""The kinds of artifacts of a run: what each is made from, hence its key, and which stage writes it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from typing_extensions import assert_never

from edgetf.config.quantization import QatConfig, QuantizeConfig
from edgetf.config.stages import DistillConfig, ExportConfig, FinetuneConfig, PruneConfig, VocabularyConfig
from edgetf.config.training import VECTORS_ONLY
from edgetf.core.artifact import Artifact, Spec, key_of
from edgetf.core.budget import TIMED
from edgetf.core.device import DeviceProfile, load_device
from edgetf.core.errors import ConfigError, needs
from edgetf.core.files import file_sha256
from edgetf.core.made import machine
from edgetf.core.quiet import quiet
from edgetf.core.schemes import MEANINGS, Format, Scheme
from edgetf.core.task_names import CLASSIFICATION
from edgetf.data.calibration import calibration_rows
from edgetf.data.dataset import Split
from edgetf.formats.quantization import Feeds, Quantization
from edgetf.models.checkpoint import WEIGHTS, copy_checkpoint, locate_teacher, read_config
from edgetf.pipeline.deliver import deliver_reference, deliver_variant
from edgetf.pipeline.maker import Maker
from edgetf.pipeline.plan import Plan
from edgetf.pipeline.settings import quantization
from edgetf.pipeline.store import Made, Store
from edgetf.report.progress import Reporter
from edgetf.stages.context import Context
from edgetf.stages.deployment import Deployment, away_by_fit
from edgetf.validation.row import Settings

TORCH = ("torch", "transformers", "accelerate", "tokenizers")
EXPORT: dict[Format, tuple[str, ...]] = {
    "onnx": ("torch", "transformers", "onnx", "onnxscript", "onnxruntime"),
    "tflite": ("torch", "transformers", "litert-torch", "ai-edge-litert"),
}
QUANTIZE: dict[str, tuple[str, ...]] = {"onnx": ("onnx", "onnxruntime"), "tflite": ("ai-edge-quantizer",)}
RUNTIMES = ("onnxruntime", "ai-edge-litert", "tokenizers", "numpy")
TorchStage = FinetuneConfig | VocabularyConfig | DistillConfig | PruneConfig


class Workshop(Maker):
    """Makes the artifacts of one plan, or finds them in the store; knows the task's teacher once there is one."""

    def __init__(self, plan: Plan, store: Store, reporter: Reporter) -> None:
        super().__init__(store, reporter)
        self.plan = plan
        self.context = Context(plan.recipe, plan.data, reporter.update, reporter.say)
        self.reference: Artifact | None = None

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

        return self.make("0-teacher", "teacher", config, [], (), write).artifact

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
            timed_here = stage.target.unit == "speedup" and deployment.away is None
            if timed_here and not any(device.here for device in self.devices):
                name = self.devices[0].name
                self.reporter.say(f"prune: timed here, as {name} has no latency fit: edgetf devices calibrate {name}")
            config["deployment"] = {**deployment.record(), "machine": machine() if timed_here else None}
        parents = [source, *([dense] if dense else [])]
        if not isinstance(stage, FinetuneConfig):
            parents += _teachers(context)

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

        return self.make(name, stage.stage, config, parents, TORCH, write)

    def _stage_config(self, stage: TorchStage, first: bool) -> dict[str, Any]:
        """What beside its parents a torch stage's result rests on; the `first` distill stage builds the student."""
        recipe, config = self.plan.recipe, self._learning_config(stage)
        if first:
            config["student"] = recipe.student.model_dump()
            weights = Path(getattr(recipe.student, "checkpoint", None) or "") / WEIGHTS
            config |= {"checkpoint": file_sha256(weights)} if weights.is_file() else {}
        return config

    def _learning_config(self, stage: TorchStage | QatConfig) -> dict[str, Any]:
        """A training with all that it learns from."""
        recipe, data = self.plan.recipe, self.plan.data
        unread = {"checkpoint_seconds", "threads", "ensemble"} | (set() if recipe.pooling else VECTORS_ONLY)
        on_labels = isinstance(stage, FinetuneConfig)
        config: dict[str, Any] = {
            "stage": stage.model_dump(exclude=unread),
            "data": data.fingerprint if on_labels else data.transfer_fingerprint(),
        }
        if not on_labels:
            added = (recipe.data.augment, recipe.data.labeller)
            config["added"] = [None if part is None else part.model_dump() for part in added]
        return config

    def _deployment(self) -> Deployment:
        """What a search by latency goes by: the first format in its last scheme, as it will be validated."""
        recipe, asked = self.plan.recipe, self.plan.recipe.validation
        first, _ = recipe.variants()[0]
        scheme = [scheme for model_format, scheme in recipe.variants() if model_format == first][-1]
        if scheme == "fp32" and recipe.ladder():
            scheme = "w8a8_dynamic"  # the ladder's first rung
        rewrite = self._export_stage().rewrite
        seq_len = asked.seq_len or recipe.data.max_length
        here = Deployment(first, scheme, asked.threads, seq_len, rewrite, self.context.head)
        return away_by_fit(here, self.devices)

    def _export_stage(self) -> ExportConfig:
        return next(stage for stage in self.plan.recipe.stages if isinstance(stage, ExportConfig))

    def becomes_teacher(self, name: str, checkpoint: Artifact) -> Artifact:
        """Later stages learn from this checkpoint, and every variant is compared with the fp32 ONNX file given back."""
        self.context = self.context.with_teacher(checkpoint)
        exported = self.export(name, checkpoint, "onnx", plain=True)
        config = {"data": self.plan.data.fingerprint, "machine": machine(), "settings": vars(self.settings())}
        write = partial(deliver_reference, exported.artifact, self.context, self.settings(), self.reporter.update)
        made = self.make("teacher-onnx-fp32", "reference", config, [exported.artifact], RUNTIMES, write)
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

        return self.make(name, "export", config, [source], EXPORT[model_format], write)

    def quantize(self, name: str, exported: Artifact, how: Quantization) -> Made:
        """An exported file in a scheme; where that needs calibration, with the rows of the quantize stage."""
        config = {"how": how.record(), "calibration": self.calibration_key(how.scheme)}

        def write(out: Path) -> tuple[Spec, float]:
            with needs("compress"), quiet():
                from edgetf.stages import quantize

            return quantize.run(how, exported, self.context, out, self.feeds(exported, how.scheme))

        packages = (*QUANTIZE[exported.spec.kind], *(("nncf",) if how.writer == "nncf" else ()))
        return self.make(name, "quantize", config, [exported], packages, write)

    def quantization(self, stage: QuantizeConfig, scheme: Scheme, model_format: Format) -> Quantization:
        """A scheme as the stage and the devices of the recipe want it."""
        return quantization(stage, scheme, model_format, self.devices)

    def calibration_key(self, scheme: Scheme) -> str | None:
        """Of the rows that a scheme is calibrated with; None for one that needs none."""
        if not MEANINGS[scheme].calibrated:
            return None
        rows = self._calibration_rows()
        return key_of([rows.texts, rows.pairs])

    def feeds(self, exported: Artifact, scheme: Scheme) -> Feeds | None:
        """The calibration rows as an exported file takes them; None for a scheme that needs none."""
        if not MEANINGS[scheme].calibrated:
            return None
        with needs("compress"), quiet():
            from edgetf.stages.calibrate import feeds_of

        details = exported.spec.details
        encoder = self.context.encoder(exported.path, details["pad_id"])
        lengths = None if details["lengths"] is None else tuple(details["lengths"])
        return feeds_of(self._calibration_rows(), encoder, tuple(details["inputs"]), lengths)

    def torch_artifact(
        self, name: str, stage: str, config: Any, parents: list[Artifact], write: Callable[[Path], tuple[Spec, float]]
    ) -> Artifact:
        """A checkpoint that no stage of the recipe is named after."""
        return self.make(name, stage, config, parents, TORCH, write).artifact

    def quantization_aware(self, name: str, config: QatConfig, source: Artifact) -> Artifact:
        """A checkpoint trained on with rounded weights and activations, from the teacher's answers."""
        record = {**self._learning_config(config), "seed": self.context.recipe.seed}

        def write(out: Path) -> tuple[Spec, float]:
            with needs("compress"), quiet():
                from edgetf.stages import qat

            return qat.run(config, source, self.context, out)

        return self.make(name, "qat", record, [source, *_teachers(self.context)], (*TORCH, "torchao"), write).artifact

    @cached_property
    def devices(self) -> list[DeviceProfile]:
        """Those that the recipe validates on."""
        return [load_device(name) for name in self.plan.recipe.validation.devices]

    def _calibration_rows(self) -> Split:
        recipe = self.plan.recipe
        stage = next(stage for stage in recipe.stages if isinstance(stage, QuantizeConfig))
        return calibration_rows(stage.calibration, self.plan.data, recipe.data, recipe.task, recipe.seed)

    def deliver(self, name: str, exported: Artifact, devices: tuple[str, ...], made_by: str) -> Artifact:
        """A file of the model that a kind of stage made, measured on every device against the teacher's."""
        if self.reference is None:
            raise RuntimeError("there is no reference to compare with")
        profiles = [load_device(device) for device in devices]
        recipe = self.plan.recipe
        config = {
            "recipe": recipe.name,
            "devices": [profile.model_dump() for profile in profiles],
            "settings": vars(self.settings()),
            "machine": machine(),
            "timed": {key: limit for key, limit in recipe.budget.items() if key in TIMED},  # may ask for a second run
        }
        write = partial(
            deliver_variant, exported, self.reference, profiles, self.settings(), recipe, made_by,
            self.reporter.update,
        )  # fmt: skip
        return self.make(name, "validate", config, [exported, self.reference], RUNTIMES, write).artifact

    def settings(self) -> Settings:
        """How latency is taken."""
        asked = self.plan.recipe.validation
        return Settings(asked.threads, asked.samples, asked.seq_len)


def _teachers(context: Context) -> list[Artifact]:
    """Whom a stage learns from."""
    return [artifact for artifact in (context.the_teacher(), context.tutor, *context.ensemble) if artifact]
