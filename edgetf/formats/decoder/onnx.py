"""A decoder as an ONNX file: fused where its family allows it and it is asked for, plain otherwise."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgetf.config.language.stages import LanguageExportConfig
from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ConfigError
from edgetf.formats.decoder.blocks import why_not
from edgetf.formats.decoder.cache_scales import cache_scales
from edgetf.formats.decoder.fused import write_fused
from edgetf.formats.decoder.plain import write_plain
from edgetf.runtime.decode.session import Ids

MODEL = "model.onnx"
_HEADS_OF = 16  # the CPU kernel of GroupQueryAttention turns heads of multiples of this (onnxruntime 1.32)


@dataclass(frozen=True)
class Written:
    """What was written: the names of the graph's inputs, and which graph it is."""

    inputs: tuple[str, ...]
    graph: Literal["fused", "plain"]


def write_onnx(
    model: Any,
    facts: DecoderFacts,
    path: Path,
    config: LanguageExportConfig,
    blocks: Callable[[], Ids],
    say: Callable[[str], None],
) -> Written:
    """Write a decoder whose cache is as `facts` say; `blocks` gives tokens (N, T) that the model reads where the
    ranges of its keys and values are asked for. `say` hears why a graph is not fused.

    Raises:
        ConfigError: an int8 cache for a model that has no fused graph.
        ParityError: torch cannot export it.
    """
    hindrance = why_not(model) or _why_not_turned(facts)
    if facts.kv_cache == "int8" and (hindrance or not config.fuse):
        raise ConfigError(
            f"export.kv_cache: got int8, allowed here: fp32; only the fused graph has it ({hindrance or 'fuse=false'})"
        )
    if hindrance is not None or not config.fuse:
        if config.fuse:
            say(f"export: the graph is not fused, as {hindrance}")
        return Written(write_plain(model, facts, path, config.opset), "plain")
    scales = None
    if facts.kv_cache == "int8":
        with tempfile.TemporaryDirectory() as folder:
            float_file = Path(folder) / MODEL
            write_fused(model, facts, float_file, config.opset, facts.max_length)
            scales = cache_scales(float_file, facts, blocks())
    return Written(write_fused(model, facts, path, config.opset, facts.max_length, scales), "fused")


def _why_not_turned(facts: DecoderFacts) -> str | None:
    """Why the operator cannot turn the positions of this model, or None."""
    if not facts.thetas:
        return "its positions are scaled by a rule that is not known here"
    if facts.head_dim % _HEADS_OF:
        return f"its heads are {facts.head_dim} wide, and the operator takes multiples of {_HEADS_OF}"
    return None
