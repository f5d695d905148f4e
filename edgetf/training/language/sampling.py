"""Tokens that a model in memory writes on, for many texts at once that begin with as many tokens each."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def write_on(
    model: Any,
    prompts: Tensor,
    new_tokens: int,
    temperature: float,
    top_p: float = 1.0,
    ends: Collection[int] = (),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Prompts (B, P) with so many tokens behind them, (B, P + N), drawn with the model's own key-value cache.

    Temperature 0 takes the likeliest token. Behind a token of `ends` the same token is repeated; where all texts have
    ended there may be fewer columns. Without a generator torch's own draws.
    """
    ids, step, cache = prompts, prompts, None
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=prompts.device)
    stops = torch.tensor(sorted(ends), device=prompts.device, dtype=prompts.dtype)
    for _ in range(new_tokens):
        answer = model(input_ids=step, past_key_values=cache, use_cache=True)
        cache = answer.past_key_values
        drawn = draw(answer.logits[:, -1].float(), temperature, top_p, generator)[:, None]
        step = torch.where(ended[:, None], ids[:, -1:], drawn)
        ids = torch.cat([ids, step], dim=1)
        ended = ended | torch.isin(step[:, 0], stops)
        if ended.all():
            break
    return ids


def draw(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator | None = None) -> Tensor:
    """A token for each row of logits (B, V), from the likeliest that together have `top_p` (Holtzman et al. 2020).

    >>> draw(torch.tensor([[0.0, 5.0, 4.0]]), 1.0, 0.5).tolist()
    [1]
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    chances = (logits / temperature).softmax(dim=-1)
    if top_p < 1:
        ordered, tokens = chances.sort(dim=-1, descending=True)
        ordered = ordered.masked_fill(ordered.cumsum(dim=-1) - ordered >= top_p, 0.0)
        chances = torch.zeros_like(chances).scatter(-1, tokens, ordered)
    if generator is not None:
        chances = chances.to(generator.device)
    return torch.multinomial(chances, 1, generator=generator)[:, 0].to(logits.device)
