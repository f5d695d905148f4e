"""TFLite files in every scheme, by ai-edge-quantizer. What of its recipes fits an encoder is decided here.

| scheme | weights of products and embeddings | activations |
|--|--|--|
| `fp16` | float16, made float32 when the file is opened | float32 |
| `w8a8_dynamic` | int8 | float32 in the file, int8 inside of the kernel |
| `w8a8`, `w8a16` | int8 | int8 or int16 around products, float32 elsewhere |
| `w8` | int8, made float32 when the file is opened | float32 |
| `w4` | int4 in blocks of 32, embeddings too; int8 where a width is no multiple of 32 | as `w8a8_dynamic` |

Static schemes quantize products only. The library's `static_wi8_ai8` quantizes every operator but the embeddings:
LiteRT 2.2 runs that file, with logits as raw int8, and tflite-runtime 2.14 aborts the process.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from edgetf.core.errors import ParityError, needs
from edgetf.core.files import write_problem
from edgetf.core.quiet import quiet
from edgetf.core.schemes import GROUP
from edgetf.formats.quantization import Feeds, Quantization
from edgetf.formats.tflite_calibrate import activation_ranges
from edgetf.formats.tflite_graph import module_of, read_graph, tensor_name, weight_reads

PRODUCT, TABLE = "FULLY_CONNECTED", "EMBEDDING_LOOKUP"


def quantize_tflite(source: Path, path: Path, how: Quantization, feeds: Feeds | None = None) -> None:
    """Write `source` in a scheme to `path`; `feeds` are the calibration rows, for the schemes that need them.

    Raises:
        ParityError: ai-edge-quantizer cannot write it, or a static scheme got no rows.
    """
    with needs("tflite"), quiet():
        from ai_edge_quantizer import quantizer
    model = read_graph(source)
    recipe = _recipe(how, model)
    with quiet():
        ranges = _ranges(source, how, feeds)
        try:
            worker = quantizer.Quantizer(str(source), recipe)
            worker.quantize(ranges, enable_progress_report=False).export_model(str(path), overwrite=True)
        except Exception as error:  # the library raises many kinds, none of its own
            if write_problem(error):
                raise
            reason = " ".join(str(error).split())[:300]
            raise ParityError(f"{how.scheme}: ai-edge-quantizer cannot write this file ({reason})") from error
    path.chmod(source.stat().st_mode & 0o777)  # the library makes it executable


def _ranges(source: Path, how: Quantization, feeds: Feeds | None) -> Any:
    """What activations of products range over, for the static schemes."""
    if how.scheme not in ("w8a8", "w8a16"):
        return None
    if feeds is None:
        raise ParityError(f"{how.scheme}: needs calibration rows, got none; give the stage its training rows")
    return activation_ranges(source, how, feeds, PRODUCT)


def _recipe(how: Quantization, model: Any) -> list[dict[str, Any]]:
    """The library's recipe: a rule for each kind of operator, then exceptions by the names of what operators give."""
    from ai_edge_quantizer import qtyping, recipe_manager

    names, algorithms = qtyping.TFLOperationName, recipe_manager.AlgorithmName
    grains, manager = qtyping.QuantGranularity, recipe_manager.RecipeManager()
    grain = grains.TENSORWISE if how.granularity == "per_tensor" else grains.CHANNELWISE
    for kind in (names(PRODUCT), names(TABLE)):
        match how.scheme:
            case "w8a8" | "w8a16" if kind == PRODUCT:
                manager.add_static_config(".*", kind, 8 if how.scheme == "w8a8" else 16, 8, grain)
            case "w8a8_dynamic" | "w8a8" | "w8a16":
                manager.add_dynamic_config(".*", kind, 8, grain)
            case "w8":
                manager.add_weight_only_config(".*", kind, 8, grain)
            case "w4":
                manager.add_dynamic_config(".*", kind, 4, grains.BLOCKWISE_32)
                for scope in _scopes(model, lambda _, weight: weight.shape[-1] % GROUP != 0):
                    manager.add_dynamic_config(scope, kind, 8, grains.CHANNELWISE)
            case "fp16":
                manager.add_weight_only_config(".*", kind, 16, grains.TENSORWISE, algorithms.FLOAT_CASTING)
            case _:
                raise ParityError(f"quantize.schemes: got {how.scheme}, which ai-edge-quantizer does not write")
    for scope in _scopes(model, lambda module, _: any(fnmatch(module, pattern) for pattern in how.keep_float)):
        manager.add_quantization_config(scope, names.ALL_SUPPORTED, None, algorithms.NO_QUANTIZE)
    recipe: list[dict[str, Any]] = manager.get_quantization_recipe()
    return recipe


def _scopes(model: Any, chosen: Callable[[str, Any], bool]) -> Iterator[str]:
    """Patterns for single operators, whose weight is chosen by its module path and itself, in every signature."""
    for subgraph in model.subgraphs:
        for op, weight in weight_reads(model, subgraph):
            if chosen(module_of(weight), weight):
                yield f"^{re.escape(tensor_name(subgraph.tensors[op.outputs[0]]))};?$"
