"""ONNX files by NNCF, for those who want its algorithms: `w8a8` with its SmoothQuant, and `w8` weights.

Its defaults for Transformers are taken. Its SmoothQuant adds a multiplication ahead of products, and all calibration
rows are kept in memory: on a CPU these files were slower than onnxruntime's (benchmarks/quantization.py).
Its INT4 is left out: it writes the embedding as a product, which onnxruntime does not open (seen with NNCF 3.4).
"""

from __future__ import annotations

from pathlib import Path

from edgetf.core.errors import ParityError, needs
from edgetf.core.quiet import quiet
from edgetf.formats.onnx_quantize import kept_names
from edgetf.formats.quantization import Feeds, Quantization


def quantize_nncf(source: Path, path: Path, how: Quantization, feeds: Feeds | None = None) -> None:
    """Write `source` in a scheme to `path`; `feeds` are the calibration rows, for `w8a8`.

    Raises:
        ParityError: NNCF cannot write it.
    """
    with needs("nncf"), quiet():
        import nncf
        import onnx
    model = onnx.load(str(source))
    ignored = nncf.IgnoredScope(names=kept_names(model, how.keep_float))
    try:
        with quiet():
            match how.scheme:
                case "w8a8":
                    rows = list(feeds()) if feeds else []
                    settings = {"model_type": nncf.ModelType.TRANSFORMER, "subset_size": max(1, len(rows))}
                    made = nncf.quantize(model, nncf.Dataset(rows), ignored_scope=ignored, **settings)
                case _:
                    made = nncf.compress_weights(model, ignored_scope=ignored)
            del made.graph.value_info[:]
            onnx.save(made, str(path))
    except Exception as error:  # the library raises many kinds, none of its own
        reason = " ".join(str(error).split())[:300]
        raise ParityError(
            f"{how.scheme}: NNCF cannot write this model ({reason}); take quantize.writer=onnxruntime"
        ) from None
