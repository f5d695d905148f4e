"""A graph under construction: operators and constants in the order they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetf.core.errors import needs
from edgetf.formats.onnx_files import save_onnx

MICROSOFT = "com.microsoft"


class Graph:
    """Collects operators; every call of `op` gives the name of the first output."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    def op(
        self, kind: str, inputs: list[str], outputs: str | list[str], domain: str = "", name: str = "", **settings: Any
    ) -> str:
        """Add an operator, called `name` or like its first output."""
        from onnx import helper

        names = [outputs] if isinstance(outputs, str) else outputs
        self.nodes.append(
            helper.make_node(kind, inputs, names, name or f"{names[0]}/{kind}", domain=domain, **settings)
        )
        return names[0]

    def constant(self, name: str, values: NDArray[Any] | np.generic) -> str:
        """Add a constant, once."""
        from onnx import numpy_helper

        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.array(values, order="C"), name)
        return name

    def value(self, name: str, kind: type, shape: list[int | str]) -> Any:
        """The description of an input or an output."""
        from onnx import helper

        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape)

    def save(self, path: Path, opset: int) -> None:
        """Write the file."""
        with needs("compress"):
            from onnx import helper
        graph = helper.make_graph(self.nodes, "decoder", self.inputs, self.outputs, list(self.constants.values()))
        imports = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=imports, producer_name="edgetf", ir_version=10)
        save_onnx(model, path)
