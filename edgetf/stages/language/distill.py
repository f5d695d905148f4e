"""Distill: the student learns what the teacher says of the training documents, and of texts that either writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate.utils import set_seed

from edgetf.config.language.models import LikeTeacher, Remote, TinyGpt
from edgetf.config.language.stages import LanguageDistillConfig
from edgetf.core.artifact import Artifact, Spec
from edgetf.core.decoder import DecoderFacts
from edgetf.data.corpus.tokenizer import END_ID, train_tokenizer
from edgetf.models.decoders.checkpoint import load_decoder
from edgetf.models.decoders.students import build_student
from edgetf.stages.language.context import LanguageContext
from edgetf.stages.language.learn import learn
from edgetf.stages.language.sequences import teacher_texts


def run(
    config: LanguageDistillConfig, source: Artifact | None, context: LanguageContext, out: Path
) -> tuple[Spec, float]:
    """Train the student; gives the spec of its checkpoint and the seconds of training.

    `source` is the checkpoint before this stage: the teacher, or what a prune stage left of it; there is none where the
    teacher is behind an endpoint.

    Raises:
        ConfigError: the student cannot start as the recipe says, has other tokens than the teacher, or its loss is no
            longer a number.
    """
    set_seed(context.recipe.seed)
    student, tokenizer = start(source, context, out)
    documents: Sequence[str] | None = None
    details: dict[str, Any] = {}
    if config.sequence_level is not None:
        written = teacher_texts(config.sequence_level, context)
        documents = [*(context.corpus.train if config.sequence_level.with_documents else ()), *written]
        details["teacher_texts"] = len(written)
    set_seed(context.recipe.seed)
    return learn(student, config, tokenizer, context, out, details, documents)


def start(source: Artifact | None, context: LanguageContext, out: Path) -> tuple[Any, Path]:
    """The student before its first step, and the folder of its tokenizer."""
    recipe = context.recipe
    if source is None:
        if not isinstance(recipe.teacher, Remote):
            raise RuntimeError("only a teacher behind an endpoint gives no checkpoint")
        size = recipe.teacher.tokenizer.vocab_size
        train_tokenizer(context.corpus.train, size, out)
        return build_student(recipe.student, None, size, recipe.data.max_length, END_ID), out
    match recipe.student:
        case LikeTeacher():
            model = load_decoder(source.path)
            facts = DecoderFacts.from_json(source.spec.details["decoder"])
            if recipe.prune() is not None:
                return model, source.path
            return build_student(recipe.student, model, facts.vocab_size, facts.max_length), source.path
        case TinyGpt(init=init):
            facts = DecoderFacts.from_json(source.spec.details["decoder"])
            teacher = load_decoder(source.path) if init == "embedding" else None
            end = facts.eos_ids[0] if facts.eos_ids else None
            student = build_student(recipe.student, teacher, facts.vocab_size, recipe.data.max_length, end)
            return student, source.path
