"""TFLite files of decoders in the schemes that make decoding faster, by ai-edge-quantizer.

| scheme | products and embedding | inside the kernel |
|--|--|--|
| `w8a8_dynamic` | int8, a scale for each output | int8 activations, scaled anew for every token |
| `w4` | int4 in blocks of 32; int8 where a width is no multiple of 32 | as `w8a8_dynamic` |
| `w8` | int8, a scale for each output | float32: made so when the file is opened, so it saves no memory there |

A tied embedding is read by two operators and stays one table. The library passes over what it cannot write without a
word (its int8 in blocks quantizes nothing at all), so the file that comes out is looked into.
"""

from __future__ import annotations

from fnmatch import fnmatch
from math import prod
from pathlib import Path

from edgetf.core.errors import ParityError
from edgetf.core.schemes import Scheme
from edgetf.formats import tflite_quantize
from edgetf.formats.quantization import Quantization
from edgetf.formats.tflite_graph import module_of, read_graph, type_name, weight_reads

SCHEMES: tuple[Scheme, ...] = ("w8a8_dynamic", "w8", "w4")
VOCABULARY = ("*.embed_tokens", "*.lm_head")  # modules of the embedding and the output layer
_SMALL = ("int8", "int4")


def quantize_tflite(source: Path, target: Path, scheme: Scheme, embeddings: bool = True) -> float:
    """Write `source` in a scheme; gives the share of its weights that are now quantized.

    Raises:
        ParityError: the scheme is not one for decoders, or weights that should be quantized are not.
    """
    if scheme not in SCHEMES:
        raise ParityError(f"quantize.schemes: got {scheme}, allowed for decoders: {', '.join(SCHEMES)}")
    kept = () if embeddings else VOCABULARY
    unfinished = target.with_name(f"{target.name}.part")
    try:
        tflite_quantize.quantize_tflite(source, unfinished, Quantization(scheme, keep_float=kept))
        share = _share(unfinished, scheme, kept)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return share


def _share(file: Path, scheme: Scheme, kept: tuple[str, ...]) -> float:
    """The share of the numbers in weights that are stored in 8 bits or less, of all signatures."""
    model = read_graph(file)
    small: dict[int, int] = {}
    large: dict[int, int] = {}
    for subgraph in model.subgraphs:
        for _, weight in weight_reads(model, subgraph):
            is_small = type_name(weight) in _SMALL
            (small if is_small else large)[weight.buffer] = prod(int(size) for size in weight.shape)
            name = module_of(weight)
            if not is_small and not any(fnmatch(name, pattern) for pattern in kept):
                raise ParityError(
                    f"tflite-{scheme}: ai-edge-quantizer left the weight of {name} in {type_name(weight)}; "
                    "take another scheme, or embeddings=false where it is the embedding"
                )
    total = sum(small.values()) + sum(large.values())
    if not small:
        raise ParityError(f"tflite-{scheme}: no operator of this graph reads a weight that can be quantized")
    return sum(small.values()) / total
