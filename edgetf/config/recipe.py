"""The schema of a recipe: typed, frozen, and closed to unknown fields. A field's description is its help text."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from edgetf.config.data import DataConfig
from edgetf.config.fields import Positive
from edgetf.config.quantization import QuantizeConfig
from edgetf.config.stages import (
    STAGE_ORDER,
    ExportConfig,
    FinetuneConfig,
    PruneConfig,
    Stage,
    named,
    stage_name,
)
from edgetf.config.student import FromTeacher, Student
from edgetf.config.tasks import PoolingConfig, with_task_defaults, wrong_for_task
from edgetf.core.budget import budget_problems, task_problems
from edgetf.core.schemes import Format, Granularity, Scheme
from edgetf.core.strict import Strict
from edgetf.core.task_names import CLASSIFICATION, TaskName

AUTO = "auto"


class TeacherConfig(Strict):
    """Where the teacher comes from."""

    source: Annotated[str, Field(min_length=1, description="a folder, hub:OWNER/NAME, or package:DISTRIBUTION/path")]
    revision: Annotated[str | None, Field(description="hub only: branch, tag or commit")] = None


class ValidateConfig(Strict):
    """How the finished variants are measured."""

    devices: Annotated[tuple[str, ...], Field(min_length=1)] = ("host",)
    threads: Positive = 1
    samples: Annotated[int, Field(ge=30, description="latency samples of each model")] = 60
    seq_len: Annotated[Positive | None, Field(description="tokens of the timed input; none: max_length")] = None


class Recipe(Strict):
    """A whole job, from a teacher to validated variants."""

    name: str
    description: str = ""
    task: TaskName = CLASSIFICATION
    pooling: Annotated[PoolingConfig | None, Field(description="sentence_embeddings only: tokens to vector")] = None
    seed: int = 0
    teacher: TeacherConfig
    data: DataConfig
    student: Student = FromTeacher()
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    budget: dict[str, float] = Field(default_factory=dict)
    validation: ValidateConfig = ValidateConfig()

    @model_validator(mode="before")
    @classmethod
    def _student_is_like_its_teacher(cls, tree: Any) -> Any:
        student = tree.get("student") if isinstance(tree, dict) else None
        if isinstance(student, dict) and "architecture" not in student:
            return {**tree, "student": {"architecture": "teacher", **student}}
        return tree

    @model_validator(mode="before")
    @classmethod
    def _task_has_defaults(cls, tree: Any) -> Any:
        return with_task_defaults(tree)

    @model_validator(mode="after")
    def _stages_chain(self) -> Recipe:
        kinds: list[str] = [stage.stage for stage in self.stages]
        wanted = [
            kind for kind in STAGE_ORDER for _ in range(kinds.count(kind) if kind == "distill" else kind in kinds)
        ]
        if kinds != wanted:
            allowed = "each once, but distill as often as you like"
            raise ValueError(f"stages: got the order {', '.join(kinds)}, allowed: {', '.join(wanted)}, {allowed}")
        names = [stage_name(stage) for stage in self.stages]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"stages: two are called {twice}; give one of them another name, as in name: general")
        taken = [*type(self).model_fields, *(kind for kind in STAGE_ORDER if kind != "distill")]
        hidden = next((stage.name for stage in self.stages if stage.stage == "distill" and stage.name in taken), None)
        if hidden is not None:
            raise ValueError(f"stages: a distill stage is called {hidden}, as something else of a recipe is; rename it")
        if "export" not in kinds:
            raise ValueError("stages: there is no export stage, so nothing would run on a device; add one")
        return self

    @model_validator(mode="after")
    def _ensemble_reads_the_texts(self) -> Recipe:
        kinds = {stage.stage for stage in self.stages}
        several = any(isinstance(stage, FinetuneConfig) and stage.ensemble > 1 for stage in self.stages)
        if several and "vocabulary" in kinds and self.data.long_texts == "chunk":
            raise ValueError(
                "finetune.ensemble: the pieces of a long text are those of the student's vocabulary, which only the "
                "first teacher can read; set data.long_texts=truncate, vocabulary=null, or finetune.ensemble=1"
            )
        return self

    @model_validator(mode="after")
    def _budget_is_known(self) -> Recipe:
        problems = budget_problems(self.budget, "budget.") + task_problems(self.budget, self.task, "budget.")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @model_validator(mode="after")
    def _fits_its_task(self) -> Recipe:
        problems = wrong_for_task(self.task, self.data, self.stages, self.pooling)
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def variants(self) -> list[tuple[Format, Scheme]]:
        """Every format × scheme that this recipe ends in, of each member of a family."""
        formats: tuple[Format, ...] = ()
        schemes: list[Scheme] = ["fp32"]
        for stage in self.stages:
            if isinstance(stage, ExportConfig):
                formats = stage.formats
            elif isinstance(stage, QuantizeConfig):
                schemes += stage.named_schemes
        return [(model_format, scheme) for model_format in formats for scheme in schemes]

    def ladder(self) -> QuantizeConfig | None:
        """The quantize stage where it looks for a scheme by itself."""
        found = next((stage for stage in self.stages if isinstance(stage, QuantizeConfig)), None)
        return found if found is not None and found.accuracy_drop is not None else None

    def granularity(self) -> Granularity | None:
        """The granularity that its author asks for; None: whichever is right on the devices."""
        found = next((stage for stage in self.stages if isinstance(stage, QuantizeConfig)), QuantizeConfig())
        return None if found.granularity == "auto" else found.granularity

    def members(self) -> list[str | None]:
        """The members of the family that a prune stage makes, the largest model first; None: there is one model."""
        prune = next((stage for stage in self.stages if isinstance(stage, PruneConfig)), None)
        return list(prune.members()) if prune else [None]

    def variant_names(self) -> list[str]:
        """Every variant of every member; the one that the ladder finds is called `AUTO`, whatever its scheme."""
        kinds: dict[Format, list[str]] = {}
        for model_format, scheme in self.variants():
            kinds.setdefault(model_format, []).append(scheme)
        found = [AUTO] if self.ladder() else []
        each = [f"{model_format}-{kind}" for model_format, schemes in kinds.items() for kind in schemes + found]
        return [named(name, member) for member in self.members() for name in each]
