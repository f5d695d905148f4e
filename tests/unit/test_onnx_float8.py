"""FP8 files: written as TensorRT takes them, and answering as the same rounding does in numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from exported import answers, exported, quantized
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tiny import FAMILY_NAMES

from edgetf.algorithms.float8 import LARGEST, decode, encode, quantize_dequantize, scales
from edgetf.core.errors import ParityError
from edgetf.core.schemes import Granularity
from edgetf.formats.onnx_calibrate import activation_ranges
from edgetf.formats.onnx_float8 import quantize_float8
from edgetf.formats.onnx_quantize import readers
from edgetf.formats.quantization import Quantization
from edgetf.formats.quantize import quantize_file

every_family = pytest.mark.parametrize("family", FAMILY_NAMES)
either = pytest.mark.parametrize("granularity", ["per_tensor", "per_channel"])
Array = NDArray[np.float32]


def fp8(granularity: Granularity = "per_tensor") -> Quantization:
    return Quantization("fp8_e4m3", granularity)


def products_of(model: Any) -> list[Any]:
    return [node for node in readers(model) if node.op_type != "Gather"]


def made_by(graph: Any) -> dict[str, Any]:
    return {name: node for node in graph.node for name in node.output}


class TestStructure:
    @either
    @every_family
    def test_is_valid_onnx(self, family: str, granularity: Granularity) -> None:
        onnx.checker.check_model(onnx.load(str(quantized(family, fp8(granularity)))), full_check=True)

    @either
    @every_family
    def test_every_product_reads_two_rounded_numbers(self, family: str, granularity: Granularity) -> None:
        graph = onnx.load(str(quantized(family, fp8(granularity)))).graph
        wanted = {node.name for node in products_of(onnx.load(str(exported(family).path)))}
        before = made_by(graph)
        found = {node.name for node in graph.node if node.op_type in {"MatMul", "Gemm"}
                 and [before[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2}  # fmt: skip
        assert found == wanted

    @every_family
    def test_weights_are_stored_activations_are_rounded_on_the_way(self, family: str) -> None:
        graph = onnx.load(str(quantized(family, fp8()))).graph
        before, constants = made_by(graph), {item.name: item for item in graph.initializer}
        for node in graph.node:
            if node.op_type in {"MatMul", "Gemm"} and before[node.input[1]].op_type == "DequantizeLinear":
                activation, weight = (before[name] for name in node.input[:2])
                assert before[activation.input[0]].op_type == "QuantizeLinear"
                assert before[activation.input[0]].input[1:] == activation.input[1:]  # there and back by one scale
                assert constants[weight.input[0]].data_type == TensorProto.FLOAT8E4M3FN

    @every_family
    def test_zero_points_are_zeros_in_float8(self, family: str) -> None:
        graph = onnx.load(str(quantized(family, fp8()))).graph
        constants = {item.name: item for item in graph.initializer}
        rounding = [node for node in graph.node if node.op_type == "QuantizeLinear"]
        assert rounding
        for node in rounding:
            zero = constants[node.input[2]]
            assert zero.data_type == TensorProto.FLOAT8E4M3FN and list(zero.dims) == [] and zero.raw_data == b"\0"

    @either
    @every_family
    def test_biases_norms_and_tables_stay_as_they_are(self, family: str, granularity: Granularity) -> None:
        before = {item.name: item for item in onnx.load(str(exported(family).path)).graph.initializer}
        after = {item.name: item for item in onnx.load(str(quantized(family, fp8(granularity)))).graph.initializer}
        weights = {f"{node.name}.weight" for node in products_of(onnx.load(str(exported(family).path)))}
        assert set(before) - set(after) == weights
        for name in set(before) - weights:
            assert after[name].SerializeToString() == before[name].SerializeToString()
        assert any(name.endswith(".bias") for name in after)

    @either
    def test_a_value_that_three_products_read_is_rounded_once(self, granularity: Granularity) -> None:
        """Query, key and value read the same hidden states."""
        graph = onnx.load(str(quantized("bert", fp8(granularity)))).graph
        rounded = [node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"]
        assert len(rounded) == len(set(rounded))
        products = products_of(onnx.load(str(exported("bert").path)))
        assert len(rounded) == len({node.input[0] for node in products}) < len(products)

    def test_an_older_opset_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ParityError, match="export.opset: got 18, allowed for fp8_e4m3: 19 or more"):
            source = exported("distilbert", 18)
            quantize_file("onnx", source.path, tmp_path / "fp8.onnx", fp8(), source.feeds())
        assert not list(tmp_path.iterdir())


class TestScales:
    @every_family
    def test_of_weights_are_the_largest_over_448(self, family: str) -> None:
        source = {item.name: item for item in onnx.load(str(exported(family).path)).graph.initializer}
        found = {item.name: item for item in onnx.load(str(quantized(family, fp8()))).graph.initializer}
        names = [name.removesuffix("_float8") for name in found if name.endswith("_float8")]
        assert len(names) == len(products_of(onnx.load(str(exported(family).path))))
        for name in names:
            values = numpy_helper.to_array(source[name])
            scale = numpy_helper.to_array(found[f"{name}_scale"])
            assert scale == np.float32(np.abs(values).max() / LARGEST)
            codes = np.frombuffer(found[f"{name}_float8"].raw_data, np.uint8).reshape(values.shape)
            assert np.abs(decode(codes)).max() == LARGEST
            np.testing.assert_allclose(decode(codes) * scale, values, rtol=1 / 16, atol=float(scale) * 2**-10)

    def test_of_channels_are_each_channels_largest(self) -> None:
        source = {item.name: item for item in onnx.load(str(exported("bert").path)).graph.initializer}
        found = {item.name: item for item in onnx.load(str(quantized("bert", fp8("per_channel")))).graph.initializer}
        for name, axis in (("model.bert.encoder.layer.0.intermediate.dense.weight", 0), ("model.classifier.weight", 1)):
            largest = np.abs(numpy_helper.to_array(source[name])).max(axis=axis)  # a Gemm's rows are its channels
            assert len(largest) == (64 if axis == 0 else 3)
            np.testing.assert_array_equal(numpy_helper.to_array(found[f"{name}_scale"]), largest / np.float32(LARGEST))

    @every_family
    def test_of_activations_are_the_largest_seen_over_448(self, family: str) -> None:
        source = exported(family)
        model = onnx.load(str(source.path))
        values = list({node.input[0]: None for node in products_of(model)})
        seen = activation_ranges(model, values, source.feeds(), "min_max", 256)
        found = {item.name: item for item in onnx.load(str(quantized(family, fp8()))).graph.initializer}
        for name in values:
            scale = float(numpy_helper.to_array(found[f"{name}_scale"]))
            assert scale == pytest.approx(max(-seen[name][0], seen[name][1]) / LARGEST, rel=1e-6)

    def test_of_a_value_that_is_always_zero_is_one(self, tmp_path: Path) -> None:
        made = tiny_graph([helper.make_node("MatMul", ["x", "w"], ["y"], "product")])
        quantize_float8(made, readers(made), {"x": (0.0, 0.0)}, "per_tensor")
        assert answers_of(made, np.zeros((2, 4), np.float32)).tolist() == [[0.0] * 3] * 2


def tiny_graph(nodes: list[Any], opset: int = 20) -> Any:
    """A graph from x (2, 4) to y, with a weight w (4, 3)."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 3])
    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32), "w")
    graph = helper.make_graph(nodes, "graph", [x], [y], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def answers_of(model: Any, x: Array) -> Array:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


class TestRelu:
    """onnxruntime drops a Relu ahead of a rounding whose zero point is zero."""

    def test_what_is_negative_does_not_go_on(self) -> None:
        nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("MatMul", ["r", "w"], ["y"], "product")]
        model = tiny_graph(nodes)
        x = np.random.default_rng(1).normal(size=(8, 4)).astype(np.float32)
        made = quantize_float8(model, readers(model), {"r": (0.0, float(x.max()))}, "per_tensor")
        onnx.checker.check_model(made, full_check=True)
        plain = answers_of(tiny_graph(nodes), x)
        np.testing.assert_allclose(answers_of(made, x), plain, atol=0.15 * np.abs(plain).max())

    @pytest.mark.parametrize("family", ["distilbert", "mobilebert"])
    def test_no_family_has_one_ahead_of_a_rounding(self, family: str) -> None:
        graph = onnx.load(str(quantized(family, fp8()))).graph
        before = made_by(graph)
        rounded = [before[node.input[0]].op_type for node in graph.node if node.op_type == "QuantizeLinear"]
        assert "Max" in rounded and "Relu" not in rounded


