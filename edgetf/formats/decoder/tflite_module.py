"""A decoder over a cache of fixed length, as a torch module that LiteRT's converter lowers to few operators.

A .tflite file has fixed shapes, so the cache has room for `context` tokens from the start. A call with T tokens at the
positions p … p + T - 1 writes their keys and values into its rows p … p + T - 1 and attends to every row that is not
behind the token's own. What stands in later rows is never read before it is overwritten, so that a prefill may be
padded at its end.

The forward pass is written anew over the modules of transformers, which keep their weights and names:

- Grouped queries: the G query heads of a key head are stacked, (1, KV, G T, D), and no key is repeated.
- The mask is arithmetic, min(p - s, 0) 10⁹, and not a choice among numbers: XNNPACK computes it.
- A norm is (x w) r with r = 1 / rms(x), and not (x r) w: the converter would multiply w into the weights of the
  product that follows, so that a head would no longer be the embedding and both would be stored.

Sources: Llama (Touvron et al. 2023), grouped queries (Ainslie et al. 2023), RoPE (Su et al. 2021); Qwen and Gemma as in
transformers' modeling files. The cache lies as (1, KV, S, D), so that a product reads it without a transposition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ParityError
from edgetf.core.rope import frequencies
from edgetf.runtime.decode.litert import KEYS, VALUES

FAMILIES = ("llama", "qwen2", "qwen3", "gemma", "gemma3_text")
_FAR = 1e9  # taken from a score, it leaves nothing of its weight
Cache = dict[str, Tensor]


class CachedDecoder(nn.Module):
    """Ids (1, T) and their positions (T,), int32, and the cache, to logits (1, T, V) and the cache that holds them.

    Raises:
        ParityError: a family whose forward pass is not written here, or positions that are turned by an unknown rule.
    """

    def __init__(self, model: Any, facts: DecoderFacts, context: int) -> None:
        super().__init__()
        kind = model.config.model_type
        if kind not in FAMILIES:
            raise ParityError(f"export: got {kind}, allowed for tflite: {', '.join(FAMILIES)}; export it to onnx")
        if len(facts.thetas) != facts.num_hidden_layers:
            raise ParityError("export: got an unknown scaling of positions, which tflite cannot have; use onnx")
        self.model, self.facts, self.context = model, facts, context
        gemma = kind.startswith("gemma")
        self._scale = facts.hidden_size**0.5 if gemma else 1.0
        self._shift = 1.0 if gemma else 0.0  # Gemma stores the scale of a norm less 1
        self._queries = float(getattr(model.config, "query_pre_attn_scalar", None) or facts.head_dim) ** -0.5

    def forward(self, tokens: Tensor, input_pos: Tensor, **cache: Tensor) -> Cache:
        """See the class."""
        inner = self.model.model
        positions = input_pos.to(torch.float32)
        hidden = nn.functional.embedding(tokens, inner.embed_tokens.weight)  # (1, T, H)
        if self._scale != 1.0:
            hidden = hidden * self._scale
        turns: dict[Any, tuple[Tensor, Tensor]] = {}
        masks: dict[int | None, Tensor] = {}
        written: Cache = {}
        for number, layer in enumerate(inner.layers):
            turn, window = self._turn_of(number), self._window_of(number)
            if turn not in turns:
                turns[turn] = _turns(positions, frequencies(self.facts, number, np.float32))
            if window not in masks:
                masks[window] = self._mask(positions, window)
            keys, values = key_name(number), value_name(number)
            states = _norm(layer.input_layernorm, hidden, self._shift)
            states, written[keys], written[values] = self._attend(
                layer.self_attn, states, input_pos, cache[keys], cache[values], turns[turn], masks[window]
            )
            hidden = self._feed_forward(layer, hidden, states)
        hidden = _norm(inner.norm, hidden, self._shift)
        return {"logits": self.model.lm_head(hidden), **written}

    def _attend(
        self,
        attention: Any,
        states: Tensor,
        input_pos: Tensor,
        old_keys: Tensor,
        old_values: Tensor,
        turn: tuple[Tensor, Tensor],
        mask: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the attention gives (1, T, H), and keys and values (1, KV, S, D) with those of the tokens."""
        facts, length = self.facts, states.shape[1]
        groups, width = facts.num_key_value_heads, facts.head_dim
        each = facts.num_attention_heads // groups
        queries = attention.q_proj(states).view(1, length, groups * each, width)
        keys = attention.k_proj(states).view(1, length, groups, width)
        values = attention.v_proj(states).view(1, length, groups, width)
        if hasattr(attention, "q_norm"):
            queries, keys = (
                _norm(attention.q_norm, queries, self._shift),
                _norm(attention.k_norm, keys, self._shift),
            )
        queries, keys = _turned(queries, *turn) * self._queries, _turned(keys, *turn)
        all_keys = _write(old_keys, keys.transpose(1, 2), input_pos)
        all_values = _write(old_values, values.transpose(1, 2), input_pos)
        queries = queries.view(1, length, groups, each, width).permute(0, 2, 3, 1, 4)
        queries = queries.reshape(1, groups, each * length, width)
        scores = queries @ all_keys.transpose(2, 3) + mask  # (1, KV, G T, S)
        mixed = torch.softmax(scores, dim=-1) @ all_values  # (1, KV, G T, D)
        mixed = mixed.view(1, groups, each, length, width).permute(0, 3, 1, 2, 4).reshape(1, length, -1)
        return attention.o_proj(mixed), all_keys, all_values

    def _feed_forward(self, layer: Any, hidden: Tensor, attended: Tensor) -> Tensor:
        """The rest of a layer (1, T, H); Gemma also norms what attention and feed-forward give."""
        given: Tensor
        if hasattr(layer, "pre_feedforward_layernorm"):
            hidden = hidden + _norm(layer.post_attention_layernorm, attended, self._shift)
            given = layer.mlp(_norm(layer.pre_feedforward_layernorm, hidden, self._shift))
            return hidden + _norm(layer.post_feedforward_layernorm, given, self._shift)
        hidden = hidden + attended
        given = layer.mlp(_norm(layer.post_attention_layernorm, hidden, self._shift))
        return hidden + given

    def _turn_of(self, number: int) -> tuple[float, float]:
        """RoPE's base and the divisor of positions in a layer."""
        facts = self.facts
        return facts.thetas[number], facts.rope_scaling[number] if facts.rope_scaling else 1.0

    def _window_of(self, number: int) -> int | None:
        """How many tokens a layer sees; None: all, also where the window holds more than the cache."""
        window = self.facts.windows[number] if self.facts.windows else None
        return window if window is not None and window < self.context else None

    def _mask(self, positions: Tensor, window: int | None) -> Tensor:
        """What is added to scores (1, 1, G T, S): 0 where a token may look, far below it elsewhere."""
        rows = torch.arange(self.context, dtype=torch.float32)
        behind = positions[:, None] - rows[None, :]  # (T, S)
        mask = torch.clamp(behind, max=0.0) * _FAR
        if window is not None:
            mask = mask + torch.clamp(window - 1 - behind, max=0.0) * _FAR
        each = self.facts.num_attention_heads // self.facts.num_key_value_heads
        return (mask.repeat(each, 1) if len(positions) > 1 else mask)[None, None]

    def sample(self, length: int) -> dict[str, Tensor]:
        """Inputs of a signature of that length, for tracing."""
        facts = self.facts
        shape = (1, facts.num_key_value_heads, self.context, facts.head_dim)
        cache = {
            name(number): torch.zeros(shape)
            for number in range(facts.num_hidden_layers)
            for name in (key_name, value_name)
        }
        ids = {
            "tokens": torch.zeros((1, length), dtype=torch.int32),
            "input_pos": torch.arange(length, dtype=torch.int32),
        }
        return {**ids, **cache}


