"""Vocabulary: remove the word pieces that the texts hardly use, and the positions that no input reaches.

In a small encoder the embedding is half the file. What goes is chosen by how often the training and unlabelled texts
use it; words whose pieces all stay are read as before, others in smaller pieces. The tokenizer is rewritten to match.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgetf.config.stages import VocabularyConfig
from edgetf.core.artifact import Artifact, Spec
from edgetf.core.errors import ConfigError
from edgetf.models.checkpoint import load_classifier
from edgetf.models.slicing import factorize_words, keep_positions, keep_words, word_table
from edgetf.models.vocabulary import choose_pieces, count_pieces, prune_tokenizer, renumbered_ids
from edgetf.stages.context import Context
from edgetf.stages.fit import untrained
from edgetf.stages.transfer import joined


def run(config: VocabularyConfig, source: Artifact, context: Context, out: Path) -> tuple[Spec, float]:
    """Write the model with a smaller tokenizer and embedding; gives its spec and the seconds it took.

    Raises:
        ConfigError: fewer pieces than must stay, or a wider embedding than there is.
    """
    started = time.monotonic()
    model = load_classifier(source.path, head=context.head)
    width = word_table(model).shape[1]
    if config.embedding_size is not None and config.embedding_size >= width:
        raise ConfigError(f"vocabulary.embedding_size: got {config.embedding_size}, allowed: under {width}")
    data = context.data
    used = joined([split for split in (data.train, data.unlabelled) if split is not None])
    context.report(0, 2, "counting word pieces")
    before = int(model.config.vocab_size)
    counts = count_pieces(source.path, used.texts, used.pairs)
    kept = choose_pieces(source.path, counts, config.size)
    narrow(model, kept, config, context.recipe.data.max_length, torch.from_numpy(counts[kept]) + 1)
    out.mkdir(parents=True, exist_ok=True)
    prune_tokenizer(source.path, out, kept)
    details = {"before": {"vocab_size": before}, "after": {"vocab_size": len(kept)}}
    context.report(1, 2, "reading the dev rows")
    spec = untrained(model, out, context, out, details)
    return spec, time.monotonic() - started


def narrow(model: Any, kept: list[int], config: VocabularyConfig, max_length: int, counts: Tensor) -> None:
    """Keep these word pieces (and the positions, and as many directions as the config says) in the model.

    `counts` (V,) says how often each kept piece occurs.
    """
    new_of = {old: new for new, old in enumerate(kept)}
    keep_words(model, kept, renumbered_ids(model.config.to_dict(), new_of))
    if config.positions:
        keep_positions(model, max_length)
    if config.embedding_size is not None:
        factorize_words(model, config.embedding_size, counts)
