"""What a recipe will do and cost, known before any work: the stages, the student's size, and the time they take."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgetf.config.quantization import QuantizeConfig
from edgetf.config.recipe import Recipe
from edgetf.core.errors import ConfigError
from edgetf.core.extras import require
from edgetf.data.calibration import calibration_rows
from edgetf.data.dataset import Dataset, load_dataset
from edgetf.models.checkpoint import locate_teacher, read_config
from edgetf.models.families import family_of
from edgetf.models.families.family import Config, Cost
from edgetf.models.heads import Head, config_fields
from edgetf.models.shapes import cost_of, shape_of
from edgetf.models.students import relative_ms
from edgetf.pipeline.checks import shape_problems
from edgetf.pipeline.fitting import fit_labels
from edgetf.pipeline.forecast import Step, predicted_steps, student_configs


@dataclass(frozen=True)
class Student:
    """A model that the recipe ends in; `name` tells the members of a family apart, and is None where there is one."""

    name: str | None
    cost: Cost
    relative_latency: float  # its fp32 latency over the teacher's, predicted


@dataclass(frozen=True)
class Plan:
    """A checked recipe with its data, and what it will cost."""

    recipe: Recipe
    data: Dataset
    teacher: Cost
    students: tuple[Student, ...]  # the largest first
    steps: tuple[Step, ...]

    @property
    def student(self) -> Cost:
        """The student, or the largest of a family."""
        return self.students[0].cost

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "recipe": self.recipe.model_dump(mode="json"),
            "data": {
                "train": len(self.data.train),
                "dev": len(self.data.dev),
                "test": len(self.data.test),
                "classes": self.data.label_names,
                "duplicates_removed": self.data.duplicates,
                "conflicting_labels": self.data.conflicts,
                "fingerprint": self.data.fingerprint,
            },
            "teacher": asdict(self.teacher),
            "student": asdict(self.student),
            "relative_latency": _predicted(self.students[0]),
            "family": [
                {"name": student.name, **asdict(student.cost), "relative_latency": _predicted(student)}
                for student in self.students
                if student.name is not None
            ],
            "steps": [asdict(step) for step in self.steps],
            "variants": self.recipe.variant_names(),
        }


def _predicted(student: Student) -> dict[str, Any]:
    return {"value": round(student.relative_latency, 4), "how": "predicted"}


def make_plan(recipe: Recipe, allow_larger: bool = False) -> Plan:
    """Check what the schema cannot see (the teacher's config, the data), and cost every stage.

    Raises:
        ConfigError: with every problem found.
        ArtifactError: the teacher cannot be had.
        DeviceError: a package that the recipe needs is not installed.
    """
    formats = {model_format for model_format, _ in recipe.variants()}
    require(["compress", "tflite"] if "tflite" in formats else ["compress"])
    folder = locate_teacher(recipe.teacher.source, recipe.teacher.revision, config_only=True)
    config = read_config(folder)
    problems: list[str] = []
    data = load_dataset(recipe.data, recipe.task)
    data = fit_labels(recipe, config, data, problems)
    problems += _calibration_problems(recipe, data)
    teacher_config = {**config, **config_fields(data.label_names, Head(recipe.task, recipe.pooling))}
    configs: dict[str | None, Config] = {}
    try:
        family_of(config["model_type"])
        configs = student_configs(recipe, teacher_config)
        problems += shape_problems(recipe, teacher_config)
        problems += _width_problems(recipe, teacher_config, list(configs.values()))
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
    teacher = cost_of(teacher_config, recipe.data.max_length)
    students = tuple(_student(name, made, teacher, recipe.data.max_length) for name, made in configs.items())
    if configs.get(None) is not teacher_config and not allow_larger:
        _refuse_larger(students[0], teacher)
    return Plan(recipe, data, teacher, students, predicted_steps(recipe, data, teacher_config))


def _student(name: str | None, config: Config, teacher: Cost, length: int) -> Student:
    cost = cost_of(config, length)
    return Student(name, cost, relative_ms(cost) / relative_ms(teacher))


def _refuse_larger(student: Student, teacher: Cost) -> None:
    """Point out a student that would be no faster, before it is trained."""
    if student.relative_latency < 1:
        return
    raise ConfigError(
        f"student: predicted to take {student.relative_latency:.2f} times as long as its teacher "
        f"({student.cost.macs / 1e6:.0f} against {teacher.macs / 1e6:.0f} million multiply-accumulates, "
        f"{student.cost.ops} against {teacher.ops} operators); "
        "make it smaller, e.g. student.num_hidden_layers, or add --allow-larger"
    )


def _calibration_problems(recipe: Recipe, data: Dataset) -> list[str]:
    """Calibration rows that cannot be read, or that stand in the dev or the evaluation rows."""
    stage = next((stage for stage in recipe.stages if isinstance(stage, QuantizeConfig)), None)
    if stage is None or not (stage.calibrates or stage.calibration.source):
        return []
    try:
        calibration_rows(stage.calibration, data, recipe.data, recipe.task, recipe.seed)
    except ConfigError as error:
        return error.problems
    return []


def _width_problems(recipe: Recipe, teacher: Config, students: list[Config]) -> list[str]:
    """A budget for the cosine of vectors that are not as wide as the teacher's."""
    own, widths = shape_of(teacher).hidden_size, {shape_of(config).hidden_size for config in students}
    if "cosine" not in recipe.budget or widths == {own}:
        return []
    return [
        f"budget.cosine: vectors of {min(widths)} and of the teacher's {own} numbers have no cosine; "
        "take similarity_spearman"
    ]
