"""The bytes of a token of files that the exporters write: what the weights of the model take in that scheme."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_decoder import FACTS

from edgetf.config.language.models import LlamaShape
from edgetf.core.decoder import DecoderFacts
from edgetf.predict.decode_bytes import token_cost

TOKENS, WIDTH = 512, 64
SHAPE = LlamaShape(
    hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, intermediate_size=128
)
WRITTEN = replace(
    FACTS, num_hidden_layers=1, head_dim=16, hidden_size=WIDTH, vocab_size=TOKENS, max_length=64, thetas=(10_000.0,)
)
BYTES = {  # of a weight, with its scale: float16 for a block of TFLite, float32 for one of ONNX Runtime
    "onnx": {"fp32": 4.0, "w8": 1 + 4 / 32, "w4": 0.5 + 4 / 32 + 0.5 / 32},  # … and for w4 a zero point of 4 bits
    "tflite": {"fp32": 4.0, "w4": 0.5 + 2 / 32},
}


def written(folder: Path, model_format: str) -> tuple[dict[str, Path], int]:
    """A tiny Llama in the schemes of a format, and its number of weights; its output layer is its embedding."""
    from edgetf.models.decoders.students import llama

    model = llama(SHAPE, TOKENS, 64, 0).eval()
    files = {scheme: folder / f"{scheme}.{model_format}" for scheme in BYTES[model_format]}
    if model_format == "onnx":
        from edgetf.formats.decoder.fused import write_fused
        from edgetf.formats.decoder.quantize import quantize_decoder as quantize

        write_fused(model, WRITTEN, files["fp32"], 20, 64)
    else:
        pytest.importorskip("litert_torch", reason="needs edgetf[tflite]")
        from edgetf.formats.decoder.tflite import write_tflite
        from edgetf.formats.decoder.tflite_quantize import quantize_tflite as quantize

        write_tflite(model, WRITTEN, files["fp32"], (8,), 64)
    for scheme in list(files)[1:]:
        quantize(files["fp32"], files[scheme], scheme)
    return files, sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize("model_format", BYTES)
def test_a_token_reads_every_weight_as_it_is_stored(tmp_path: Path, model_format: str) -> None:
    files, weights = written(tmp_path, model_format)
    facts: DecoderFacts = WRITTEN
    for scheme, file in files.items():
        found = token_cost(file, facts.cache_bytes_per_token)
        assert found.weight_bytes == pytest.approx(BYTES[model_format][scheme] * weights, rel=0.02), scheme
        assert found.ops > 10
