"""What a language recipe will do and cost, known before any work: the corpus, both models' sizes, the time it takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from typing_extensions import assert_never

from edgetf.config.language.models import LikeTeacher, LlamaShape, Made, Pretrained, Remote, TinyGpt
from edgetf.config.language.recipe import LanguageRecipe
from edgetf.config.language.stages import (
    DivergenceConfig,
    LanguageDistillConfig,
    LanguageExportConfig,
    LanguagePruneConfig,
    LanguageQuantizeConfig,
    LanguageStage,
    LanguageVocabularyConfig,
    PretrainConfig,
    StepsConfig,
)
from edgetf.core.errors import ConfigError
from edgetf.core.extras import require
from edgetf.data.corpus.documents import Corpus, load_corpus
from edgetf.models.decoders.shapes import pruned_shape, shape_to_make
from edgetf.models.decoders.sizes import DecoderSize
from edgetf.pipeline.forecast import Step, matmul_macs_per_second
from edgetf.pipeline.language.located import teacher_shape, teacher_size

# Seconds of the fixed parts, seen on a two-core x86-64 machine; training is scaled by this machine's matmul speed.
_EXPORT_SECONDS = {"onnx": 20.0, "tflite": 60.0}
_QUANTIZE_SECONDS = 5.0
_VALIDATE_SECONDS = 20.0
_TOKENIZER_SECONDS = 10.0
_TRAINING_EFFICIENCY = 0.35  # share of numpy's matmul speed that a training step reaches


@dataclass(frozen=True)
class LanguagePlan:
    """A checked recipe with its documents, and what it will cost."""

    recipe: LanguageRecipe
    corpus: Corpus
    teacher_params: int | None  # None: it is behind an endpoint
    student_params: int  # before anything is pruned by a ratio
    steps: tuple[Step, ...]

    def to_json(self) -> dict[str, Any]:
        """As `compress --dry-run --json` prints it."""
        corpus = self.corpus
        return {
            "schema": 1,
            "recipe": self.recipe.model_dump(mode="json"),
            "data": {
                "train": len(corpus.train),
                "dev": len(corpus.dev),
                "test": len(corpus.test),
                "duplicates_removed": corpus.duplicates,
                "fingerprint": corpus.fingerprint,
            },
            "teacher": {"params": self.teacher_params},
            "student": {"params": self.student_params},
            "steps": [asdict(step) for step in self.steps],
            "variants": self.recipe.variant_names(),
        }


def llama_params(shape: LlamaShape, vocab_size: int) -> int:
    """Weights of a decoder of Llama's shape with a tied embedding.

    >>> shape = LlamaShape(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
    ...                    intermediate_size=16)
    >>> llama_params(shape, 100)  # 800 of words, 192 of attention, 384 of the feed-forward, 24 of norms
    1400
    """
    h, queries = shape.hidden_size, shape.num_attention_heads * shape.head_width
    keys = shape.num_key_value_heads * shape.head_width
    layer = 2 * h * queries + 2 * h * keys + 3 * h * shape.intermediate_size + 2 * h
    return vocab_size * h + shape.num_hidden_layers * layer + h


def make_language_plan(recipe: LanguageRecipe, allow_larger: bool = False) -> LanguagePlan:
    """Check what the schema cannot see (the teacher's config, the documents), and cost every stage.

    Raises:
        ConfigError: with every problem found.
        ArtifactError: the teacher cannot be had.
        DeviceError: a package that the recipe needs is not installed.
    """
    formats = {model_format for model_format, _ in recipe.variants()}
    require(["compress", "tflite"] if "tflite" in formats else ["compress"])
    located = teacher_size(recipe.teacher) if isinstance(recipe.teacher, Pretrained) else None
    _refuse_pruning(recipe)
    corpus = load_corpus(recipe.data, recipe.seed)
    teacher, student = _sizes(recipe, located)
    if teacher is not None and isinstance(recipe.student, TinyGpt) and student >= teacher and not allow_larger:
        raise ConfigError(
            f"student: {student:,} parameters, its teacher has {teacher:,}; "
            "make it smaller, e.g. student.num_hidden_layers, or add --allow-larger"
        )
    return LanguagePlan(recipe, corpus, teacher, student, _steps(recipe, teacher, student))


def _refuse_pruning(recipe: LanguageRecipe) -> None:
    """What the prune stage could not write as a plain folder is said before any work."""
    prune, teacher = recipe.prune(), recipe.teacher
    if prune is None or isinstance(teacher, Remote):
        return
    kind, shape = teacher_shape(teacher) if isinstance(teacher, Pretrained) else ("llama", shape_to_make(teacher))
    pruned_shape(kind, shape, prune)


def _sizes(recipe: LanguageRecipe, located: DecoderSize | None) -> tuple[int | None, int]:
    """Weights of the teacher (None: behind an endpoint) and of the student, as far as they are known before work."""
    teacher: int | None
    match recipe.teacher:
        case Made() as made:
            vocab, teacher = made.tokenizer.vocab_size, llama_params(made, made.tokenizer.vocab_size)
        case Remote() as remote:
            vocab, teacher = remote.tokenizer.vocab_size, None
        case Pretrained():
            if located is None:
                raise RuntimeError("a pretrained teacher has been located")
            vocab, teacher = located.vocab_size, located.params
        case _:
            assert_never(recipe.teacher)
    pruned = next((stage.size for stage in recipe.stages if isinstance(stage, LanguageVocabularyConfig)), None)
    match recipe.student:
        case TinyGpt() as shape:
            return teacher, llama_params(shape, min(vocab, pruned or vocab))
        case LikeTeacher():
            return teacher, located.with_vocabulary(pruned or vocab).params if located else teacher or 0
        case _:
            assert_never(recipe.student)


def _steps(recipe: LanguageRecipe, teacher: int | None, student: int) -> tuple[Step, ...]:
    """Every stage with its predicted seconds."""
    rate = matmul_macs_per_second() * _TRAINING_EFFICIENCY
    found = [
        Step(stage.stage, round(_seconds(stage, recipe, teacher or 0, student, rate), 1)) for stage in recipe.stages
    ]
    devices = len(recipe.validation.devices)
    return (*found, Step("validate", round(_VALIDATE_SECONDS * (1 + len(recipe.variants())) * devices, 1)))


def _seconds(stage: LanguageStage, recipe: LanguageRecipe, teacher: int, student: int, rate: float) -> float:
    """A weight is one multiply-accumulate a token, and three with the way back (Kaplan et al. 2020)."""
    match stage:
        case PretrainConfig():
            return _TOKENIZER_SECONDS + 3 * teacher * _tokens(stage, recipe) / rate
        case LanguageVocabularyConfig():
            return _TOKENIZER_SECONDS
        case LanguagePruneConfig() | LanguageDistillConfig():
            return (3 * student + _asked(stage) * teacher) * _tokens(stage, recipe) / rate
        case LanguageExportConfig():
            return sum(_EXPORT_SECONDS[model_format] for model_format in stage.formats)
        case LanguageQuantizeConfig():
            return _QUANTIZE_SECONDS * len(stage.schemes) * len(recipe.export().formats)
        case _:
            assert_never(stage)


def _tokens(stage: StepsConfig, recipe: LanguageRecipe) -> int:
    """Tokens that a training reads."""
    return stage.steps * stage.batch_size * stage.gradient_accumulation * recipe.data.max_length


def _asked(stage: DivergenceConfig) -> int:
    """Whether the teacher is asked at all."""
    return int(stage.teacher > 0)
