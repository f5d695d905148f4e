"""Writes the files by which an emulator is checked, see edgetf.runtime.selfcheck: run this file."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgetf.runtime.selfcheck import COLUMNS, FOLDER, INNER, ROWS, inputs, weights


def write_onnx(folder: Path) -> None:
    """One MatMul as fp32, and as the INT8 graph that ONNX Runtime's own quantizer makes of it."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "check",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [ROWS, INNER])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [ROWS, COLUMNS])],
        [numpy_helper.from_array(weights(), "w")],
    )
    fp32 = folder / "fp32.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), fp32)
    quantize_dynamic(fp32, folder / "int8.onnx", weight_type=QuantType.QInt8)


def write_tflite(folder: Path) -> None:
    """One fully connected layer as fp32, and as AI Edge Quantizer makes it INT8."""
    import litert_torch
    import torch
    from ai_edge_quantizer import quantizer, recipe

    layer: Any = torch.nn.Linear(INNER, COLUMNS, bias=False).eval()
    layer.weight.data = torch.from_numpy(weights().T.copy())
    fp32 = folder / "fp32.tflite"
    litert_torch.convert(layer, (torch.from_numpy(inputs()),)).export(str(fp32))
    made = quantizer.Quantizer(str(fp32))
    made.load_quantization_recipe(recipe.dynamic_wi8_afp32())
    made.quantize().export_model(str(folder / "int8.tflite"), overwrite=True)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with TemporaryDirectory() as work:
        write_onnx(Path(work))
        write_tflite(Path(work))
        for path in Path(work).iterdir():
            (FOLDER / path.name).write_bytes(path.read_bytes())


if __name__ == "__main__":
    main()
