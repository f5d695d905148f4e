"""How large a decoder is, by its config alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgetf.core.errors import needs
from edgetf.core.quiet import quiet
from edgetf.models.decoders.checkpoint import count_parameters
from edgetf.models.decoders.configs import open_config
from edgetf.models.decoders.shapes import DecoderShape


@dataclass(frozen=True)
class DecoderSize:
    """Weights in all, a tied embedding once; rows of the embedding, and their width."""

    params: int
    vocab_size: int
    hidden_size: int

    def with_vocabulary(self, tokens: int) -> DecoderSize:
        """With no more than so many tokens.

        >>> DecoderSize(1_000, 100, 8).with_vocabulary(50).params
        600
        """
        kept = min(tokens, self.vocab_size)
        return DecoderSize(self.params - (self.vocab_size - kept) * self.hidden_size, kept, self.hidden_size)


def pruned_size(size: DecoderSize, before: DecoderShape, after: DecoderShape) -> DecoderSize:
    """About what pruning to a shape leaves, for layers with a gate; norms and biases shrink with the rest.

    >>> pruned_size(DecoderSize(100 * 8 + 2 * 576, 100, 8), DecoderShape(2, 1, 2, 16, 8), DecoderShape(1, 1, 2, 8, 8))
    DecoderSize(params=1184, vocab_size=100, hidden_size=8)
    """
    layer = (size.params - size.vocab_size * size.hidden_size) / before.layers
    feed_forward = 3 * before.hidden * before.neurons
    heads = after.groups * (after.heads + 1) / (before.groups * (before.heads + 1))  # keys and values: as two queries
    width = after.hidden / before.hidden
    left = width * ((layer - feed_forward) * heads + feed_forward * after.neurons / before.neurons)
    params = size.vocab_size * after.hidden + after.layers * left
    return DecoderSize(round(params), size.vocab_size, after.hidden)


def config_size(folder: Path) -> DecoderSize:
    """How large the model of a config is, which is built without memory for its weights.

    Raises:
        ArtifactError: the config is of no known family, or does not fit together.
    """
    config = open_config(folder)
    with needs("compress"), quiet():
        import torch
        from transformers import AutoModelForCausalLM

        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    return DecoderSize(count_parameters(model), int(config.vocab_size), int(config.hidden_size))
