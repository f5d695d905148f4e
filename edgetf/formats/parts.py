"""Which part of a Transformer a constant belongs to, by the name that its module has in any of the families."""

from __future__ import annotations

import re
from typing import Literal

Part = Literal["embeddings", "attention", "feed_forward", "other"]
PARTS: tuple[Part, ...] = ("embeddings", "attention", "feed_forward", "other")

_IS: tuple[tuple[Part, re.Pattern[str]], ...] = (
    ("embeddings", re.compile(r"embedding|\bembed_tokens\b|\bw[tp]e\b")),
    (
        "attention",
        re.compile(r"attention|attn|\b(query|key|value|[qkvo](ut)?_lin)\b|\.layer\.\d+\.output(\.(weight|bias)|$)"),
    ),
    ("feed_forward", re.compile(r"\b(intermediate|ffn|mlp|up|down|lin1|lin2|output\.dense)\b")),
)


def part_of(name: str) -> Part:
    """The part of the module path that a constant is named after; norms count where they stand.

    >>> part_of("model.bert.encoder.layer.0.attention.output.dense.weight"), part_of("model.classifier.bias")
    ('attention', 'other')
    >>> part_of("model.bert.encoder.layer.3.output.dense.weight"), part_of("bert.embeddings.LayerNorm.bias")
    ('feed_forward', 'embeddings')
    >>> part_of("model.layers.3.self_attn.o_proj.weight"), part_of("model.embed_tokens.weight;1")
    ('attention', 'embeddings')
    >>> part_of("model.layers.3.mlp.gate_proj.weight")
    'feed_forward'
    """
    return next((part for part, pattern in _IS if pattern.search(name)), "other")