def key_name(layer: int) -> str:
    """What the keys of a layer are called, going in and coming out."""
    return f"{KEYS}{layer}"


def value_name(layer: int) -> str:
    """What the values of a layer are called, going in and coming out."""
    return f"{VALUES}{layer}"


def _norm(norm: Any, states: Tensor, shift: float) -> Tensor:
    """RMSNorm over the last dimension; the scale stands before the root, see above."""
    epsilon = getattr(norm, "variance_epsilon", None) or norm.eps
    rate = torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + epsilon)
    scale: Tensor = norm.weight + shift
    return states * scale * rate


def _turns(positions: Tensor, speeds: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
    """Cosines and sines (1, T, 1, D / 2) of the angles by which RoPE turns, at the frequencies of its pairs."""
    angles = (positions[:, None] * torch.from_numpy(speeds)[None, :])[None, :, None, :]
    return torch.cos(angles), torch.sin(angles)


def _turned(states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Vectors (1, T, N, D), each pair (i, i + D / 2) turned."""
    first, second = states.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def _write(cache: Tensor, new: Tensor, input_pos: Tensor) -> Tensor:
    """The cache (1, KV, S, D) with new rows (1, KV, T, D) from the first position on."""
    from litert_torch.generative.custom_ops.dynamic_update_slice import dynamic_update_slice

    update: Callable[..., Tensor] = dynamic_update_slice
    zero = torch.zeros((), dtype=torch.int32)
    return update(cache, new, [zero, zero, input_pos[0].reshape(()), zero])
