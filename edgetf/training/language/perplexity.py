"""How well a model in memory predicts held-out blocks: exp of the mean negative log likelihood of a token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgetf.core.bootstrap import interval
from edgetf.core.metrics import Floats, Metric
from edgetf.data.corpus.blocks import Blocks

_NUMBERS = 2**25  # logits of one forward pass: 128 MB in float32


def in_batches(blocks: Blocks, vocab_size: int) -> Iterator[Tensor]:
    """All blocks (N, T) in order, as many at once (B, T) as their logits leave room for."""
    size = max(1, min(32, _NUMBERS // (blocks.shape[1] * vocab_size)))
    for start in range(0, len(blocks), size):
        yield torch.from_numpy(blocks[start : start + size].astype(np.int64))


def block_losses(model: Any, blocks: Blocks) -> Floats:
    """Mean negative log likelihood of a token of each block (N,), in nats; of all but the first token."""
    model.eval()
    device, found = next(model.parameters()).device, []
    with torch.inference_mode():
        for ids in in_batches(blocks, model.config.vocab_size):
            logits = model(input_ids=ids.to(device), use_cache=False).logits[:, :-1].float().cpu()
            losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
            found.append(losses.view(len(ids), -1).mean(dim=1).double().numpy())
    return np.concatenate(found)


def perplexity(losses: Floats, tokens: int, name: str = "dev_perplexity") -> Metric:
    """Of blocks with these mean losses (N,), with its interval over draws of blocks; `tokens` are predicted in each.

    >>> perplexity(np.log([2.0, 8.0]), 100).value
    4.0
    """
    ci95 = interval(lambda rows: float(np.exp(losses[rows].mean())), len(losses))
    value = float(np.exp(losses.mean()))
    return Metric(name, round(value, 12), unit="perplexity", n=len(losses) * tokens, ci95=ci95)
