"""The old tflite-runtime: a file is judged by what that runtime answers, not by what LiteRT does with it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Cli
from tiny import random_batch, tiny_classifier, tiny_rows, tiny_tokenizer

from edgetf.core.artifact import Artifact, Spec, seal
from edgetf.core.device import load_device
from edgetf.core.errors import DeviceError, ParityError
from edgetf.core.schemes import Scheme
from edgetf.formats.quantization import Feed, Quantization
from edgetf.formats.quantize import quantize_file
from edgetf.runtime.model import Model
from edgetf.targets import side
from edgetf.validation.golden import runtime_logits, write_golden
from edgetf.validation.row import Settings
from edgetf.validation.validate import validate

pytest.importorskip("litert_torch", reason="needs edgetf[tflite]")
pytestmark = pytest.mark.slow

LENGTHS = (8, 16)
TEXTS = [text for text, _ in tiny_rows(12, seed=0)]
OLD, QUICK = load_device("host_tflite_runtime"), Settings(samples=30)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The environment, made by pip as a user's would be, for this process and for the commands it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGETF_CACHE", str(tmp_path_factory.mktemp("environments")))
        try:
            made = Path(side.runner_command({side.BACKEND})[0])
        except DeviceError as error:
            pytest.skip(str(error))
        patch.setenv(side.VARIABLE, str(made))
        yield made


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT as an fp32 file."""
    from edgetf.formats.tflite import export_tflite
    from edgetf.models.checkpoint import load_classifier

    folder = tmp_path_factory.mktemp("bert")
    export_tflite(load_classifier(tiny_classifier("bert", folder)), folder / "model.tflite", LENGTHS)
    return folder / "model.tflite"


def feeds() -> Iterator[Feed]:
    for seed in range(8):
        yield random_batch(1, 12, 0, seed).named(("input_ids", "attention_mask", "token_type_ids"))


def quantized(plain: Path, folder: Path, how: Quantization) -> Path:
    quantize_file("tflite", plain, folder / "quantized.tflite", how, feeds)
    return folder / "quantized.tflite"


def sealed(folder: Path, file: Path, scheme: Scheme) -> Artifact:
    """An artifact around a file, whose golden rows are LiteRT's."""

    def write(out: Path) -> tuple[Spec, float]:
        (out / "model.tflite").write_bytes(file.read_bytes())
        tiny_tokenizer(out)
        model = Model("m", out, "model.tflite", "litert", max(LENGTHS))
        logits = np.asarray(runtime_logits(model, TEXTS, None)["logits"])
        write_golden(out, TEXTS, None, model.encoder().pieces(TEXTS), logits, logits)
        details: dict[str, Any] = {"max_length": max(LENGTHS), "long_texts": "truncate", "pad_id": 0}
        return Spec("tflite", "model.tflite", params=1, scheme=scheme, details=details), 0.1

    return seal(folder, stage="quantize", key="k", parents=[], made={}, write=write)


def test_the_runtime_has_an_environment_of_its_own(python: Path) -> None:
    code = "import numpy, tflite_runtime, tokenizers; print(numpy.__version__, tflite_runtime.__version__)"
    said = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert said[0].startswith("1.")
    assert said[1] == "2.14.0"


@pytest.mark.parametrize("scheme", ["fp32", "fp16", "w8"])
def test_float_arithmetic_passes(python: Path, plain: Path, tmp_path: Path, scheme: Scheme) -> None:
    file = plain if scheme == "fp32" else quantized(plain, tmp_path, Quantization(scheme))
    row = validate(sealed(tmp_path / "v", file, scheme), OLD, None, {"latency_p50_ms": 1e4}, QUICK)
    assert (row.verdict, row.problems) == ("pass", [])
    assert row.n == 30
    assert row.load_ms is not None


@pytest.mark.parametrize("scheme", ["w8a8_dynamic", "w8a8", "w8a16"])
def test_a_scale_for_each_tensor_passes(python: Path, plain: Path, tmp_path: Path, scheme: Scheme) -> None:
    file = quantized(plain, tmp_path, Quantization(scheme, "per_tensor"))
    row = validate(sealed(tmp_path / "v", file, scheme), OLD, None, {}, QUICK)
    assert (row.verdict, row.problems) == ("pass", [])


