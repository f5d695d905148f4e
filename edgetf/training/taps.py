"""Listen to a model: what its embeddings, layers and attention projections gave in the last forward pass.

A signal has a name: ``embedding``, ``hidden.K``, ``query.K``, ``key.K`` or ``value.K`` of layer K, from 0. Each is a
tensor (B, T, W).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from edgetf.models.families import family_of
from edgetf.models.slicing import layers_of


class Taps:
    """Keeps the named signals of every forward pass, until it is closed."""

    def __init__(self, model: Any, names: Iterable[str]) -> None:
        self.last: dict[str, Tensor] = {}
        self._hooks = [_module(model, name).register_forward_hook(self._listener(name)) for name in sorted(set(names))]

    def _listener(self, name: str) -> Callable[[Any, Any, Any], None]:
        def listen(module: Any, inputs: Any, output: Any) -> None:
            self.last[name] = output[0] if isinstance(output, tuple) else output

        return listen

    def close(self) -> None:
        """Stop listening, and let go of what was heard."""
        for hook in self._hooks:
            hook.remove()
        self.last = {}


def _module(model: Any, name: str) -> nn.Module:
    family = family_of(model.config.model_type)
    kind, _, number = name.partition(".")
    if kind == "embedding":
        module: nn.Module = model.get_submodule(family.embeddings)
        return module
    layer = layers_of(model)[int(number)]
    if kind == "hidden":
        return layer
    return layer.get_submodule({"query": family.query, "key": family.key, "value": family.value}[kind])
