"""The texts of a sequence-level distillation, from whichever teacher a recipe has."""

from __future__ import annotations

from edgetf.config.language.models import Remote
from edgetf.config.language.stages import SequenceLevelConfig
from edgetf.core.decoder import DecoderFacts
from edgetf.data.corpus.written import remote_texts
from edgetf.stages.language.context import LanguageContext
from edgetf.training.language.texts import tutor_texts
from edgetf.training.language.tutor import Tutor


def teacher_texts(config: SequenceLevelConfig, context: LanguageContext) -> list[str]:
    """Texts that the teacher writes on from beginnings of training documents.

    Raises:
        ConfigError: an endpoint may cost no more, or cannot be asked.
        DataError: too few documents are long enough.
    """
    documents, teacher = context.corpus.train, context.recipe.teacher
    if isinstance(teacher, Remote):
        return remote_texts(config, teacher, documents, context.report)
    tutor = context.the_tutor()
    facts = DecoderFacts.from_json(tutor.spec.details["decoder"])
    return tutor_texts(config, Tutor(tutor), facts, documents, context.recipe.seed, context.report)
