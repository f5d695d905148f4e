"""FP8 E4M3, bit for bit as ml_dtypes, torch and onnxruntime have it."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgetf.algorithms.float8 import LARGEST, decode, encode, quantize_dequantize, scales

CODES = np.arange(256, dtype=np.uint8)
Floats = NDArray[np.float32]


def numbers() -> Floats:
    """A million float32 of every exponent and sign, subnormals among them."""
    rng = np.random.default_rng(0)
    found = rng.integers(0, 2**32, size=1_000_000, dtype=np.uint32).view(np.float32)
    return found[~np.isnan(found)]


def in_range() -> Floats:
    """A million float32 of E4M3's exponents and a few smaller ones."""
    rng = np.random.default_rng(1)
    return (rng.choice([-1.0, 1.0], 1_000_000) * 2 ** rng.uniform(-13, 9, 1_000_000)).astype(np.float32)


def halves() -> Floats:
    """All float16 but NaN."""
    found = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
    return found[~np.isnan(found)]


def ties() -> Floats:
    """The middle between each two neighbours, and the numbers just beside it."""
    positive = decode(CODES[:0x7F])
    middle = (positive[1:] + positive[:-1]) / 2
    beside = [middle, np.nextafter(middle, np.float32(0)), np.nextafter(middle, np.float32(1000))]
    return np.concatenate([*beside, *(-part for part in beside)])


every_set = pytest.mark.parametrize(
    "values", [numbers(), in_range(), halves(), ties()], ids=["any", "in-range", "half", "ties"]
)


def by_ml_dtypes(values: Floats) -> NDArray[np.uint8]:
    """Its cast, of what is clipped first: it makes NaN of what is too large."""
    return values.clip(-LARGEST, LARGEST).astype(ml_dtypes.float8_e4m3fn).view(np.uint8)


def by_torch(values: Floats) -> NDArray[np.uint8]:
    clipped = torch.from_numpy(values.clip(-LARGEST, LARGEST))
    return clipped.to(torch.float8_e4m3fn).view(torch.uint8).numpy()


class TestCodes:
    def test_stand_for_the_same_numbers(self) -> None:
        ours, theirs = decode(CODES), CODES.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
        np.testing.assert_array_equal(ours.view(np.uint32)[~np.isnan(ours)], theirs.view(np.uint32)[~np.isnan(theirs)])
        assert np.isnan(ours).nonzero()[0].tolist() == np.isnan(theirs).nonzero()[0].tolist() == [0x7F, 0xFF]
        assert np.array_equal(ours, torch.from_numpy(CODES).view(torch.float8_e4m3fn).float().numpy(), equal_nan=True)

    def test_there_and_back(self) -> None:
        real = CODES[~np.isnan(decode(CODES))]
        np.testing.assert_array_equal(encode(decode(real)), real)

    @every_set
    def test_are_those_of_ml_dtypes_and_torch(self, values: Floats) -> None:
        codes = encode(values)
        assert len(np.unique(codes)) > 240
        np.testing.assert_array_equal(codes, by_ml_dtypes(values))
        np.testing.assert_array_equal(codes, by_torch(values))

    def test_saturate_where_a_plain_cast_gives_nan(self) -> None:
        values = np.array([448.0, 463.9, 464.0, 464.1, 1e30, np.inf], dtype=np.float32)
        values = np.concatenate([values, -values])
        assert encode(values).tolist() == [0x7E] * 6 + [0xFE] * 6
        cast = values.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
        assert cast.tolist() == [0x7E] * 3 + [0x7F] * 3 + [0xFE] * 3 + [0xFF] * 3

    def test_nan_is_nan(self) -> None:
        values = np.array([np.nan, -np.nan], dtype=np.float32)
        assert encode(values).tolist() == [0x7F, 0x7F]
        assert np.isnan(decode(encode(values))).all()

    def test_keep_the_sign_of_zero_and_of_what_becomes_zero(self) -> None:
        values = np.array([0.0, -0.0, 1e-30, -1e-30, 2.0**-10, -(2.0**-10)], dtype=np.float32)
        assert encode(values).tolist() == [0x00, 0x80] * 3


