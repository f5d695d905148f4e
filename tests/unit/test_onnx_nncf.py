"""ONNX files by NNCF, for those who ask for it: right, quantized, and with what is to stay in float."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nncf", reason="needs edgetf[nncf]")

from exported import Exported, trained
from pydantic import ValidationError

from edgetf.config.quantization import QuantizeConfig
from edgetf.core.artifact import Artifact, seal
from edgetf.core.device import load_device
from edgetf.core.schemes import Scheme
from edgetf.formats.quantization import Quantization
from edgetf.pipeline.settings import quantization
from edgetf.stages import quantize


@pytest.fixture(scope="module")
def source() -> Exported:
    return trained()


def made(source: Exported, folder: Path, scheme: Scheme, **settings: Any) -> Artifact:
    """What the quantize stage makes of the trained file, with all of its gates."""
    how = Quantization(scheme, writer="nncf", **settings)
    feeds = source.feeds() if scheme == "w8a8" else None
    return seal(
        folder, stage="quantize", key="k", parents=[source.artifact], made={},
        write=lambda out: quantize.run(how, source.artifact, source.context, out, feeds),
    )  # fmt: skip


@pytest.mark.parametrize("scheme", ["w8a8", "w8"])
def test_a_file_is_quantized_and_answers_as_the_model_does(source: Exported, tmp_path: Path, scheme: Scheme) -> None:
    found = made(source, tmp_path / "out", scheme).spec.details
    assert found["quantization"]["writer"] == "nncf"
    assert found["quantized_share"] >= 0.9
    assert found["parity"]["cosine"] > 0.99


def test_what_is_to_stay_in_float_does(source: Exported, tmp_path: Path) -> None:
    whole, part = (
        made(source, tmp_path / name, "w8", keep_float=kept).spec.details["quantized_share"]
        for name, kept in (("whole", ()), ("part", ("*.layer.0.*",)))
    )
    assert part == pytest.approx(whole - 6 / 17, abs=0.01)


def test_other_schemes_are_refused() -> None:
    with pytest.raises(ValidationError, match="writer: nncf does not write w4, fp16; allowed: w8a8, w8"):
        QuantizeConfig(schemes=("w8", "w4", "fp16"), writer="nncf")


def test_tflite_and_the_ladders_dynamic_rung_keep_their_own_writers() -> None:
    stage, host = QuantizeConfig(accuracy_drop=0.01, writer="nncf"), [load_device("host")]
    writers = [
        quantization(stage, scheme, model_format, host).writer
        for scheme, model_format in (("w8a8", "onnx"), ("w8a8_dynamic", "onnx"), ("w8a8", "tflite"))
    ]
    assert writers == ["nncf", "onnxruntime", "onnxruntime"]
