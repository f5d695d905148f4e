"""The commands that measure a file know a decoder, and show what a decoder is measured by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_decoder import artifact, exported
from tiny_graphs import write_onnx

from edgetf.commands.asked import Asked
from edgetf.commands.bench import bench_command
from edgetf.commands.inspect import inspect_command
from edgetf.commands.predict import predict_command
from edgetf.commands.reports import Reports
from edgetf.commands.validate import validate_command
from edgetf.core.errors import ConfigError, DeviceError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported decoder without golden tokens or a teacher."""
    return artifact(exported("llama"), tmp_path_factory.mktemp("run") / "onnx-fp32").path


def said(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_bench_times_a_decoder_at_its_contexts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = Asked(folder, "host", against=folder, seq_lens=(8, 16, 9999), samples=30)
    assert bench_command(asked, as_json=True) == 0
    found = said(capsys)
    assert [entry["context"] for entry in found["decoding"]] == [8, 16, 504]  # cut to what it can hold
    for entry in found["decoding"]:
        assert entry["decode_tokens_per_s"] == pytest.approx(1e3 / entry["decode_p50_ms"], rel=1e-3)
        assert len(entry["samples_ms"]) == 30
        assert entry["reference"]["name"] == "onnx-fp32"
        assert 0 < entry["roofline"]["share"] < 1
    assert found["speedup_ci95"][0] < found["speedup"] * 1.001


def test_bench_says_it_in_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_command(Asked(folder / "model.onnx", "host", seq_lens=(8,), samples=30), as_json=False) == 0
    text = capsys.readouterr().out
    assert "behind 8 tokens: " in text
    assert "tokens/s, the roof of reading" in text
    assert "times as fast" not in text


def test_bench_refuses_minutes_of_a_decoder(folder: Path) -> None:
    with pytest.raises(ConfigError, match="a decoder is timed a token at a time"):
        bench_command(Asked(folder, "host", sustained=1.0), as_json=False)


def test_bench_compares_two_of_a_kind(folder: Path, tmp_path: Path) -> None:
    other = write_onnx(tmp_path / "model.onnx")
    with pytest.raises(ConfigError, match="is not a language model"):
        bench_command(Asked(folder, "host", against=other), as_json=False)


def test_predict_gives_tokens_a_second_with_an_interval(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict_command(folder, "raspberry_pi_5", [16, 64], None, as_json=True) == 0
    found = said(capsys)
    assert found["how"] == "predicted"
    for model, context in zip(found["models"], (16, 64), strict=True):
        low, high = model["interval_tokens_per_s"]
        assert (model["context"], low < model["decode_tokens_per_s"] < high) == (context, True)
    predict_command(folder, "raspberry_pi_5", [16], None, as_json=False)
    text = capsys.readouterr().out
    assert "onnx-fp32: predicted " in text
    assert "nothing was measured now" in text


def test_predict_refuses_a_device_of_which_nothing_is_known(folder: Path) -> None:
    with pytest.raises(DeviceError, match="no decode_bandwidth"):
        predict_command(folder, "pixel_6", [], None, as_json=False)


def test_validate_refuses_a_budget_of_an_encoder(folder: Path) -> None:
    with pytest.raises(ConfigError, match="accuracy: not measured for language_modeling"):
        validate_command(folder, ["host"], ["accuracy=0.9"], None, (1, 30, []), Reports())


def test_validate_shows_a_decoder(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    reports = Reports(junit=tmp_path / "r.xml", markdown=tmp_path / "r.md")
    timing = (1, 30, [8])
    assert validate_command(folder, ["host"], ["size_mib=5", "decode_tokens_per_s=1"], None, timing, reports) == 0
    shown = capfd.readouterr().out
    assert "tokens a second behind so many others" in shown
    assert "| onnx-fp32 | host |" in (tmp_path / "r.md").read_text(encoding="utf-8")
    assert 'name="decode_tokens_per_s"' in (tmp_path / "r.xml").read_text(encoding="utf-8")


def test_inspect_shows_the_shape_of_a_decoder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect_command(folder, as_json=False) == 0
    assert "num_key_value_heads 2" in capsys.readouterr().out
    assert inspect_command(folder.parent, as_json=False) == 0
    assert "perplexity" in capsys.readouterr().out
