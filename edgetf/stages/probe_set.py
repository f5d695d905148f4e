"""Writing one of the probes of `probe_shapes`, once for a format and then in every scheme.

The vocabulary is short, because a table costs a read a token, whatever its length.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgetf.core.schemes import Format, Scheme
from edgetf.formats.quantization import Quantization
from edgetf.formats.quantize import quantize_file
from edgetf.formats.write import write_graph
from edgetf.models.families import family_of
from edgetf.stages.probe_shapes import PROBE_SCHEMES, Architecture
from edgetf.stages.probes import OPSET, SUFFIX, WORDS, probe_model


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
    files = {scheme: folder / f"{architecture.name}-{scheme}{SUFFIX[model_format]}" for scheme in PROBE_SCHEMES}
    write_graph(model, model_format, files["fp32"], OPSET, architecture.lengths, rewrite=True)
    for scheme in PROBE_SCHEMES[1:]:
        quantize_file(model_format, files["fp32"], files[scheme], Quantization(scheme))
    return files
