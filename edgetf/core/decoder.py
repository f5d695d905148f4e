"""What a runtime must know of a decoder: the shape of its cache, its positions and its special tokens.

It stands in the details of every artifact of a language model, as `details["decoder"]`, so that a board can generate
without torch and without a model's config.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class DecoderFacts:
    """One decoder. Every layer has the same heads; keys and values of the cache are (B, KV, T, D).

    `thetas` holds the RoPE base of every layer, and is empty where positions are learned (GPT-2): then cached keys
    cannot be turned to other positions. `rope_scaling` divides positions (1.0: none), `rope_factors` those of every
    pair of channels (empty: none); `windows` holds the sliding window of every layer, None for one that sees all.
    """

    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    hidden_size: int
    vocab_size: int
    max_length: int  # positions that the model has, or was trained for
    positions: Literal["rope", "learned"] = "rope"
    thetas: tuple[float, ...] = ()
    rope_scaling: tuple[float, ...] = ()  # of every layer; positions are divided by it
    rope_factors: tuple[float, ...] = ()  # of every pair of D / 2, in all layers: Llama 3.1
    windows: tuple[int | None, ...] = ()
    bos_id: int | None = None  # put before every text, where the model was trained so
    eos_ids: tuple[int, ...] = ()
    kv_cache: Literal["fp32", "int8"] = "fp32"

    @property
    def cache_bytes_per_token(self) -> int:
        """Bytes of keys and values of one token in all layers; the scales of int8 stand in the file, once.

        >>> DecoderFacts(2, 4, 2, 8, 32, 100, 64).cache_bytes_per_token
        256
        """
        each = 4 if self.kv_cache == "fp32" else 1
        return 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim * each

    def to_json(self) -> dict[str, Any]:
        """As `details["decoder"]` holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> DecoderFacts:
        """What `to_json` wrote."""
        fields: dict[str, Any] = {name: tuple(it) if isinstance(it, list) else it for name, it in record.items()}
        return cls(**fields)
