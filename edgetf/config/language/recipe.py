"""The schema of a language recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgetf.config.fields import Positive
from edgetf.config.language.data import CorpusConfig
from edgetf.config.language.models import LanguageStudent, LanguageTeacher, LikeTeacher, Made, Remote, TinyGpt
from edgetf.config.language.stages import (
    LANGUAGE_STAGE_ORDER,
    LanguageDistillConfig,
    LanguageExportConfig,
    LanguagePruneConfig,
    LanguageQuantizeConfig,
    LanguageStage,
)
from edgetf.core.budget import budget_problems, task_problems
from edgetf.core.schemes import Format, Scheme
from edgetf.core.strict import Strict


class LanguageValidateConfig(Strict):
    """How the finished variants are measured."""

    devices: Annotated[tuple[str, ...], Field(min_length=1)] = ("host",)
    threads: Positive = 1
    samples: Annotated[int, Field(ge=30, description="timed tokens of each model and context length")] = 60
    contexts: Annotated[
        tuple[Positive, ...], Field(min_length=1, description="tokens before the timed ones; cut to what fits")
    ] = (32, 128, 384)


class LanguageRecipe(Strict):
    """A whole job, from a decoder teacher to validated variants of a student."""

    name: str
    description: str = ""
    task: Literal["language_modeling"]
    seed: int = 0
    teacher: LanguageTeacher
    data: CorpusConfig
    student: LanguageStudent = LikeTeacher()
    stages: Annotated[tuple[LanguageStage, ...], Field(min_length=1)]
    budget: dict[str, float] = Field(default_factory=dict)
    validation: LanguageValidateConfig = LanguageValidateConfig()

    @model_validator(mode="after")
    def _stages_chain(self) -> LanguageRecipe:
        kinds = [stage.stage for stage in self.stages]
        wanted = [kind for kind in LANGUAGE_STAGE_ORDER if kind in kinds]
        if kinds != wanted:
            raise ValueError(f"stages: got the order {', '.join(kinds)}, allowed: {', '.join(wanted)}, each once")
        if "export" not in kinds:
            raise ValueError("stages: there is no export stage, so nothing would run on a device; add one")
        if isinstance(self.teacher, Made) != ("pretrain" in kinds):
            raise ValueError("pretrain: trains a teacher that has only a shape; give both, or teacher.source")
        return self

    @model_validator(mode="after")
    def _budget_is_known(self) -> LanguageRecipe:
        problems = budget_problems(self.budget, "budget.") + task_problems(self.budget, self.task, "budget.")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @model_validator(mode="after")
    def _student_is_made(self) -> LanguageRecipe:
        kinds = {stage.stage for stage in self.stages}
        if isinstance(self.student, TinyGpt) and "distill" not in kinds:
            raise ValueError("student: a tinygpt is made by the distill stage; add one")
        if isinstance(self.student, TinyGpt) and "prune" in kinds:
            raise ValueError("prune: it makes the teacher smaller, and a tinygpt is another model; drop one of them")
        return self

    @model_validator(mode="after")
    def _words_alone(self) -> LanguageRecipe:
        """An endpoint gives texts, and no distributions."""
        distill = self.distill()
        if not isinstance(self.teacher, Remote):
            return self
        if not isinstance(self.student, TinyGpt) or distill is None or distill.sequence_level is None:
            raise ValueError(
                "teacher.endpoint: it gives texts alone; give distill.sequence_level and a tinygpt student"
            )
        if distill.teacher or distill.on_policy is not None:
            raise ValueError(
                "teacher.endpoint: its tokens are not the student's, so that there are no distributions to learn; "
                "set distill.teacher=0, distill.on_policy=null and distill.labels=1"
            )
        if {stage.stage for stage in self.stages} & {"vocabulary", "prune"}:
            raise ValueError("teacher.endpoint: there is no model to prune; drop vocabulary and prune")
        return self

    def distill(self) -> LanguageDistillConfig | None:
        """The distill stage."""
        return next((stage for stage in self.stages if isinstance(stage, LanguageDistillConfig)), None)

    def prune(self) -> LanguagePruneConfig | None:
        """The prune stage."""
        return next((stage for stage in self.stages if isinstance(stage, LanguagePruneConfig)), None)

    def export(self) -> LanguageExportConfig:
        """The export stage, which every recipe has."""
        return next(stage for stage in self.stages if isinstance(stage, LanguageExportConfig))

    def variants(self) -> list[tuple[Format, Scheme]]:
        """Every format × scheme that this recipe ends in."""
        quantize = next((stage for stage in self.stages if isinstance(stage, LanguageQuantizeConfig)), None)
        schemes: tuple[Scheme, ...] = ("fp32", *(quantize.schemes if quantize else ()))
        return [(model_format, scheme) for model_format in self.export().formats for scheme in schemes]

    def variant_names(self) -> list[str]:
        """What the variants are called."""
        return [f"{model_format}-{scheme}" for model_format, scheme in self.variants()]
