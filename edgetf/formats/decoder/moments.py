"""What the products of a decoder's graph read, on texts: the second moments that GPTQ goes by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import needs
from edgetf.formats.decoder.feeds import first_feed
from edgetf.formats.decoder.reads import Read
from edgetf.runtime.decode.session import Ids

BYTES = 1 << 30  # of moments in memory at a time


class Moments:
    """Σ x xᵀ (K, K) over all tokens of blocks (N, T), of every value that a product of `reads` multiplies.

    As many as `BYTES` hold are taken in one pass over the texts, when the first of them is asked for; they are asked
    for in the order of the graph. A weight that is looked up too is left out, see `edgetf.formats.decoder.quantize`.
    """

    def __init__(self, source: Path, model: Any, reads: Sequence[Read], facts: DecoderFacts, blocks: Ids) -> None:
        self._source, self._facts, self._blocks = source, facts, blocks
        tables = {read.weight for read in reads if read.kind == "table"}
        shapes = {item.name: tuple(item.dims) for item in model.graph.initializer}
        self._widths = {
            read.node.input[0]: shapes[read.weight][1 if read.rows_out else 0]
            for read in reads
            if read.weight not in tables
        }
        self._held: dict[str, NDArray[np.float32]] = {}

    def of(self, name: str) -> NDArray[np.float32]:
        """The moments of a value."""
        if name not in self._held:
            self._held = {}  # before the next ones take their room
            self._held = self._taken(self._fitting(name))
        return self._held[name]

    def _fitting(self, first: str) -> list[str]:
        """This value and those after it, as far as there is room."""
        names, room = list(self._widths), BYTES
        chosen: list[str] = []
        for name in names[names.index(first) :]:
            room -= 4 * self._widths[name] ** 2
            if chosen and room < 0:
                break
            chosen.append(name)
        return chosen

    def _taken(self, names: list[str]) -> dict[str, NDArray[np.float32]]:
        session = _watching(self._source, names)
        found: dict[str, NDArray[np.float32]] = {}
        for block in self._blocks:
            values = session.run(names, first_feed(session, self._facts, block))
            for name, value in zip(names, values, strict=True):
                rows = value.reshape(-1, value.shape[-1]).astype(np.float32)
                found[name] = found.get(name, 0) + rows.T @ rows
        return found


def _watching(source: Path, names: list[str]) -> Any:
    """A session of a file that gives these values, and works out nothing else."""
    with needs("compress"):
        import onnx
        import onnxruntime as ort
    from onnx import TensorProto, helper

    watched = onnx.load(str(source), load_external_data=False)
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC  # keeps the watched values
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(source.parent))
    return ort.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
