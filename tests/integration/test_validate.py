"""Validation and the other commands on a finished run."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import Cli, TinyRun

from edgetf.core.artifact import MANIFEST
from edgetf.validation.golden import read_golden


@pytest.fixture
def variant(tiny_run: TinyRun, tmp_path: Path) -> Path:
    """A copy of the INT8 ONNX variant, with its reference beside it, that a test may damage."""
    for name in ("onnx-w8a8_dynamic", "teacher-onnx-fp32"):
        shutil.copytree(tiny_run.folder / name, tmp_path / name)
    return tmp_path / "onnx-w8a8_dynamic"


def reseal(folder: Path, name: str) -> None:
    """Make the manifest agree with a changed file, as someone who tampers would."""
    manifest = json.loads((folder / MANIFEST).read_text())
    content = (folder / name).read_bytes()
    for entry in manifest["files"]:
        if entry["path"] == name:
            entry |= {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["onnx-w8a8_dynamic", "tflite-w8a8_dynamic", "onnx-fp32", "tflite-fp32"])
def test_kept_budget_is_exit_code_0(cli: Cli, tiny_run: TinyRun, tmp_path: Path, name: str) -> None:
    junit, markdown = tmp_path / "out.xml", tmp_path / "out.md"
    done = cli("validate", tiny_run.folder / name, "--device", "host", "--budget", "accuracy_drop=0.3",
               "--junit", junit, "--markdown", markdown, "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["verdict"] == "pass"
    row = document["devices"][0]
    assert row["peak_rss_bytes"] > 10_000_000
    assert row["load_ms"] > 0
    suite = ElementTree.parse(junit).getroot().find("testsuite")
    assert suite is not None and suite.get("tests") == "2" and suite.get("failures") == "0"
    assert name in markdown.read_text()


def test_missed_budget_is_exit_code_1(cli: Cli, tiny_run: TinyRun, tmp_path: Path) -> None:
    junit = tmp_path / "out.xml"
    words = ["--budget", "size_mib=0.000001", "--budget", "accuracy=0.1", "--junit", junit]
    done = cli("validate", tiny_run.folder / "onnx-w8a8_dynamic", *words)
    assert done.returncode == 1
    assert "size_mib" in done.stdout and "missed" in done.stdout
    failed = ElementTree.parse(junit).getroot().findall(".//testcase[failure]")
    assert [case.get("name") for case in failed] == ["size_mib"]


def test_changed_file_is_exit_code_3(cli: Cli, variant: Path) -> None:
    model = variant / "model.onnx"
    model.write_bytes(model.read_bytes()[:-10] + b"0123456789")
    done = cli("validate", variant)
    assert done.returncode == 3
    assert "changed since it was sealed" in done.stderr


def test_file_that_is_no_model_is_exit_code_3(cli: Cli, variant: Path) -> None:
    (variant / "model.onnx").write_bytes(b"not a model")
    reseal(variant, "model.onnx")
    done = cli("validate", variant)
    assert done.returncode == 3
    assert "cannot open it" in done.stderr
    assert "Traceback" not in done.stderr


def break_scale(path: Path) -> None:
    """Multiply one quantization scale by 50, as a broken exporter would."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    for item in model.graph.initializer:
        array = numpy_helper.to_array(item)
        if item.name.endswith("_scale") and array.size > 1:
            item.CopyFrom(numpy_helper.from_array((array * 50).astype(array.dtype), item.name))
    onnx.save(model, path)


def test_broken_scale_is_exit_code_5(cli: Cli, variant: Path) -> None:
    break_scale(variant / "model.onnx")
    reseal(variant, "model.onnx")
    done = cli("validate", variant)
    assert done.returncode == 5, done.stdout + done.stderr
    assert "parity" in done.stdout


def test_nan_weights_are_exit_code_5(cli: Cli, variant: Path) -> None:
    import onnx
    from onnx import numpy_helper

    path = variant / "model.onnx"
    model = onnx.load(path)
    for item in model.graph.initializer:
        if item.name.endswith("LayerNorm.weight"):
            item.CopyFrom(numpy_helper.from_array(np.full(item.dims, np.nan, np.float32), item.name))
    onnx.save(model, path)
    reseal(variant, "model.onnx")
    done = cli("validate", variant)
    assert done.returncode == 5, done.stdout + done.stderr
    assert "NaN" in done.stderr


