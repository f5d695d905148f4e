"""Which packages each extra brings, so that a recipe that needs more is refused before any work."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from edgetf.core.errors import DeviceError

MODULES: dict[str, tuple[str, ...]] = {
    "ort": ("onnxruntime", "tokenizers"),
    "litert": ("ai_edge_litert", "tokenizers"),
    "compress": ("torch", "transformers", "accelerate", "safetensors", "onnx", "onnxscript", "onnxruntime"),
    "tflite": ("litert_torch", "ai_edge_quantizer", "ai_edge_litert"),
}


def is_there(extra: str) -> bool:
    """Whether every package of an extra is installed; imports none."""
    return all(find_spec(module) is not None for module in MODULES[extra])


def require(extras: Sequence[str]) -> None:
    """Look whether the packages of these extras are there, without importing them.

    Raises:
        DeviceError: with what is missing and the one command that brings it.
    """
    absent = {extra: [module for module in MODULES[extra] if find_spec(module) is None] for extra in extras}
    wanted = [extra for extra in extras if absent[extra]]
    if wanted:
        modules = ", ".join(sorted({module for extra in wanted for module in absent[extra]}))
        raise DeviceError(f"{modules}: not installed; run: pip install 'edgetf[{','.join(wanted)}]'")
