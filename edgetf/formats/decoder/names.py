"""The names of a decoder graph's inputs and outputs, as Optimum and onnxruntime-genai know them."""

from __future__ import annotations

IDS = "input_ids"
MASK = "attention_mask"
POSITIONS = "position_ids"
LOGITS = "logits"
PARTS = ("key", "value")


def past_names(layers: int) -> tuple[str, ...]:
    """What a graph of so many layers is given of the tokens before.

    >>> past_names(1)
    ('past_key_values.0.key', 'past_key_values.0.value')
    """
    return tuple(f"past_key_values.{layer}.{part}" for layer in range(layers) for part in PARTS)


def present_names(layers: int) -> tuple[str, ...]:
    """What it gives back with the new tokens, in the order of `past_names`.

    >>> present_names(1)
    ('present.0.key', 'present.0.value')
    """
    return tuple(f"present.{layer}.{part}" for layer in range(layers) for part in PARTS)