def by_onnxruntime(values: Floats, scale: Floats, axis: int) -> tuple[NDArray[np.uint8], Floats]:
    """What QuantizeLinear and DequantizeLinear give: the codes and the numbers."""
    zero = helper.make_tensor("zero", TensorProto.FLOAT8E4M3FN, list(scale.shape), bytes(scale.size), raw=True)
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"], axis=axis, saturate=1),
            helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["y"], axis=axis),
        ],
        "float8",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, values.shape)],
        [
            helper.make_tensor_value_info("codes", TensorProto.FLOAT8E4M3FN, values.shape),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, values.shape),
        ],
        [numpy_helper.from_array(scale, "scale"), zero],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    codes, y = session.run_with_ort_values(None, {"x": onnxruntime.OrtValue.ortvalue_from_numpy(values)})
    return np.asarray(codes.numpy()).view(np.uint8), y.numpy()


class TestSimulation:
    @pytest.mark.parametrize("axis", [None, 0, 1])
    def test_is_what_onnxruntime_computes(self, axis: int | None) -> None:
        rng = np.random.default_rng(2)
        values = (rng.normal(size=(64, 48)) * 10 ** rng.uniform(-5, 3, (64, 1))).astype(np.float32)
        scale = scales(values, axis)
        wide = scale if axis is None else scale.reshape((-1, 1) if axis == 0 else (1, -1))
        codes, numbers = by_onnxruntime(values, scale, axis or 0)
        np.testing.assert_array_equal(encode(values / wide), codes)
        ours = quantize_dequantize(values, scale, axis)
        np.testing.assert_array_equal(ours.view(np.uint32), numbers.view(np.uint32))
        assert 0 < np.abs(ours - values).max() < np.abs(values).max() / 16

    def test_saturates_under_a_scale_that_is_too_small(self) -> None:
        values = np.array([1.0, 500.0, -1e4, np.inf], dtype=np.float32)
        scale = np.float32(0.5)
        codes, numbers = by_onnxruntime(values, np.asarray(scale), 0)
        assert encode(values / scale).tolist() == codes.tolist()
        assert quantize_dequantize(values, scale).tolist() == numbers.tolist() == [1.0, 224.0, -224.0, 224.0]

    def test_a_scale_for_each_channel_keeps_small_ones(self) -> None:
        values = np.stack([np.linspace(0.5, 1, 32), 1e-6 * np.linspace(0.5, 1, 32)]).astype(np.float32)
        whole = quantize_dequantize(values, scales(values))
        each = quantize_dequantize(values, scales(values, axis=0), axis=0)
        assert not whole[1].any()
        np.testing.assert_allclose(each, values, rtol=1 / 16)

    def test_the_largest_stays_whatever_its_size(self) -> None:
        for size in (1e-38, 1.7e-5, 1.0, 3e38):
            values = np.array([size, -size / 3], dtype=np.float32)
            np.testing.assert_allclose(quantize_dequantize(values, scales(values)), values, rtol=1 / 16)

    def test_what_is_too_small_for_a_scale_becomes_zero(self) -> None:
        values = np.array([1e-44, -1e-45], dtype=np.float32)
        assert scales(values) > 0
        assert quantize_dequantize(values, scales(values)).tolist() == [0.0, 0.0]

    def test_of_zeros_is_zeros(self) -> None:
        values = np.zeros((3, 2), dtype=np.float32)
        assert scales(values, axis=1).tolist() == [1.0, 1.0]
        assert not quantize_dequantize(values, scales(values)).any()

    @pytest.mark.parametrize("bad", [np.inf, np.nan])
    def test_no_scale_for_what_is_not_finite(self, bad: float) -> None:
        with pytest.raises(ValueError, match="float8: infinity or NaN among the values, allowed: finite numbers"):
            scales(np.array([1.0, bad]))
