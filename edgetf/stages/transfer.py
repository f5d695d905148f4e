"""The texts that a student learns from: the training rows, unlabelled ones, and augmented ones.

What has no label of its own carries one that says so, which the loss leaves out; the teacher says what it means.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgetf.core.errors import ConfigError
from edgetf.data.dataset import Split
from edgetf.data.labels import unknown
from edgetf.models.checkpoint import fingerprint_of
from edgetf.runtime.encoder import Encoder
from edgetf.stages.context import Context
from edgetf.training import processes
from edgetf.training.batches import Rows, encode_split


def transfer_rows(context: Context, which: str, encoder: Encoder) -> tuple[Split, Rows]:
    """The texts of a distillation stage and their pieces; `which` is all, labelled or unlabelled.

    Raises:
        ConfigError: unlabelled texts are asked for, and the recipe has none.
    """
    split = transfer_split(context, which)
    return split, encode_split(split, encoder)


def transfer_split(context: Context, which: str) -> Split:
    """The texts alone."""
    train = context.data.train
    if which == "labelled":
        return train
    more = [split for split in (context.data.unlabelled, _augmented(context)) if split is not None]
    if which == "unlabelled":
        if not more:
            raise ConfigError("rows: got unlabelled, but there are none; give data.unlabelled or data.augment")
        return joined(more)
    return joined([train, *more])


def joined(splits: list[Split]) -> Split:
    """Several splits as one."""
    texts = [text for split in splits for text in split.texts]
    labels = [label for split in splits for label in split.labels]
    if any(split.pairs is None for split in splits):
        return Split(texts, None, labels)
    return Split(texts, [pair for split in splits for pair in split.pairs or ()], labels)


def _augmented(context: Context) -> Split | None:
    config = context.recipe.data.augment
    if config is None:
        return None
    from edgetf.training.augment import cached_augmented

    teacher, train = context.the_teacher(), context.data.train
    texts, pairs = processes.once(
        lambda: cached_augmented(
            config, train.texts, train.pairs, teacher.path, fingerprint_of(teacher), context.report
        )
    )
    made = Split(texts, pairs, [unknown(context.recipe.task, text) for text in texts])
    data = context.data  # a changed text may have become one of those that are held out
    held_out = {split.identity(row) for split in (data.dev, data.test) for row in range(len(split))}
    return made.select([row for row in range(len(made)) if made.identity(row) not in held_out])


def told(context: Context, which: str, rows: int) -> NDArray[np.float32] | None:
    """What an endpoint says of the texts, (rows, C) probabilities and NaN where it says nothing; None without one."""
    config, unlabelled = context.recipe.data.labeller, context.data.unlabelled
    if config is None or unlabelled is None or which == "labelled":
        return None
    from edgetf.data.endpoint import label_texts

    texts = unlabelled.texts
    if unlabelled.pairs is not None:
        texts = [f"{text}\n{pair}" for text, pair in zip(texts, unlabelled.pairs, strict=True)]
    answer = label_texts(config, texts, context.data.label_names, context.report)
    context.say(
        f"labeller: {len(texts) - answer.refused} of {len(texts)} texts have a class; {answer.requests} requests, "
        f"{answer.reused} from the cache, {answer.usd:.2f} USD"
    )
    found = np.full((rows, len(context.data.label_names)), np.nan, dtype=np.float32)
    start = 0 if which == "unlabelled" else len(context.data.train)
    found[start : start + len(texts)] = answer.probabilities
    return found
