"""Tokens a second that memory allows: bytes counted in the file, the device's bandwidth, an interval, and the word."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgetf.core.decoder import DecoderFacts
from edgetf.core.device import load_device
from edgetf.core.errors import ArtifactError, DeviceError
from edgetf.core.hardware import DecodeBandwidth
from edgetf.predict.decode import forecast_decode, predict_decode
from edgetf.predict.decode_bytes import TokenCost, token_cost

TOKENS, WIDTH = 40, 8
FACTS = DecoderFacts(1, 2, 1, 4, WIDTH, TOKENS, 64)
TINY_LLAMA = 1_100_048_384 - 32_000 * 2048  # weights that a token reads; its embedding is not tied
LLAMA_3B = 3_212_749_824  # tied, read whole


def decoder_file(path: Path, tied: bool = True, int8: bool = False, cache: bool = True) -> Path:
    """A graph of one lookup and one product, in which the output layer is the embedding or a matrix of its own."""
    table = np.ones((TOKENS, WIDTH), dtype=np.int8 if int8 else np.float32)
    stored = [numpy_helper.from_array(table, "table")]
    nodes, words = [], "table"
    if int8:
        stored += [numpy_helper.from_array(np.ones(TOKENS, np.float32), "scale")]
        nodes += [helper.make_node("DequantizeLinear", ["table", "scale"], ["words"], axis=0)]
        words = "words"
    nodes += [helper.make_node("Gather", [words, "input_ids"], ["x"])]
    if tied:
        nodes += [helper.make_node("Transpose", [words], ["head"], perm=[1, 0])]
    else:
        stored += [numpy_helper.from_array(np.ones((WIDTH, TOKENS), np.float32), "head")]
    nodes += [helper.make_node("MatMul", ["x", "head"], ["logits"])]
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "T"])]
    if cache:
        inputs += [helper.make_tensor_value_info("past_key_values.0.key", TensorProto.FLOAT, [1, 1, "P", 4])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, "T", TOKENS])]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, stored)), str(path))
    return path


@pytest.mark.parametrize(
    ("tied", "int8", "wanted"),
    [
        (True, False, TOKENS * WIDTH * 4),  # the table once, though it is used twice
        (False, False, WIDTH * 4 + TOKENS * WIDTH * 4),  # a row of it, and the matrix
        (True, True, TOKENS * WIDTH + TOKENS * 4),  # as it is stored, with its scales
        (False, True, WIDTH + 4 + TOKENS * WIDTH * 4),
    ],
)
def test_a_token_reads_weights_once_and_a_row_of_the_embedding(
    tmp_path: Path, tied: bool, int8: bool, wanted: int
) -> None:
    assert token_cost(decoder_file(tmp_path / "model.onnx", tied, int8), 0.0).weight_bytes == wanted


def test_the_cache_is_read_too(tmp_path: Path) -> None:
    found = token_cost(decoder_file(tmp_path / "model.onnx"), FACTS.cache_bytes_per_token)
    assert found.bytes_at(100) == found.weight_bytes + 100 * FACTS.cache_bytes_per_token


def test_a_file_without_a_cache_does_not_write(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no past_key_values"):
        token_cost(decoder_file(tmp_path / "model.onnx", cache=False), 0.0)


@pytest.mark.parametrize("content", [b"", b"not a model"])
def test_a_file_that_is_no_model_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model\.onnx"):
        token_cost(path, 0.0)


@pytest.mark.parametrize(
    ("device", "weights", "bits", "low", "high"),
    [  # published tokens a second, as far as their digits go
        ("raspberry_pi_4", TINY_LLAMA, 8.5, 2.5, 3.5),
        ("raspberry_pi_4", TINY_LLAMA, 16, 1.5, 2.5),
        ("raspberry_pi_4", LLAMA_3B, 5.03, 1.595, 1.605),  # a Pi 400
        ("raspberry_pi_5", TINY_LLAMA, 8.5, 8.5, 9.5),
        ("raspberry_pi_5", TINY_LLAMA, 16, 4.5, 5.5),
        ("raspberry_pi_5", LLAMA_3B, 5.03, 4.61, 5.55),  # 8 GB, 16 GB, Pi 500+
        ("jetson_orin_nano", LLAMA_3B, 4.5, 27.65, 43.15),  # without and with the Super modes
        ("jetson_agx_orin", 6_607_343_616, 16, 11.85, 11.95),
    ],
)
def test_what_was_published_lies_in_the_interval_of_its_device(
    device: str, weights: int, bits: float, low: float, high: float
) -> None:
    seen = load_device(device).decode_bandwidth
    assert seen is not None
    found = predict_decode(TokenCost(weights * bits / 8, 0.0, 1000), seen, 0)
    assert found.low <= high
    assert low <= found.high
    assert found.low <= (low + high) / 2 <= found.high


def test_the_operators_of_a_tiny_model_bound_it_where_its_bytes_do_not() -> None:
    seen = DecodeBandwidth(low_gb_per_s=10, high_gb_per_s=10, source="a document")
    few, many = (predict_decode(TokenCost(1e5, 0.0, ops), seen, 0) for ops in (10, 1000))
    assert many.tokens_per_s < few.tokens_per_s
    assert many.high / many.low > few.high / few.low  # what an operator costs is known less well


def test_a_longer_context_is_slower() -> None:
    seen = DecodeBandwidth(low_gb_per_s=10, high_gb_per_s=12, source="a document")
    rates = [predict_decode(TokenCost(1e8, 1e5, 10), seen, context).tokens_per_s for context in (32, 128, 512)]
    assert rates == sorted(rates, reverse=True)


def test_a_device_of_which_nothing_is_known_is_refused(tmp_path: Path) -> None:
    path = decoder_file(tmp_path / "model.onnx")
    with pytest.raises(DeviceError, match="no decode_bandwidth"):
        forecast_decode(path, FACTS, load_device("pixel_6"), 32)


def test_a_forecast_says_its_interval_and_where_it_comes_from(tmp_path: Path) -> None:
    found = forecast_decode(decoder_file(tmp_path / "model.onnx"), FACTS, load_device("raspberry_pi_5"), 32).to_json()
    low, high = found["interval_tokens_per_s"]
    assert low < found["decode_tokens_per_s"] < high
    assert "geerlingguy/ai-benchmarks" in found["bandwidth"]["source"]
    json.dumps(found)


def test_a_range_that_descends_is_refused() -> None:
    with pytest.raises(ValueError, match="above high_gb_per_s"):
        DecodeBandwidth(low_gb_per_s=3, high_gb_per_s=2, source="a document")
