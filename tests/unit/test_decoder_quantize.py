"""Quantized decoders are small, hold a tied embedding once, and still say nearly the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tiny_decoders import tiny_decoder

from edgetf.algorithms.block_codes import encode_blocks
from edgetf.config.language.stages import LanguageExportConfig
from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ParityError
from edgetf.core.schemes import Scheme
from edgetf.formats.decoder.onnx import write_onnx
from edgetf.formats.decoder.quantize import BlockWise, Calibration, quantize_decoder
from edgetf.formats.quantize import stored_errors
from edgetf.models.decoders.facts import decoder_facts
from edgetf.runtime.decode.load import open_decoder

IDS = np.random.default_rng(1).integers(0, 300, 30)
SCHEMES: tuple[Scheme, ...] = ("w8", "w4", "w8a8_dynamic")
MOST = {"w8": 0.1, "w4": 0.7, "w8a8_dynamic": 0.12}  # change of the logits over their size, for such random weights


def exported(folder: Path, family: str = "llama", fuse: bool = True, **changes: Any) -> tuple[Path, DecoderFacts]:
    model = tiny_decoder(family, **({} if family == "gpt2" else {"head_dim": 16}), **changes)
    model.config.save_pretrained(folder)
    facts, path = decoder_facts(folder), folder / "model.onnx"
    write_onnx(model, facts, path, LanguageExportConfig(fuse=fuse), lambda: IDS[None], lambda _: None)
    return path, facts


def change(plain: Path, other: Path, facts: DecoderFacts) -> float:
    """How far logits of a file are from another's, over their size."""
    sessions = [open_decoder(path.parent, path.name, facts, "ort", 1) for path in (plain, other)]
    wanted, found = (session.run(IDS, session.start())[0] for session in sessions)
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {"tie_word_embeddings": True}),
        ("llama", {"tie_word_embeddings": False}),
        ("llama", {"hidden_size": 40, "intermediate_size": 56}),  # no multiples of a block
        ("gemma3_text", {}),
    ],
)
def test_every_scheme_keeps_what_the_model_says(
    scheme: Scheme, family: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    plain, facts = exported(tmp_path, family, **changes)
    share = quantize_decoder(plain, tmp_path / "small.onnx", scheme)
    assert share > 0.95
    assert change(plain, tmp_path / "small.onnx", facts) < MOST[scheme]
    errors = stored_errors("onnx", plain, tmp_path / "small.onnx")
    weights = {item.name for item in onnx.load(plain).graph.initializer if len(item.dims) == 2 and item.dims[0] > 1}
    assert set(errors) == weights
    assert 0 < max(errors.values()) < (0.15 if scheme == "w4" else 0.02)


def test_a_plain_graph_is_quantized_too(tmp_path: Path) -> None:
    plain, facts = exported(tmp_path, "gpt2", n_layer=1)
    for scheme in SCHEMES:
        quantize_decoder(plain, tmp_path / "small.onnx", scheme)
        assert change(plain, tmp_path / "small.onnx", facts) < MOST[scheme]
        assert "model.lm_head.weight" not in {
            item.name for item in onnx.load(tmp_path / "small.onnx").graph.initializer
        }


@pytest.mark.parametrize(("scheme", "most"), [("w4", 0.2), ("w8", 0.32), ("w8a8_dynamic", 0.3)])
def test_a_tied_embedding_is_stored_once(scheme: Scheme, most: float, tmp_path: Path) -> None:
    plain, _ = exported(tmp_path, vocab_size=4000, num_hidden_layers=1, hidden_size=64)
    quantize_decoder(plain, tmp_path / "small.onnx", scheme)
    assert (tmp_path / "small.onnx").stat().st_size < most * plain.stat().st_size


@pytest.mark.parametrize(("tokens", "bits"), [(300, 8), (4000, 4)])
def test_a_small_embedding_has_eight_bits_among_four(tokens: int, bits: int, tmp_path: Path) -> None:
    plain, facts = exported(tmp_path, vocab_size=tokens, hidden_size=64, intermediate_size=256)
    quantize_decoder(plain, tmp_path / "small.onnx", "w4")
    names = {item.name for item in onnx.load(tmp_path / "small.onnx").graph.initializer}
    assert f"model.embed_tokens.weight_Q{bits}" in names
    assert change(plain, tmp_path / "small.onnx", facts) < MOST["w4"]


def test_calibrated_codes_are_nearer_to_what_the_model_says(tmp_path: Path) -> None:
    plain, facts = exported(tmp_path, hidden_size=64, intermediate_size=256)
    texts = np.random.default_rng(1).integers(3, facts.vocab_size, size=(24, 32))
    found = []
    for calibration in (None, Calibration(facts, texts)):
        quantize_decoder(plain, tmp_path / "small.onnx", "w4", True, BlockWise(4, calibration))
        found.append(change(plain, tmp_path / "small.onnx", facts))
    assert found[1] < found[0]


def test_the_embedding_and_the_output_layer_can_stay_as_they_are(tmp_path: Path) -> None:
    plain, facts = exported(tmp_path)
    for scheme in SCHEMES:
        small = tmp_path / f"{scheme}.onnx"
        share = quantize_decoder(plain, small, scheme, embeddings=False)
        assert 0.3 < share < 0.9
        assert "model.embed_tokens.weight" in {item.name for item in onnx.load(small).graph.initializer}
        assert change(plain, small, facts) < MOST[scheme]


def test_a_scheme_that_is_not_for_decoders_is_refused(tmp_path: Path) -> None:
    plain, _ = exported(tmp_path, num_hidden_layers=1)
    with pytest.raises(ParityError, match="allowed for decoders"):
        quantize_decoder(plain, tmp_path / "small.onnx", "w8a16")


def test_codes_are_nearer_than_those_of_the_largest_weight() -> None:
    weight = np.random.default_rng(0).normal(size=(64, 96)).astype(np.float32)
    blocks = weight.reshape(64, 3, 32)
    scales = np.abs(blocks).max(-1, keepdims=True) / 7
    rounded = (np.rint(blocks / scales) * scales).reshape(64, 96)
    found = encode_blocks(weight, 4, 32).weights()
    assert np.linalg.norm(found - weight) < 0.85 * np.linalg.norm(rounded - weight)


@pytest.mark.parametrize("bits", [4, 8])
def test_what_codes_can_hold_exactly_they_do(bits: int) -> None:
    largest = 1 << (bits - 1)
    weight = np.arange(-largest, largest, dtype=np.float32)[None].repeat(2, axis=0) * np.float32(0.25)
    np.testing.assert_array_equal(encode_blocks(weight, bits, 2 * largest).weights(), weight)
    np.testing.assert_array_equal(encode_blocks(np.zeros((2, 40), np.float32), bits, 32).weights(), np.zeros((2, 40)))
