"""TFLite files in every scheme, by ai-edge-quantizer."""

from __future__ import annotations

from pathlib import Path

from edgetf.core.errors import ParityError, needs
from edgetf.core.quiet import quiet
from edgetf.formats.quantization import Feeds, Quantization


def quantize_tflite(source: Path, path: Path, how: Quantization, feeds: Feeds | None = None) -> None:
    """Write `source` in a scheme to `path`; `feeds` are the calibration rows, for the schemes that need them.

    Raises:
        ParityError: ai-edge-quantizer cannot write it.
    """
    with needs("tflite"), quiet():
        from ai_edge_quantizer import quantizer, recipe
    if how.scheme != "w8a8_dynamic":
        raise ParityError(f"{how.scheme}: not written as TFLite yet")
    with quiet():
        worker = quantizer.Quantizer(str(source), recipe.dynamic_wi8_afp32())
        worker.quantize(enable_progress_report=False).export_model(str(path), overwrite=True)
