"""What is read out of a graph: operations and bytes, counted by hand on graphs that are small enough for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_graphs import CLASSES, WORDS, write_onnx, write_tflite

from edgetf.core.errors import ArtifactError
from edgetf.predict.ops import Op
from edgetf.predict.read import read_graph, scheme_of

onnx = pytest.importorskip("onnx", reason="needs edgetf[compress]")
IN, OUT, TOKENS = 8, 4, 5
FLOAT = np.ones((IN, OUT), dtype=np.float32)


def save(path: Path, nodes: list[Any], constants: dict[str, Any], opsets: dict[str, int] | None = None) -> Path:
    """A graph from `x` (batch, tokens, 8) to `y`."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "tokens", IN])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid(domain, version) for domain, version in {"": 20, **(opsets or {})}.items()]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), str(path))
    return path


def node(kind: str, inputs: list[str], output: str = "y", **about: Any) -> Any:
    return onnx.helper.make_node(kind, inputs, [output], **about)


def ops_of(path: Path, seq_len: int = TOKENS) -> dict[str, Op]:
    return {op.kind: op for op in read_graph(path, seq_len).ops}


def test_a_product_with_weights_counts_two_operations_a_multiply_add(tmp_path: Path) -> None:
    op = ops_of(save(tmp_path / "m.onnx", [node("MatMul", ["x", "w"])], {"w": FLOAT}))["MatMul"]
    assert op.group == "product" and op.dtype == "float"
    assert op.flops == 2 * TOKENS * IN * OUT
    assert op.weight_bytes == 4 * IN * OUT
    assert op.activation_bytes == 4 * TOKENS * (IN + OUT)
    assert op.elements == TOKENS * OUT


def test_a_product_of_two_activations_is_attention(tmp_path: Path) -> None:
    nodes = [node("Transpose", ["x"], "turned", perm=[0, 2, 1]), node("MatMul", ["x", "turned"], "scores"),
             node("Softmax", ["scores"])]  # fmt: skip
    ops = ops_of(save(tmp_path / "m.onnx", nodes, {}))
    assert ops["MatMul"].group == "attention"
    assert ops["MatMul"].flops == 2 * TOKENS * TOKENS * IN
    assert ops["MatMul"].weight_bytes == 0
    assert (ops["Transpose"].group, ops["Transpose"].elements) == ("layout", TOKENS * IN)
    assert (ops["Softmax"].group, ops["Softmax"].elements) == ("function", TOKENS * TOKENS)


def test_a_weight_that_is_dequantized_when_used_stays_a_weight_of_one_byte(tmp_path: Path) -> None:
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], "q"), node("DequantizeLinear", ["q", "s", "z"], "xf"),
        node("DequantizeLinear", ["w", "s", "wz"], "wf"), node("MatMul", ["xf", "wf"]),
    ]  # fmt: skip
    constants = {"w": FLOAT.astype(np.int8), "s": np.float32(1), "z": np.uint8(0), "wz": np.int8(0)}
    graph = read_graph(save(tmp_path / "m.onnx", nodes, constants), TOKENS)
    op = next(op for op in graph.ops if op.kind == "MatMul")
    assert (op.group, op.dtype, op.weight_bytes) == ("product", "int8", IN * OUT)
    assert graph.scheme == "w8a8"


