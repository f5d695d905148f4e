"""What the products of a decoder's graph read, on texts: the second moments that GPTQ goes by."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import needs
from edgetf.formats.decoder.feeds import first_feed
from edgetf.formats.decoder.graph import save_model
from edgetf.formats.decoder.reads import Read
from edgetf.runtime.decode.session import Ids


def second_moments(
    model: Any, reads: Sequence[Read], facts: DecoderFacts, blocks: Ids
) -> dict[str, NDArray[np.float32]]:
    """Σ x xᵀ (K, K) over all tokens of blocks (N, T), of every value that a product of `reads` multiplies.

    A weight that is looked up too is left out, see `edgetf.formats.decoder.quantize`; with it goes its product's work.
    """
    with needs("compress"):
        import onnx
        import onnxruntime as ort
    from onnx import TensorProto, helper

    tables = {read.weight for read in reads if read.kind == "table"}
    names = sorted({read.node.input[0] for read in reads if read.weight not in tables})
    watched = onnx.ModelProto.FromString(model.SerializeToString())
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "watched.onnx"
        save_model(watched, path)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC  # keeps the watched values
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        found: dict[str, NDArray[np.float32]] = {}
        for block in blocks:
            feeds = first_feed(session, facts, block)
            for name, value in zip(names, session.run(names, feeds), strict=True):
                rows = value.reshape(-1, value.shape[-1]).astype(np.float32)
                found[name] = found.get(name, 0) + rows.T @ rows
    return found
