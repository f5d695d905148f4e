"""INT8 in plain torch, apart from the code under test: what a runtime's dynamic quantization makes of a model."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


def fake_activation(x: Tensor) -> Tensor:
    """UINT8 with one scale and zero point, as onnxruntime's DynamicQuantizeLinear."""
    low, high = x.min().clamp(max=0), x.max().clamp(min=0)
    scale = (high - low) / 255
    zero = (-low / scale).round()
    return ((x / scale).round() + zero).clamp(0, 255).sub(zero) * scale


def fake_weight(weight: Tensor) -> Tensor:
    """INT8 with a scale for each row."""
    scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
    return (weight / scale).round().clamp(-127, 127) * scale


def in_int8(model: Any) -> Any:
    """A copy whose linear layers compute with rounded weights and inputs, text by text."""

    def rounded_inputs(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (torch.stack([fake_activation(text) for text in arguments[0]]),)

    copied = copy.deepcopy(model)
    with torch.no_grad():
        for module in copied.modules():
            if isinstance(module, nn.Linear):
                module.weight.copy_(fake_weight(module.weight))
                module.register_forward_pre_hook(rounded_inputs)
    return copied