def test_rounding_by_the_input_is_another_scheme_than_by_a_fixed_scale(tmp_path: Path) -> None:
    from onnx import helper

    rounded = helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])
    nodes = [
        rounded,
        node("MatMulInteger", ["q", "w", "z"], "n"),
        node("Cast", ["n"], "f", to=1),
        node("Mul", ["f", "s"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"w": FLOAT.astype(np.int8)})
    ops = ops_of(path)
    assert ops["MatMulInteger"].flops == 2 * TOKENS * IN * OUT
    assert ops["MatMulInteger"].weight_bytes == IN * OUT
    assert {ops["DynamicQuantizeLinear"].group, ops["Cast"].group} == {"rounding"}
    assert read_graph(path, TOKENS).scheme == "w8a8_dynamic"


def test_operators_of_onnxruntime_have_shapes_too(tmp_path: Path) -> None:
    about = {"K": 32, "N": OUT, "bits": 4, "block_size": 32, "domain": "com.microsoft"}
    wide = np.ones((IN, 32), dtype=np.float32)
    blocks = {"b": np.zeros((OUT, 1, 16), dtype=np.uint8), "s": np.ones((OUT, 1), dtype=np.float32)}
    nodes = [node("MatMul", ["x", "w"], "h"), node("MatMulNBits", ["h", "b", "s"], "p", **about),
             node("FastGelu", ["p"], "g", domain="com.microsoft"), node("Relu", ["g"])]  # fmt: skip
    ops = ops_of(save(tmp_path / "m.onnx", nodes, {"w": wide, **blocks}, {"com.microsoft": 1}))
    assert ops["MatMulNBits"].flops == 2 * TOKENS * 32 * OUT
    assert ops["MatMulNBits"].weight_bytes == OUT * 16 + OUT * 4  # half a byte a weight, and a float32 scale a block
    assert ops["MatMulNBits"].dtype == "int4"
    assert (ops["FastGelu"].group, ops["Relu"].elements) == ("function", TOKENS * OUT)


def test_a_length_that_the_graph_asks_for_is_the_one_that_was_given(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], "tokens", start=1, end=2), node("Slice", ["table", "zero", "tokens"], "rows"),
        node("Add", ["x", "rows"]),
    ]  # fmt: skip
    constants = {"table": np.ones((512, IN), dtype=np.float32), "zero": np.array([0])}
    ops = ops_of(save(tmp_path / "m.onnx", nodes, constants), seq_len=9)
    assert (ops["Slice"].elements, ops["Add"].elements) == (9 * IN, 9 * IN)


def test_a_shape_that_nobody_can_know_is_refused(tmp_path: Path) -> None:
    nodes = [node("NonZero", ["x"], "n"), node("Cast", ["n"], to=1)]
    with pytest.raises(ArtifactError, match="depends on more than batch and length"):
        read_graph(save(tmp_path / "m.onnx", nodes, {}), TOKENS)


def test_both_formats_of_one_model_read_alike(tmp_path: Path) -> None:
    as_onnx = ops_of(write_onnx(tmp_path / "m.onnx"), seq_len=8)
    graph = read_graph(write_tflite(tmp_path / "m.tflite"), 5)
    assert graph.seq_len == 8  # its shortest length that holds five
    as_tflite = {op.kind: op for op in graph.ops}
    for one, other in (("Gather", "GATHER"), ("Mul", "MUL"), ("Div", "DIV"), ("Add", "ADD")):
        assert as_onnx[one].elements == as_tflite[other].elements
        assert as_onnx[one].group == as_tflite[other].group
    assert as_tflite["GATHER"].elements == 8 * CLASSES
    assert WORDS * CLASSES * 4 not in {op.activation_bytes for op in graph.ops}  # a table is not read whole


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
@pytest.mark.parametrize("left", [0, 7, 300])
def test_a_cut_file_is_one_clear_error(tmp_path: Path, suffix: str, left: int) -> None:
    whole = (write_onnx if suffix == ".onnx" else write_tflite)(tmp_path / f"whole{suffix}")
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[:left])
    with pytest.raises(ArtifactError, match="cut"):
        read_graph(cut, 4)


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="allowed: .onnx, .tflite"):
        read_graph(tmp_path / "model.bin", 4)


def product(dtype: str, flops: float, kind: str = "MatMulInteger") -> Op:
    return Op(kind, "product", flops, 1.0, 1.0, 1, dtype)


def test_a_file_of_several_schemes_is_called_mixed() -> None:
    assert scheme_of([product("int8", 95.0), product("float", 5.0, "MatMul")]) == "w8a8_dynamic"
    assert scheme_of([product("int8", 80.0), product("float", 20.0, "MatMul")]) == "mixed"
