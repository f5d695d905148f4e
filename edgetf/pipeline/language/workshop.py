"""The kinds of artifacts of a language run: what each is made from, hence its key, and which stage writes it."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path
from typing import Any

from typing_extensions import assert_never

from edgetf.config.language.models import Pretrained
from edgetf.config.language.stages import (
    LanguageDistillConfig,
    LanguagePruneConfig,
    LanguageQuantizeConfig,
    LanguageVocabularyConfig,
    PretrainConfig,
)
from edgetf.core.artifact import Artifact, Spec
from edgetf.core.budget import TIMED
from edgetf.core.device import load_device
from edgetf.core.errors import needs
from edgetf.core.made import machine
from edgetf.core.quiet import quiet
from edgetf.core.schemes import Format, Scheme
from edgetf.pipeline.language.deliver import deliver_reference, deliver_variant
from edgetf.pipeline.language.located import teacher_fingerprint
from edgetf.pipeline.language.plan import LanguagePlan
from edgetf.pipeline.maker import Maker
from edgetf.pipeline.store import Made, Store
from edgetf.pipeline.workshop import QUANTIZE, RUNTIMES, TORCH
from edgetf.report.progress import Reporter
from edgetf.stages.language.context import LanguageContext
from edgetf.validation.language.settings import LanguageSettings

EXPORT: dict[Format, tuple[str, ...]] = {
    "onnx": ("torch", "transformers", "onnx", "onnxscript", "onnxruntime"),
    "tflite": ("torch", "transformers", "litert-torch", "ai-edge-litert"),
}
UNREAD = {"threads", "checkpoint_seconds"}  # fields of a training that change nothing of its result
TorchStage = PretrainConfig | LanguageVocabularyConfig | LanguagePruneConfig | LanguageDistillConfig


class LanguageWorkshop(Maker):
    """Makes the artifacts of one plan, or finds them in the store."""

    def __init__(self, plan: LanguagePlan, store: Store, reporter: Reporter) -> None:
        super().__init__(store, reporter)
        self.plan = plan
        self.context = LanguageContext(plan.recipe, plan.corpus, reporter.update, reporter.say)
        self.reference: Artifact | None = None

    def teacher(self, teacher: Pretrained) -> Made:
        """A teacher that is there, as a checkpoint of the run."""
        config = {"source": teacher.model_dump(), "weights": teacher_fingerprint(teacher), **self._input()}

        def write(out: Path) -> tuple[Spec, float]:
            with needs("compress"), quiet():
                from edgetf.stages.language import teacher as stage

            return stage.run(self.context, out)

        return self.make("0-teacher", "teacher", config, [], TORCH, write)

    def checkpoint(self, name: str, stage: TorchStage, source: Artifact | None) -> Made:
        """What a torch stage makes of `source`, which only a stage that starts a model can do without."""
        recipe, tutor = self.plan.recipe, self.context.tutor
        config: dict[str, Any] = {"stage": stage.model_dump(exclude=UNREAD), "seed": recipe.seed, **self._input()}
        if isinstance(stage, LanguageDistillConfig | LanguagePruneConfig):
            config["student"] = recipe.student.model_dump()
        if source is None:
            config["teacher"] = recipe.teacher.model_dump()
        parents = [each for each in (source, tutor) if each is not None]

        def write(out: Path) -> tuple[Spec, float]:
            return run_stage(stage, source, self.context, out)

        return self.make(name, stage.stage, config, parents, TORCH, write)

    def _input(self) -> dict[str, Any]:
        """What every checkpoint rests on beside its stage."""
        data = self.plan.recipe.data.model_dump(exclude={"sources", "revision"})
        return {"corpus": self.plan.corpus.fingerprint, "data": data}

    def becomes_reference(self, name: str, checkpoint: Artifact) -> Artifact:
        """Every variant is compared with the fp32 ONNX file of this checkpoint, which is given back."""
        exported = self.export(name, checkpoint, "onnx", float_cache=True).artifact
        config = {**self._input(), "machine": machine(), "settings": vars(self.settings)}
        write = partial(deliver_reference, exported, self.context, self.settings)
        made = self.make("teacher-onnx-fp32", "reference", config, [exported], RUNTIMES, write)
        self.reference = made.artifact
        return made.artifact

    def export(self, name: str, source: Artifact, model_format: Format, float_cache: bool = False) -> Made:
        """One exported file with its key-value cache, of floats where that is what others are compared with."""
        stage = self.plan.recipe.export()
        stage = stage.model_copy(update={"kv_cache": "fp32"}) if float_cache else stage
        unread = {"formats"} | ({"kv_cache", "fuse", "opset"} if model_format == "tflite" else set())
        config = {"stage": stage.model_dump(exclude=unread), "format": model_format, "corpus": self._input()}

        def write(out: Path) -> tuple[Spec, float]:
            with needs("compress"), quiet():
                from edgetf.stages.language import export

            return export.run(stage, source, self.context, out, model_format)

        return self.make(name, "export", config, [source], EXPORT[model_format], write)

    def quantize(self, name: str, stage: LanguageQuantizeConfig, scheme: Scheme, exported: Artifact) -> Made:
        """An exported file in a scheme."""
        config = {"scheme": scheme, "stage": stage.model_dump(exclude={"schemes"}), "corpus": self._input()}

        def write(out: Path) -> tuple[Spec, float]:
            with needs("compress"), quiet():
                from edgetf.stages.language import quantize

            return quantize.run(stage, scheme, exported, self.context, out)

        return self.make(name, "quantize", config, [exported], QUANTIZE[exported.spec.kind], write)

    def deliver(self, name: str, exported: Artifact, devices: tuple[str, ...], made_by: str) -> Artifact:
        """A file of the model that a kind of stage made, measured on every device against the teacher's."""
        if self.reference is None:
            raise RuntimeError("there is no reference to compare with")
        profiles, recipe = [load_device(device) for device in devices], self.plan.recipe
        config = {
            "recipe": recipe.name,
            "devices": [profile.model_dump() for profile in profiles],
            "settings": vars(self.settings),
            "machine": machine(),
            "timed": {key: limit for key, limit in recipe.budget.items() if key in TIMED},  # may ask for a second run
        }
        write = partial(
            deliver_variant, exported, self.reference, profiles, self.settings, recipe, made_by, self.reporter.update
        )
        return self.make(name, "validate", config, [exported, self.reference], RUNTIMES, write).artifact

    @cached_property
    def settings(self) -> LanguageSettings:
        """How speed is taken."""
        asked = self.plan.recipe.validation
        return LanguageSettings(asked.threads, asked.samples, asked.contexts)


def run_stage(stage: TorchStage, source: Artifact | None, context: LanguageContext, out: Path) -> tuple[Spec, float]:
    """Let a torch stage write its checkpoint; those that make a model smaller need a `source`."""
    with needs("compress"), quiet():  # imported here, because a reused stage needs no torch
        from edgetf.stages.language import distill, pretrain, prune, vocabulary

    match stage:
        case PretrainConfig():
            return pretrain.run(stage, context, out)
        case LanguageDistillConfig():
            return distill.run(stage, source, context, out)
        case LanguageVocabularyConfig() if source is not None:
            return vocabulary.run(stage, source, context, out)
        case LanguagePruneConfig() if source is not None:
            return prune.run(stage, source, context, out)
        case LanguageVocabularyConfig() | LanguagePruneConfig():
            raise RuntimeError(f"{stage.stage}: the schema lets no recipe begin with this stage")
        case _:
            assert_never(stage)
