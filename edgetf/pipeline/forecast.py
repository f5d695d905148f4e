"""What the stages will make of the teacher's config, and how long each will take: both before any work."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from edgetf.config.quantization import QuantizeConfig
from edgetf.config.recipe import Recipe
from edgetf.config.stages import (
    DistillConfig,
    ExportConfig,
    FinetuneConfig,
    PruneConfig,
    Stage,
    VocabularyConfig,
    stage_name,
)
from edgetf.config.training import LossConfig, TrainingConfig
from edgetf.data.dataset import Dataset
from edgetf.models.families import family_of
from edgetf.models.families.family import Config
from edgetf.models.shapes import cost_of, shape_of, with_shape
from edgetf.models.students import pruned_config, student_config

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


def changes(recipe: Recipe, teacher: Config) -> list[tuple[Stage, Config, Config]]:
    """Every stage with the config of the model that it reads, and of the one that it writes.

    Raises:
        ConfigError: the student does not fit its teacher.
    """
    found, before = [], teacher
    for stage in recipe.stages:
        after = _config_after(stage, before, recipe)
        found.append((stage, before, after))
        before = after
    return found


def student_configs(recipe: Recipe, teacher: Config) -> dict[str | None, Config]:
    """The config of every model that will be exported, by its name in the family.

    Raises:
        ConfigError: the student does not fit its teacher.
    """
    found = changes(recipe, teacher)
    for stage, before, _ in found:
        if isinstance(stage, PruneConfig):
            return {member: pruned_config(before, config) for member, config in stage.members().items()}
    return {None: found[-1][2]}


def _config_after(stage: Stage, config: Config, recipe: Recipe) -> Config:
    """The config of the model that a stage writes, of a family's first member."""
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


def predicted_steps(recipe: Recipe, data: Dataset, teacher: Config) -> tuple[Step, ...]:
    """Every stage with its predicted seconds."""
    length = recipe.data.max_length
    words = np.array([len(text.split()) for text in data.train.texts[:1000]])
    tokens = float(np.minimum(words * _TOKENS_PER_WORD + 2, length).mean())
    rate = matmul_macs_per_second() * _TRAINING_EFFICIENCY
    rows = len(data.train)
    teachers = next((stage.ensemble for stage in recipe.stages if isinstance(stage, FinetuneConfig)), 1)
    teacher_pass = rows * cost_of(teacher, length).macs * tokens / length / rate

    augment = recipe.data.augment
    added = len(data.unlabelled or ()) + (len(data.train) * augment.copies if augment else 0)

    def training(stage: TrainingConfig, model: Config) -> float:
        which = stage.rows if isinstance(stage, LossConfig) else "labelled"
        rows = {"labelled": len(data.train), "unlabelled": added, "all": len(data.train) + added}[which]
        return float(3 * stage.epochs * rows * cost_of(model, length).macs * tokens / length / rate)

    def beside(stage: DistillConfig | PruneConfig) -> float:
        """The teacher's passes for its states, each epoch anew unless they are kept."""
        weighs = any((stage.relations, stage.hidden, stage.attention, stage.embedding))
        return (1.0 if stage.cache_states else stage.epochs) * teacher_pass * weighs

    steps, members = [], len(recipe.members())
    for stage, before, after in changes(recipe, teacher):
        seconds = 0.0
        match stage:
            case FinetuneConfig():
                seconds = training(stage, teacher) * teachers + _EXPORT_SECONDS["onnx"]
            case VocabularyConfig():
                seconds = _VOCABULARY_SECONDS
            case DistillConfig():
                seconds = training(stage, after) + teacher_pass * teachers + beside(stage)
            case PruneConfig():
                each = [training(stage, pruned_config(before, member)) for member in stage.members().values()]
                seconds = sum(each) + teacher_pass * teachers + beside(stage) * members
            case ExportConfig():
                seconds = sum(_EXPORT_SECONDS[model_format] for model_format in stage.formats) * members
            case QuantizeConfig():
                seconds = _QUANTIZE_SECONDS * _quantized_files(recipe) * members
        steps.append(Step(stage_name(stage), round(seconds, 1)))
    devices = len(recipe.validation.devices)
    steps.append(Step("validate", round(_VALIDATE_SECONDS * len(recipe.variant_names()) * devices, 1)))
    return tuple(steps)


def _quantized_files(recipe: Recipe) -> int:
    """How many files a quantize stage may write of one model: most rungs of a ladder make two."""
    ladder, formats = recipe.ladder(), {model_format for model_format, _ in recipe.variants()}
    climbed = 2 * len(ladder.rungs) * len(formats) if ladder else 0
    return climbed + sum(scheme != "fp32" for _, scheme in recipe.variants())


def matmul_macs_per_second() -> float:
    """How fast this machine multiplies (256, 384) by (384, 1536) in float32: the best of twenty, in about 0.1 s."""
    a, b = np.ones((256, 384), np.float32), np.ones((384, 1536), np.float32)
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return a.shape[0] * a.shape[1] * b.shape[1] / best
