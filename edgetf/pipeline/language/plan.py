"""What a language recipe will do and cost, known before any work: the corpus, both models' sizes, the time it takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from typing_extensions import assert_never

from edgetf.config.language.models import LikeTeacher, LlamaShape, Made, Pretrained, Remote, TinyGpt
from edgetf.config.language.recipe import LanguageRecipe
from edgetf.config.language.stages import LanguageVocabularyConfig
from edgetf.core.errors import ConfigError
from edgetf.core.extras import require
from edgetf.data.corpus.documents import Corpus, load_corpus
from edgetf.models.decoders.shapes import DecoderShape, pruned_shape, shape_to_make
from edgetf.models.decoders.sizes import DecoderSize, pruned_size
from edgetf.pipeline.forecast import Step
from edgetf.pipeline.language.forecast import Work, Works, forecast
from edgetf.pipeline.language.located import teacher_shape, teacher_size


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
    shapes = _pruned_shapes(recipe)
    corpus = load_corpus(recipe.data, recipe.seed)
    teacher, student = _sizes(recipe, located)
    must_be_smaller = isinstance(recipe.student, TinyGpt) and not allow_larger
    if must_be_smaller and teacher is not None and student.params >= teacher.params:
        raise ConfigError(
            f"student: {student.params:,} parameters, its teacher has {teacher.params:,}; "
            "make it smaller, e.g. student.num_hidden_layers, or add --allow-larger"
        )
    works = _works(recipe, teacher, student, shapes)
    params = teacher.params if teacher else None
    return LanguagePlan(recipe, corpus, params, student.params, forecast(recipe, works))


def _pruned_shapes(recipe: LanguageRecipe) -> tuple[DecoderShape, DecoderShape] | None:
    """The shapes before and behind the prune stage, if there is one.

    Raises:
        ConfigError: it could not write a plain folder, which is said before any work.
    """
    prune, teacher = recipe.prune(), recipe.teacher
    if prune is None or isinstance(teacher, Remote):
        return None
    kind, shape = teacher_shape(teacher) if isinstance(teacher, Pretrained) else ("llama", shape_to_make(teacher))
    return shape, pruned_shape(kind, shape, prune)


def _sizes(recipe: LanguageRecipe, located: DecoderSize | None) -> tuple[DecoderSize | None, DecoderSize]:
    """The teacher (None: behind an endpoint) and the student, as far as they are known before work."""
    teacher = located
    match recipe.teacher:
        case Made() as made:
            vocab = made.tokenizer.vocab_size
            teacher = DecoderSize(llama_params(made, vocab), vocab, made.hidden_size)
        case Remote() as remote:
            vocab = remote.tokenizer.vocab_size
        case Pretrained():
            if located is None:
                raise RuntimeError("a pretrained teacher has been located")
            vocab = located.vocab_size
        case _:
            assert_never(recipe.teacher)
    match recipe.student:
        case TinyGpt() as shape:
            kept = min(vocab, _kept_tokens(recipe) or vocab)
            return teacher, DecoderSize(llama_params(shape, kept), kept, shape.hidden_size)
        case LikeTeacher():
            if teacher is None:
                raise RuntimeError("a student like its teacher has one that is here")
            return teacher, teacher.with_vocabulary(_kept_tokens(recipe) or vocab)
        case _:
            assert_never(recipe.student)


def _kept_tokens(recipe: LanguageRecipe) -> int | None:
    """What the vocabulary stage leaves, if there is one."""
    return next((stage.size for stage in recipe.stages if isinstance(stage, LanguageVocabularyConfig)), None)


def _works(
    recipe: LanguageRecipe,
    teacher: DecoderSize | None,
    student: DecoderSize,
    shapes: tuple[DecoderShape, DecoderShape] | None,
) -> Works:
    """What a token costs the teacher, with the student's vocabulary, and the student, pruned where it trains so."""
    asked = None
    if teacher is not None:
        tutor = teacher.with_vocabulary(_kept_tokens(recipe) or teacher.vocab_size)
        asked = Work(tutor.params, tutor.hidden_size)
    if shapes is not None and isinstance(recipe.student, LikeTeacher):
        student = pruned_size(student, *shapes)
    return Works(asked, Work(student.params, student.hidden_size))
