"""Pretrain: a teacher of Llama's shape learns, from nothing, the next token of the training documents.

For jobs that have no teacher to start from; its tokenizer is made of the documents too.
"""

from __future__ import annotations

from pathlib import Path

from accelerate.utils import set_seed

from edgetf.config.language.models import Made
from edgetf.config.language.stages import PretrainConfig
from edgetf.core.artifact import Spec
from edgetf.data.corpus.tokenizer import END_ID, train_tokenizer
from edgetf.models.decoders.students import llama
from edgetf.stages.language.context import LanguageContext
from edgetf.stages.language.learn import learn


def run(config: PretrainConfig, context: LanguageContext, out: Path) -> tuple[Spec, float]:
    """Make the tokenizer and train the teacher; gives the spec of its checkpoint and the seconds of training.

    Raises:
        ConfigError: the documents give fewer tokens than the tokenizer shall have, or the loss is no longer a number.
    """
    recipe = context.recipe
    shape = recipe.teacher
    if not isinstance(shape, Made):
        raise RuntimeError("the schema lets this stage stand only where the teacher has but a shape")
    train_tokenizer(context.corpus.train, shape.tokenizer.vocab_size, out)
    set_seed(recipe.seed)
    model = llama(shape, shape.tokenizer.vocab_size, recipe.data.max_length, END_ID)
    return learn(model, config, out, context, out)