@pytest.mark.parametrize("scheme", ["w8a8_dynamic", "w8a8", "w8a16"])
def test_a_scale_for_each_channel_is_caught_as_wrong(python: Path, plain: Path, tmp_path: Path, scheme: Scheme) -> None:
    """Right in LiteRT, and no error in the old runtime: only its answers tell."""
    artifact = sealed(tmp_path / "v", quantized(plain, tmp_path, Quantization(scheme)), scheme)
    assert validate(artifact, load_device("host"), None, {}, QUICK).verdict == "pass"
    row = validate(artifact, OLD, None, {}, QUICK)
    assert row.verdict == "fail"
    assert "parity: " in row.problems[0]
    assert "golden" in row.problems[0]


def test_int4_is_refused_before_it_runs_and_a_line_if_it_does(python: Path, plain: Path, tmp_path: Path) -> None:
    artifact = sealed(tmp_path / "v", quantized(plain, tmp_path, Quantization("w4")), "w4")
    row = validate(artifact, OLD, None, {}, QUICK)
    assert row.verdict == "not_measured"
    assert "w4 is not run by tflite_runtime" in row.why[0]
    model = Model("m", artifact.path, "model.tflite", "tflite_runtime", max(LENGTHS))
    with pytest.raises(ParityError, match=r"tflite-runtime .* an op .*EMBEDDING_LOOKUP"):
        runtime_logits(model, TEXTS, None)


def test_a_file_that_ends_the_process_is_one_message(cli: Cli, python: Path, plain: Path, tmp_path: Path) -> None:
    """ai-edge-quantizer's own static recipe quantizes every operator; LiteRT runs its file, the old runtime aborts."""
    from ai_edge_quantizer import quantizer, recipe

    feed = {name: rows.astype(np.int32) for name, rows in next(feeds()).items()}
    data = {f"seq_{n}": [{name: np.resize(rows, (1, n)) for name, rows in feed.items()}] for n in LENGTHS}
    worker = quantizer.Quantizer(str(plain), recipe.static_wi8_ai8())
    ranges = worker.calibrate(data, num_threads=1)
    worker.quantize(ranges, enable_progress_report=False).export_model(str(tmp_path / "static.tflite"))

    shutil.copyfile(plain.parent / "tokenizer.json", tmp_path / "tokenizer.json")
    in_litert = Model("m", tmp_path, "static.tflite", "litert", max(LENGTHS))
    assert np.isin(np.asarray(runtime_logits(in_litert, TEXTS, None)["logits"]), np.arange(-128, 128)).all()

    artifact = sealed(tmp_path / "v", plain, "w8a8")
    manifest = json.loads((artifact.path / "manifest.json").read_text())
    broken = (tmp_path / "static.tflite").read_bytes()
    (artifact.path / "model.tflite").write_bytes(broken)
    for entry in manifest["files"]:
        if entry["path"] == "model.tflite":
            entry |= {"sha256": hashlib.sha256(broken).hexdigest(), "size_bytes": len(broken)}
    (artifact.path / "manifest.json").write_text(json.dumps(manifest))
    done = cli("validate", artifact.path, "--device", "host_tflite_runtime")
    assert done.returncode in (4, 5), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "runner ended" in done.stderr


def test_a_failed_pip_is_exit_code_4(cli: Cli, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(side.VARIABLE, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    done = cli("validate", sealed(tmp_path / "v", plain, "fp32").path, "--device", "host_tflite_runtime")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "tflite_runtime: not available" in done.stderr
    assert side.VARIABLE in done.stderr


def test_speedup_is_not_measured_beside_another_process(python: Path, plain: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from edgetf.validation.evaluation import Evaluation, write_evaluation

    own = sealed(tmp_path / "v", plain, "fp32")
    model = Model("m", own.path, "model.tflite", "litert", max(LENGTHS))
    logits = np.asarray(runtime_logits(model, TEXTS, None)["logits"])

    teacher = sealed(tmp_path / "teacher", plain, "fp32")
    write_evaluation(teacher.path, Evaluation(TEXTS, None, logits.argmax(axis=1), logits))
    row = validate(own, OLD, teacher, {"agreement": 1.0, "speedup": 2.0}, QUICK)
    assert (row.speedup, row.reference) == (None, None)
    assert row.latency_p50_ms is not None
    assert {check["key"]: check["verdict"] for check in row.checks} == {"agreement": "pass", "speedup": "not_measured"}
    assert sum("another process" in why for why in row.why) == 1
    without = validate(own, OLD, teacher, {"agreement": 1.0}, QUICK)
    assert any(why.startswith("speedup: not measured (tflite_runtime runs in another process") for why in without.why)
