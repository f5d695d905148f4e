"""What a recipe will do and cost, known before any work: the stages, the student's size, and the time they take."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from edgetf.config.recipe import Recipe
from edgetf.config.stages import (
    DistillConfig,
    ExportConfig,
    FinetuneConfig,
    PruneConfig,
    QuantizeConfig,
    Stage,
    VocabularyConfig,
    stage_name,
)
from edgetf.config.training import LossConfig, TrainingConfig
from edgetf.core.errors import ConfigError
from edgetf.core.extras import require
from edgetf.data.dataset import Dataset, load_dataset
from edgetf.models.checkpoint import locate_teacher, read_config
from edgetf.models.families import family_of
from edgetf.models.families.family import Config, Cost
from edgetf.models.heads import Head, config_fields
from edgetf.models.shapes import cost_of, shape_of, with_shape
from edgetf.models.students import pruned_config, relative_ms, student_config
from edgetf.pipeline.fitting import fit_labels

# Seconds of the fixed parts, seen on a two-core x86-64 machine; training is scaled by this machine's matmul speed.
_EXPORT_SECONDS = {"onnx": 12.0, "tflite": 25.0}
_QUANTIZE_SECONDS = 6.0
_VOCABULARY_SECONDS = 10.0
_VALIDATE_SECONDS = 10.0
_TRAINING_EFFICIENCY = 0.25  # share of numpy's matmul speed that small batches reach
_TOKENS_PER_WORD = 1.4


@dataclass(frozen=True)
class Step:
    """One stage of the plan."""

    name: str
    predicted_seconds: float


@dataclass(frozen=True)
class Plan:
    """A checked recipe with its data, and what it will cost."""

    recipe: Recipe
    data: Dataset
    teacher: Cost
    student: Cost
    relative_latency: float  # the student's fp32 latency over the teacher's, predicted
    steps: tuple[Step, ...]

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
            "relative_latency": {"value": round(self.relative_latency, 4), "how": "predicted"},
            "steps": [asdict(step) for step in self.steps],
            "variants": [f"{model_format}-{scheme}" for model_format, scheme in self.recipe.variants()],
        }


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
    teacher_config = {**config, **config_fields(data.label_names, Head(recipe.task, recipe.pooling))}
    final: Config = teacher_config
    try:
        family_of(config["model_type"])
        final = _final_config(recipe, teacher_config)
        problems += _shape_problems(recipe, teacher_config)
        widths = [shape_of(each).hidden_size for each in (final, teacher_config)]
        if "cosine" in recipe.budget and widths[0] != widths[1]:
            problems.append(
                f"budget.cosine: vectors of {widths[0]} and of the teacher's {widths[1]} numbers have no cosine; "
                "take similarity_spearman"
            )
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
    length = recipe.data.max_length
    teacher, student = cost_of(teacher_config, length), cost_of(final, length)
    relative = relative_ms(student) / relative_ms(teacher)
    if relative >= 1 and final is not teacher_config and not allow_larger:
        raise ConfigError(
            f"student: predicted to take {relative:.2f} times as long as its teacher ({student.macs / 1e6:.0f} against "
            f"{teacher.macs / 1e6:.0f} million multiply-accumulates, {student.ops} against {teacher.ops} operators); "
            "make it smaller, e.g. student.num_hidden_layers, or add --allow-larger"
        )
    steps = tuple(_steps(recipe, data, teacher_config))
    return Plan(recipe, data, teacher, student, relative, steps)


def _final_config(recipe: Recipe, teacher: Config) -> Config:
    """The config of the model that will be exported."""
    config = teacher
    for stage in recipe.stages:
        config = _config_after(stage, config, recipe)
    return config


def _config_after(stage: Stage, config: Config, recipe: Recipe) -> Config:
    """The config of the model that a stage writes."""
    match stage:
        case VocabularyConfig():
            return _smaller_vocabulary(stage, config, recipe.data.max_length)
        case DistillConfig():
            first = next(other for other in recipe.stages if isinstance(other, DistillConfig))
            return student_config(recipe.student, config) if stage is first else config
        case PruneConfig():
            return pruned_config(config, stage)
        case FinetuneConfig() | ExportConfig() | QuantizeConfig():
            return config


def _smaller_vocabulary(stage: VocabularyConfig, config: Config, max_length: int) -> Config:
    """As far as it is known before the texts are counted."""
    most = int(config["max_position_embeddings"])
    positions = max_length + family_of(config["model_type"]).reserved_positions
    made = {
        **config,
        "vocab_size": min(int(config["vocab_size"]), stage.size or int(config["vocab_size"])),
        "max_position_embeddings": min(most, positions) if stage.positions else most,
    }
    return with_shape(made, replace(shape_of(config), embedding_size=stage.embedding_size))


def _shape_problems(recipe: Recipe, teacher: Config) -> list[str]:
    """What would only come out hours later: a length beyond the positions, relation heads that do not divide."""
    problems = []
    reserved = family_of(teacher["model_type"]).reserved_positions
    positions = int(teacher.get("max_position_embeddings", recipe.data.max_length)) - reserved
    if recipe.data.max_length > positions:
        problems.append(f"data.max_length: got {recipe.data.max_length}, allowed: up to the teacher's {positions}")
    config = teacher
    for stage in recipe.stages:
        before, config = config, _config_after(stage, config, recipe)
        if isinstance(stage, ExportConfig) and any(length > positions for length in stage.seq_lens):
            problems.append(f"export.seq_lens: got {max(stage.seq_lens)}, allowed: up to the teacher's {positions}")
        if isinstance(stage, LossConfig) and stage.relations > 0 and not _searched(stage):
            models = [before, config] if isinstance(stage, PruneConfig) else [config]
            problems += _relation_problems(stage, stage_name(stage), teacher, models)
    return problems


def _searched(stage: LossConfig) -> bool:
    """Whether the shape is found only when the stage runs."""
    return isinstance(stage, PruneConfig) and stage.target is not None


def _relation_problems(stage: LossConfig, name: str, teacher: Config, models: list[Config]) -> list[str]:
    """Relation heads must divide the attention widths of the teacher, and of the student before and after pruning."""
    layers = len(shape_of(teacher).layers)
    widths = {shape.head_width * layer.heads for shape in map(shape_of, [teacher, *models]) for layer in shape.layers}
    common = int(np.gcd.reduce(sorted(widths)))
    problems = []
    if common % stage.relation_heads:
        problems.append(
            f"{name}.relation_heads: got {stage.relation_heads}, allowed: a divisor of {common}, which divides "
            "the attention widths of teacher and student"
        )
    if not -layers <= stage.relation_layer < layers:
        problems.append(f"{name}.relation_layer: got {stage.relation_layer}, allowed: {-layers} to {layers - 1}")
    return problems


def _steps(recipe: Recipe, data: Dataset, teacher: Config) -> list[Step]:
    """Every stage with its predicted seconds."""
    length = recipe.data.max_length
    words = np.array([len(text.split()) for text in data.train.texts[:1000]])
    tokens = float(np.minimum(words * _TOKENS_PER_WORD + 2, length).mean())
    rate = _matmul_macs_per_second() * _TRAINING_EFFICIENCY
    rows, config = len(data.train), teacher
    teacher_pass = rows * cost_of(teacher, length).macs * tokens / length / rate

    augment = recipe.data.augment
    added = len(data.unlabelled or ()) + (len(data.train) * augment.copies if augment else 0)

    def training(stage: TrainingConfig, model: Config) -> float:
        which = stage.rows if isinstance(stage, LossConfig) else "labelled"
        rows = {"labelled": len(data.train), "unlabelled": added, "all": len(data.train) + added}[which]
        return float(3 * stage.epochs * rows * cost_of(model, length).macs * tokens / length / rate)

    steps = []
    for stage in recipe.stages:
        seconds = 0.0
        match stage:
            case FinetuneConfig():
                seconds = training(stage, teacher) + _EXPORT_SECONDS["onnx"]
            case VocabularyConfig():
                seconds = _VOCABULARY_SECONDS
            case DistillConfig() | PruneConfig():
                weighs = any((stage.relations, stage.hidden, stage.attention, stage.embedding))
                live = (1.0 if stage.cache_states else stage.epochs) * teacher_pass * weighs
                seconds = training(stage, _config_after(stage, config, recipe)) + teacher_pass + live
            case ExportConfig():
                seconds = sum(_EXPORT_SECONDS[model_format] for model_format in stage.formats)
            case QuantizeConfig():
                seconds = _QUANTIZE_SECONDS * (len(recipe.variants()) // 2)
        config = _config_after(stage, config, recipe)
        steps.append(Step(stage_name(stage), round(seconds, 1)))
    devices = len(recipe.validation.devices)
    steps.append(Step("validate", round(_VALIDATE_SECONDS * len(recipe.variants()) * devices, 1)))
    return steps


def _matmul_macs_per_second() -> float:
    """How fast this machine multiplies (256, 384) by (384, 1536) in float32: the best of twenty, in about 0.1 s."""
    import time

    a, b = np.ones((256, 384), np.float32), np.ones((384, 1536), np.float32)
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return a.shape[0] * a.shape[1] * b.shape[1] / best
