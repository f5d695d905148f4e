"""Vocabulary: remove tokens that the training documents hardly use, with their rows of the embedding; no training.

In a small decoder most weights are the embedding. Its rows, and those of the output layer, are selected, so that for a
text whose tokens all stay the logits are those of before at the tokens that stay; what their softmax gave to the others
is shared out among them. The tokenizer is rewritten to match (see edgetf.models.vocabulary).
"""

from __future__ import annotations

import time
from pathlib import Path

from edgetf.config.language.stages import LanguageVocabularyConfig
from edgetf.core.artifact import Artifact, Spec
from edgetf.models.decoders.checkpoint import copy_chat_template, load_decoder, save_decoder
from edgetf.models.decoders.slicing import keep_tokens
from edgetf.models.vocabulary import choose_pieces, count_pieces, prune_tokenizer
from edgetf.stages.language.context import LanguageContext
from edgetf.stages.language.details import torch_spec


def run(config: LanguageVocabularyConfig, source: Artifact, context: LanguageContext, out: Path) -> tuple[Spec, float]:
    """Write the model with a smaller tokenizer and embedding; gives its spec and the seconds it took.

    Raises:
        ConfigError: fewer tokens than must stay, or a tokenizer of another kind.
    """
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    context.report(0, 2, "counting tokens")
    counts = count_pieces(source.path, context.corpus.train)
    kept = choose_pieces(source.path, counts, config.size, unused_added=False)
    prune_tokenizer(source.path, out, kept)
    copy_chat_template(source.path, out)
    context.report(1, 2, "selecting rows of the embedding")
    model = load_decoder(source.path)
    before = int(model.config.vocab_size)
    params = save_decoder(keep_tokens(model, kept), out, out)
    lost = int(counts.sum() - counts[kept].sum())
    details = {
        "before": {"vocab_size": before},
        "after": {"vocab_size": len(kept)},
        "tokens_read_otherwise": lost / max(1, int(counts.sum())),
    }
    return torch_spec(out, params, context, details), time.monotonic() - started