def with_rounded_weights(source: Path, granularity: Granularity) -> Any:
    """The fp32 graph, whose products' weights are what numpy's rounding leaves of them, as plain constants."""
    model = onnx.load(str(source))
    constants = {item.name: item for item in model.graph.initializer}
    for node in products_of(model):
        item = constants[node.input[1]]
        values = numpy_helper.to_array(item)
        turned = any(setting.name == "transB" and setting.i for setting in node.attribute)
        axis = None if granularity == "per_tensor" else 0 if turned else 1
        item.CopyFrom(numpy_helper.from_array(quantize_dequantize(values, scales(values, axis), axis), item.name))
    return model


@either
@every_family
def test_answers_are_those_of_the_same_rounding_in_numpy(family: str, granularity: Granularity) -> None:
    """The graph is run product by product: each reads numbers that numpy has rounded."""
    source, path = exported(family), quantized(family, fp8(granularity))
    found = {item.name: numpy_helper.to_array(item) for item in onnx.load(str(path)).graph.initializer
             if item.name.endswith("_scale")}  # fmt: skip
    model = with_rounded_weights(source.path, granularity)
    cut: dict[str, Array] = {}
    values = list({node.input[0]: None for node in products_of(model)})
    batch = source.encoder.batch([pieces[0] for pieces in source.encoder.pieces(["rain and storm", "a goal today"])])
    feed = batch.named(source.artifact.spec.details["inputs"])
    for name in values:
        cut[name] = rounded_by_numpy(run_with(model, feed, cut, name), found[f"{name}_scale"])
    logits = run_with(model, feed, cut, "logits")
    np.testing.assert_allclose(answers(path, batch), logits, rtol=0, atol=2e-3 * np.abs(logits).max())


def rounded_by_numpy(values: Array, scale: Array) -> Array:
    return decode(encode(values / scale)) * scale


def run_with(model: Any, feed: dict[str, Any], cut: dict[str, Array], name: str) -> Array:
    """A value of the graph, where products read these numbers in place of those that were computed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in products_of(copy):
        if node.input[0] in cut:
            node.input[0] = f"{node.input[0]}_given"
    for value in cut:
        copy.graph.input.append(helper.make_tensor_value_info(f"{value}_given", TensorProto.FLOAT, None))
    if name not in [value.name for value in copy.graph.output]:
        copy.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
    given = {f"{value}_given": numbers for value, numbers in cut.items()}
    return np.asarray(session.run([name], {**feed, **given})[0])
