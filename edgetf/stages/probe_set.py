"""The models that a device's latency is fitted on: a dozen random encoders, each written once and quantized.

They are chosen to part the costs that a fit must tell from one another: narrow and deep against wide and flat, heads
of 32 against heads of 64, feed-forwards from once to four times the width, weights that stay in a cache against weights
that don't, and from 16 to 256 tokens. The vocabulary is short, because a table costs a read a token, whatever its
length.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetf.core.schemes import Format, Scheme
from edgetf.formats.quantization import Quantization
from edgetf.formats.quantize import quantize_file
from edgetf.formats.write import write_graph
from edgetf.models.families import family_of
from edgetf.stages.probes import OPSET, WORDS, probe_model

SCHEMES: tuple[Scheme, ...] = ("fp32", "w8a8_dynamic")  # what every runtime runs without texts to calibrate by
SUFFIX: dict[Format, str] = {"onnx": ".onnx", "tflite": ".tflite"}


@dataclass(frozen=True)
class Architecture:
    """A random encoder: `ffn` neurons a layer, timed at each of `lengths` tokens."""

    layers: int
    width: int
    heads: int
    ffn: int
    lengths: tuple[int, ...]
    family: str = "bert"

    @property
    def name(self) -> str:
        """Such as `bert-4x256-h4-f1024`."""
        return f"{self.family}-{self.layers}x{self.width}-h{self.heads}-f{self.ffn}"


PROBES = (
    Architecture(2, 128, 2, 512, (16, 64, 256)),
    Architecture(8, 128, 4, 256, (24, 96, 192)),
    Architecture(4, 192, 3, 768, (32, 128, 256)),
    Architecture(1, 256, 4, 1024, (16, 48, 192)),
    Architecture(6, 256, 8, 512, (24, 64, 256)),
    Architecture(3, 384, 12, 1536, (16, 96, 192)),
    Architecture(8, 384, 6, 768, (32, 64, 128)),
    Architecture(2, 512, 8, 2048, (24, 128, 256)),
    Architecture(6, 512, 8, 1024, (16, 48, 96)),
    Architecture(3, 640, 10, 2560, (32, 64, 192)),
    Architecture(2, 768, 24, 1536, (24, 96, 256)),
    Architecture(6, 768, 12, 3072, (16, 48, 128)),
)


def config_of(architecture: Architecture) -> dict[str, Any]:
    """Its Hugging Face config."""
    family = family_of(architecture.family)
    sizes = {
        family.num_hidden_layers: architecture.layers,
        family.hidden_size: architecture.width,
        family.num_attention_heads: architecture.heads,
        family.intermediate_size: architecture.ffn,
    }
    most = max(512, *architecture.lengths)
    return {"model_type": architecture.family, "vocab_size": WORDS, "max_position_embeddings": most + 2,
            "pad_token_id": 0, **sizes}  # fmt: skip


def write_probe(architecture: Architecture, model_format: Format, folder: Path) -> dict[Scheme, Path]:
    """Write one in every scheme, with the exact rewrites; gives the files.

    Raises:
        ParityError: torch, the converter or the quantizer cannot write it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    layer = (architecture.heads, architecture.ffn)
    model = probe_model(config_of(architecture), [layer] * architecture.layers)
    files = {scheme: folder / f"{architecture.name}-{scheme}{SUFFIX[model_format]}" for scheme in SCHEMES}
    write_graph(model, model_format, files["fp32"], OPSET, architecture.lengths, rewrite=True)
    for scheme in SCHEMES[1:]:
        quantize_file(model_format, files["fp32"], files[scheme], Quantization(scheme))
    return files
