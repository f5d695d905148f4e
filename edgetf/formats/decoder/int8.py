"""A decoder in int8 with activations scaled anew for every input; the embedding as int8 rows, stored once.

onnxruntime's dynamic quantization writes the products. It knows no product with a transposed weight, so a tied output
layer is first given its own copy; afterwards the embedding reads the columns of that one, and its own table goes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edgetf.core.errors import needs
from edgetf.core.quiet import quiet
from edgetf.formats.decoder.reads import Read
from edgetf.formats.onnx_files import save_onnx


def quantize_int8(model: Any, reads: list[Read]) -> Any:
    """The model with these reads of weights quantized."""
    with needs("compress"), quiet():
        import onnx
        from onnx import helper, numpy_helper
        from onnxruntime.quantization import QuantType, quantize_dynamic
    constants = {item.name: item for item in model.graph.initializer}
    products = [read for read in reads if read.kind == "product"]
    tied = {}
    for read in products:
        if read.rows_out and read.node.op_type != "Gemm":
            copy = f"{read.weight}_Transposed"
            model.graph.initializer.append(
                numpy_helper.from_array(numpy_helper.to_array(constants[read.weight]).T.copy(), copy)
            )
            if read.turned is not None:
                model.graph.node.remove(read.turned)
            read.node.CopyFrom(helper.make_node("MatMul", [read.node.input[0], copy], read.node.output, read.node.name))
            tied[read.weight] = copy
    with tempfile.TemporaryDirectory() as folder, quiet():
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        save_onnx(model, before)
        quantize_dynamic(
            before,
            after,
            ["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=[read.node.name for read in products],
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
        )
        made = onnx.load(str(after))
    for read in reads:
        if read.kind == "table":
            _by_rows(made, read, tied.get(read.weight))
    used = {name for node in made.graph.node for name in node.input}
    left = [item for item in made.graph.initializer if item.name in used]
    del made.graph.initializer[:]
    made.graph.initializer.extend(left)
    return made


def _by_rows(model: Any, read: Read, shared: str | None) -> None:
    """Give the rows of a table as int8 times a scale; `shared` is the output layer's weight (H, V), where tied."""
    from onnx import helper, numpy_helper

    constants = {item.name: item for item in model.graph.initializer}
    stem, ids, out = read.weight, read.node.input[1], read.node.output[0]
    nodes = []
    if shared is not None:
        rows, scales = f"{stem}/rows", f"{shared}_scale"
        nodes.append(helper.make_node("Transpose", [f"{shared}_quantized"], [rows], perm=[1, 0]))
    else:
        table = numpy_helper.to_array(constants[stem])
        sizes = np.maximum(np.abs(table).max(axis=1) / 127, np.float32(1e-12)).astype(np.float32)
        rows, scales = f"{stem}_quantized", f"{stem}_scale"
        stored = {rows: np.rint(table / sizes[:, None]).astype(np.int8), scales: sizes}
        model.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in stored.items())
    axis = helper.make_tensor(f"{stem}/last_axis", 7, [1], [-1])
    nodes += [
        helper.make_node("Gather", [rows, ids], [f"{out}/codes"], read.node.name),
        helper.make_node("Cast", [f"{out}/codes"], [f"{out}/float"], to=1),
        helper.make_node("Gather", [scales, ids], [f"{out}/scales"]),
        helper.make_node("Constant", [], [f"{stem}/last_axis"], value=axis),
        helper.make_node("Unsqueeze", [f"{out}/scales", f"{stem}/last_axis"], [f"{out}/scales_column"]),
        helper.make_node("Mul", [f"{out}/float", f"{out}/scales_column"], [out]),
    ]
    place = next(index for index, node in enumerate(model.graph.node) if out in node.output)
    rest = [*model.graph.node[:place], *nodes, *model.graph.node[place + 1 :]]
    copies = [type(node).FromString(node.SerializeToString()) for node in rest]
    del model.graph.node[:]
    model.graph.node.extend(copies)