def test_a_teacher_that_knows_nothing_is_exit_code_5(cli: Cli, variant: Path) -> None:
    rows = variant.parent / "teacher-onnx-fp32" / "evaluation.jsonl"
    wrong: list[dict[str, Any]] = [json.loads(line) for line in rows.read_text().splitlines()]
    for number, row in enumerate(wrong):
        row["label"] = number % 3
    rows.write_text("".join(json.dumps(row) + "\n" for row in wrong))
    reseal(rows.parent, rows.name)
    done = cli("validate", variant, "--budget", "accuracy_drop=0.5")
    assert done.returncode == 5
    assert "does not beat the most frequent class" in done.stdout


def test_without_the_teacher_the_drop_is_not_measured(cli: Cli, variant: Path) -> None:
    shutil.rmtree(variant.parent / "teacher-onnx-fp32")
    done = cli("validate", variant, "--budget", "accuracy_drop=0.02", "--json")
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert document["verdict"] == "not_measured"
    assert document["devices"][0]["speedup"] is None
    assert "--reference" in document["devices"][0]["why"][0]


def test_reference_can_be_given(cli: Cli, variant: Path, tiny_run: TinyRun) -> None:
    shutil.rmtree(variant.parent / "teacher-onnx-fp32")
    reference = tiny_run.folder / "teacher-onnx-fp32"
    done = cli("validate", variant, "--budget", "accuracy_drop=0.3", "--reference", reference, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["verdict"] == "pass"


def test_device_out_of_reach_is_exit_code_4(cli: Cli, tiny_run: TinyRun, tmp_path: Path) -> None:
    junit = tmp_path / "out.xml"
    words = ["--device", "raspberry_pi_4", "--budget", "latency_p50_ms=100", "--junit", junit]
    done = cli("validate", tiny_run.folder / "onnx-w8a8_dynamic", *words)
    assert done.returncode == 4
    assert "not measured" in done.stdout
    suite = ElementTree.parse(junit).getroot().find("testsuite")
    assert suite is not None and suite.get("skipped") == "2" and suite.get("failures") == "0"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget", "acuracy=0.9"], "did you mean accuracy?"),
        (["--budget", "accuracy_drop=2"], "allowed 0 to 1"),
        (["--budget", "accuracy_drop"], "key=value"),
        (["--device", "raspbery_pi_4"], "did you mean raspberry_pi_4?"),
    ],
)
def test_wrong_options_are_exit_code_2(cli: Cli, tiny_run: TinyRun, words: list[str], message: str) -> None:
    done = cli("validate", tiny_run.folder / "onnx-w8a8_dynamic", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_torch_checkpoint_does_not_run_on_a_device(cli: Cli, tiny_run: TinyRun) -> None:
    done = cli("validate", tiny_run.folder / "1-finetune")
    assert done.returncode == 3
    assert "give an exported variant" in done.stderr


@pytest.mark.parametrize("name", ["onnx-w8a8_dynamic", "tflite-w8a8_dynamic"])
def test_infer_answers_from_words_and_stdin(cli: Cli, tiny_run: TinyRun, name: str) -> None:
    golden = read_golden(tiny_run.folder / name)
    from_words = cli("infer", tiny_run.folder / name, *golden.texts[:3], "--json")
    assert from_words.returncode == 0, from_words.stderr
    rows = json.loads(from_words.stdout)
    names = list(rows[0]["probabilities"])
    assert [row["label"] for row in rows] == [names[k] for k in golden.logits[:3].argmax(axis=1)]
    from_stdin = cli("infer", tiny_run.folder / name, stdin="\n".join(golden.texts[:3]) + "\n")
    assert [line.split()[0] for line in from_stdin.stdout.splitlines()] == [row["label"] for row in rows]


def test_infer_without_text_is_exit_code_2(cli: Cli, tiny_run: TinyRun) -> None:
    assert cli("infer", tiny_run.folder / "onnx-fp32", stdin="").returncode == 2


def test_bench_takes_turns(cli: Cli, tiny_run: TinyRun) -> None:
    against = tiny_run.folder / "teacher-onnx-fp32"
    done = cli("bench", tiny_run.folder / "onnx-fp32", "--against", against, "--seq-len", 12, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [row["seq_len"] for row in document["models"]] == [12, 12]
    assert all(len(row["samples_ms"]) == 60 for row in document["models"])
    assert all(row["after_another_p50_ms"] > 0 for row in document["models"])
    low, high = document["speedup_ci95"]
    assert low <= document["speedup"] <= high


def test_bench_takes_a_bare_model_file(cli: Cli, tiny_run: TinyRun, tmp_path: Path) -> None:
    for name, folder in (("model.onnx", "onnx-fp32"), ("model.tflite", "tflite-fp32")):
        shutil.copyfile(tiny_run.folder / folder / name, tmp_path / name)
        done = cli("bench", tmp_path / name, "--seq-len", 8)
        assert done.returncode == 0, done.stderr
        assert "p50" in done.stdout


def test_bench_refuses_what_it_cannot_time(cli: Cli, tiny_run: TinyRun, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_text("")
    assert cli("bench", tmp_path / "model.bin").returncode == 3
    assert cli("bench", tmp_path / "nothing.onnx").returncode == 3
    assert cli("bench", tiny_run.folder / "onnx-fp32", "--device", "raspberry_pi_4").returncode == 4


@pytest.mark.parametrize(
    "place", ["", "onnx-w8a8_dynamic", "1-finetune", "tflite-fp32/model.tflite", "onnx-fp32/model.onnx"]
)
def test_inspect_tells_what_is_there(cli: Cli, tiny_run: TinyRun, place: str) -> None:
    done = cli("inspect", tiny_run.folder / place, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    if "w8a8" in place:
        assert document["graph"]["weighted_ops"] == document["graph"]["weighted_ops_quantized"] > 0
    assert cli("inspect", tiny_run.folder / place).returncode == 0


def test_inspect_of_nothing_is_exit_code_3(cli: Cli, tmp_path: Path) -> None:
    assert cli("inspect", tmp_path / "nothing").returncode == 3
    assert cli("inspect", tmp_path).returncode == 3
    (tmp_path / "notes.txt").write_text("")
    assert cli("inspect", tmp_path / "notes.txt").returncode == 3


def test_report_shows_the_run_again(cli: Cli, tiny_run: TinyRun, tmp_path: Path) -> None:
    junit, markdown = tmp_path / "report.xml", tmp_path / "report.md"
    done = cli("report", tiny_run.folder, "--junit", junit, "--markdown", markdown)
    assert done.returncode == 0
    assert "tflite-w8a8_dynamic" in done.stdout
    assert ElementTree.parse(junit).getroot().find("testsuite") is not None
    assert "| finetune (teacher) |" in markdown.read_text()
    assert json.loads(cli("report", tiny_run.folder, "--json").stdout)["recipe"] == "tiny"
    assert cli("report", tmp_path).returncode == 3
    assert cli("report", tiny_run.folder, "--junit", tmp_path / "no" / "x.xml").returncode == 2


def test_onnx_folder_opens_in_optimum(tiny_run: TinyRun) -> None:
    optimum = pytest.importorskip("optimum.onnxruntime", reason="needs edgetf[optimum]")
    transformers = pytest.importorskip("transformers")
    folder = tiny_run.folder / "onnx-fp32"
    model = optimum.ORTModelForSequenceClassification.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    golden = read_golden(folder)
    for text, logits in zip(golden.texts[:4], golden.logits[:4], strict=True):
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=16)
        assert np.allclose(model(**inputs).logits.numpy()[0], logits, atol=1e-4)


def test_model_card_has_the_measured_numbers(tiny_run: TinyRun) -> None:
    card = (tiny_run.folder / "tflite-w8a8_dynamic" / "README.md").read_text()
    row = next(v for v in tiny_run.report["variants"] if v["name"] == "tflite-w8a8_dynamic")
    accuracy = next(metric for metric in row["metrics"] if metric["name"] == "accuracy")
    assert f"{accuracy['value']:.4f}" in card
    assert f"{row['devices'][0]['speedup']:.2f} ×" in card
