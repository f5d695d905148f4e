"""Validate from end to end on sealed ONNX and TFLite folders that were made by hand, with a teacher beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny import WORDS, tiny_tokenizer
from tiny_graphs import CLASSES, LENGTHS, write_onnx, write_tflite

from edgetf.core.artifact import Artifact, Spec, seal
from edgetf.core.device import DeviceProfile, load_device
from edgetf.core.errors import ArtifactError
from edgetf.runtime.encoder import Encoder
from edgetf.runtime.trust import doubts
from edgetf.targets.local import Local
from edgetf.validation.evaluation import Evaluation, write_evaluation
from edgetf.validation.golden import write_golden
from edgetf.validation.row import DeviceRow, Settings
from edgetf.validation.validate import find_reference, validate

pytest.importorskip("onnxruntime", reason="needs edgetf[ort]")
MAX_LENGTH = max(LENGTHS)
QUICK = Settings(samples=30)
HOST = load_device("host")
Weight = NDArray[np.float32]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer."""
    path = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer(path)
    return path


TEXTS = [" ".join(WORDS[(3 * k + j) % 40] for j in range(1 + k % 5)) for k in range(60)]
WEIGHT = (np.random.default_rng(5).normal(size=(50, CLASSES)) * 3).astype(np.float32)


def logits_of(tokenizer: Path, weight: Weight) -> NDArray[np.float64]:
    """What the model answers, computed here."""
    from tiny_graphs import expected

    encoder = Encoder(tokenizer, MAX_LENGTH)
    rows = []
    for (piece,) in encoder.pieces(TEXTS):
        batch = encoder.batch([piece])
        rows.append(expected(batch.input_ids % 50, batch.attention_mask, weight)[0])
    return np.asarray(rows)


def variant(folder: Path, tokenizer: Path, weight: Weight = WEIGHT, kind: str = "onnx", **details: Any) -> Artifact:
    """A sealed folder with a model, its tokenizer, golden rows and, as a teacher has them, evaluation rows."""
    write_model: dict[str, Callable[..., Path]] = {"onnx": write_onnx, "tflite": write_tflite}
    model_file = f"model.{kind}"

    def write(out: Path) -> tuple[Spec, float]:
        write_model[kind](out / model_file, weight=weight)
        (out / "tokenizer.json").write_bytes((tokenizer / "tokenizer.json").read_bytes())
        answers = logits_of(tokenizer, weight)
        pieces = Encoder(out, MAX_LENGTH).pieces(TEXTS[:8])
        write_golden(out, TEXTS[:8], None, pieces, answers[:8], answers[:8])
        teacher = logits_of(tokenizer, WEIGHT)
        labels = teacher.argmax(axis=1)
        labels[:3] = (labels[:3] + 1) % CLASSES
        write_evaluation(out, Evaluation(TEXTS, None, labels, teacher))
        named = {"max_length": MAX_LENGTH, "long_texts": "truncate", "pad_id": 0, **details}
        return Spec(kind, model_file, params=weight.size, details=named), 0.1

    return seal(folder, stage="export", key="k", parents=[], made={}, write=write)


@pytest.fixture(scope="module", autouse=True)
def _ids_fit_the_graph(tokenizer: Path) -> None:
    ids = [number for (piece,) in Encoder(tokenizer, MAX_LENGTH).pieces(TEXTS) for number in piece.input_ids]
    assert max(ids) < 50


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_a_good_variant_is_measured_whole_and_passes(tmp_path: Path, tokenizer: Path, kind: str) -> None:
    if kind == "tflite":
        pytest.importorskip("ai_edge_litert", reason="needs edgetf[litert]")
    teacher = variant(tmp_path / "teacher-onnx-fp32", tokenizer)
    own = variant(tmp_path / f"{kind}-fp32", tokenizer, kind=kind)
    ticks: list[tuple[int, int]] = []
    budget = {"accuracy": 0.8, "accuracy_drop": 0.0, "agreement": 1.0, "size_ratio": 0.01}
    row = validate(own, HOST, teacher, budget, QUICK, lambda done, total: ticks.append((done, total)))
    assert (row.verdict, row.problems) == ("pass", [])
    assert (row.how, row.device, row.seq_len) == ("measured", "host", MAX_LENGTH)
    metrics = {metric["name"]: metric["value"] for metric in row.metrics}
    assert metrics["accuracy"] == 0.95
    assert metrics["accuracy_drop"] == 0
    assert all(metric["n"] == 60 for metric in row.metrics)
    assert row.n == len(row.samples_ms) >= 30
    assert row.latency_p50_ms is not None and row.latency_p90_ms is not None and row.reference is not None
    assert 0 < row.latency_p50_ms <= row.latency_p90_ms
    assert row.reference["name"] == "teacher-onnx-fp32"
    assert row.speedup == pytest.approx(row.reference["latency_p50_ms"] / row.latency_p50_ms, rel=0.05)
    assert row.speedup_ci95 is not None
    assert row.peak_rss_bytes is not None and row.peak_rss_bytes > 1 << 20
    assert row.size_bytes == own.model_path.stat().st_size
    assert {"load_average", "processor", "cores"} <= set(row.machine)
    json.dumps(vars(row), allow_nan=False)


def test_a_worse_variant_misses_its_budget(tmp_path: Path, tokenizer: Path) -> None:
    teacher = variant(tmp_path / "teacher-onnx-fp32", tokenizer)
    row = validate(variant(tmp_path / "v", tokenizer, -WEIGHT), HOST, teacher, {"accuracy_drop": 0.02}, QUICK)
    assert row.verdict == "fail"
    assert row.problems == []
    assert "accuracy_drop: " in row.why[0]
    assert "missed" in row.why[0]


def test_without_a_teacher_the_comparison_is_not_measured(tmp_path: Path, tokenizer: Path) -> None:
    row = validate(variant(tmp_path / "v", tokenizer), HOST, None, {"accuracy_drop": 0.02, "size_mib": 1}, QUICK)
    assert row.verdict == "not_measured"
    assert [check["verdict"] for check in row.checks] == ["not_measured", "pass"]
    assert (row.metrics, row.speedup, row.reference) == ([], None, None)
    assert any("--reference" in why for why in row.why)


def test_a_device_out_of_reach_is_not_measured(tmp_path: Path, tokenizer: Path) -> None:
    board = DeviceProfile(name="board", description="", target="none", architecture="aarch64", runtimes=("ort",))
    row = validate(variant(tmp_path / "v", tokenizer), board, None, {"speedup": 2}, QUICK)
    assert (row.verdict, row.how, row.latency_p50_ms) == ("not_measured", "not_measured", None)
    (why,) = row.why
    assert why.startswith("not measured: board: cannot be reached from here; use --device host ")


def test_a_device_without_the_runtime_is_not_measured(tmp_path: Path, tokenizer: Path) -> None:
    phone = DeviceProfile(name="phone", description="", target="local", architecture="any", runtimes=("litert",))
    row = validate(variant(tmp_path / "v", tokenizer), phone, None, {}, QUICK)
    assert row.verdict == "not_measured"
    assert row.why == ["not measured: needs ort or tensorrt, phone has litert"]


def test_a_file_that_answers_otherwise_than_when_it_was_made_fails(tmp_path: Path, tokenizer: Path) -> None:
    own = variant(tmp_path / "v", tokenizer)
    write_onnx(own.model_path, weight=WEIGHT * 1.01)
    row = validate(own, HOST, None, {}, QUICK)
    assert row.verdict == "fail"
    assert row.problems[0].startswith("parity: logits moved by")


def test_a_teacher_that_knows_nothing_fails_the_comparison(tmp_path: Path, tokenizer: Path) -> None:
    teacher = variant(tmp_path / "teacher-onnx-fp32", tokenizer)
    rows = Evaluation(TEXTS, None, np.arange(60) % CLASSES, np.tile([1.0, 0.0, 0.0], (60, 1)))
    write_evaluation(teacher.path, rows)
    row = validate(variant(tmp_path / "v", tokenizer), HOST, teacher, {"accuracy": 0.0}, QUICK)
    assert row.verdict == "fail"
    assert row.problems[0].startswith("baseline: ")


def test_a_teacher_of_other_classes_is_an_artifact_error(tmp_path: Path, tokenizer: Path) -> None:
    teacher = variant(tmp_path / "teacher-onnx-fp32", tokenizer)
    write_evaluation(teacher.path, Evaluation(TEXTS, None, np.arange(60) % 2, np.eye(2)[np.arange(60) % 2]))
    with pytest.raises(ArtifactError, match="v: 3 classes, its teacher has 2"):
        validate(variant(tmp_path / "v", tokenizer), HOST, teacher, {}, QUICK)


def test_the_timed_length_can_be_chosen(tmp_path: Path, tokenizer: Path) -> None:
    row = validate(variant(tmp_path / "v", tokenizer), HOST, None, {}, replace(QUICK, seq_len=5))
    assert row.seq_len == 5


def test_the_reference_is_the_folder_that_the_variant_names(tmp_path: Path, tokenizer: Path) -> None:
    teacher = variant(tmp_path / "teacher-onnx-fp32", tokenizer)
    own = variant(tmp_path / "v", tokenizer, reference="../teacher-onnx-fp32")
    found = find_reference(own)
    assert found is not None
    assert found.digest == teacher.digest
    assert find_reference(variant(tmp_path / "w", tokenizer)) is None
    assert find_reference(variant(tmp_path / "x", tokenizer, reference="../nowhere")) is None


def test_the_reference_can_be_given_and_must_be_whole(tmp_path: Path, tokenizer: Path) -> None:
    teacher = variant(tmp_path / "elsewhere", tokenizer)
    own = variant(tmp_path / "v", tokenizer)
    given = find_reference(own, teacher.path)
    assert given is not None
    assert given.digest == teacher.digest
    teacher.model_path.write_bytes(b"changed")
    with pytest.raises(ArtifactError, match="changed since it was sealed"):
        find_reference(own, teacher.path)
    with pytest.raises(ArtifactError, match="not an artifact folder"):
        find_reference(own, tmp_path / "nowhere")


def steady(value: float, n: int = 60) -> list[float]:
    """Samples around a value, within 1 %."""
    return [value * (1 + 0.01 * (-1) ** k * (k % 5) / 4) for k in range(n)]


SCATTERED = [1.0, 1.0, 1.0, 3.0] * 15


class Timed(Local):
    """This machine with a clock that shows what it was told: in each run the variant's samples and its teacher's."""

    def __init__(self, *runs: tuple[list[float], list[float]]) -> None:
        self.runs = list(runs)
        self.asked: list[int] = []

    def ask(self, request: dict[str, Any], tick: Any = None) -> dict[str, Any]:
        answer = super().ask(request, tick)
        if request["do"] == "bench":
            self.asked.append(request["samples"])
            answer["samples_ms"] = list(self.runs.pop(0))
            answer["doubts"] = [doubts(samples, {}, 1) for samples in answer["samples_ms"]]
        return answer


Judge = Callable[[dict[str, float], Timed], DeviceRow]


@pytest.fixture
def judge(tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> Judge:
    """Validate a variant beside its teacher on a machine with such a clock."""
    teacher, own = variant(tmp_path / "teacher-onnx-fp32", tokenizer), variant(tmp_path / "v", tokenizer)

    def judge(budget: dict[str, float], target: Timed) -> DeviceRow:
        monkeypatch.setattr("edgetf.validation.attempt.open_target", lambda device: target)
        return validate(own, HOST, teacher, budget, replace(QUICK, samples=60))

    return judge


@pytest.mark.parametrize(("limit", "verdict"), [(2.0, "pass"), (8.0, "fail")])
def test_a_bound_that_is_clearly_kept_or_missed_is_timed_once(judge: Judge, limit: float, verdict: str) -> None:
    target = Timed((steady(1.0), steady(4.0)))
    row = judge({"speedup": limit}, target)
    assert (row.verdict, row.retries, target.asked) == (verdict, [], [60])


def test_a_bound_within_the_noise_is_timed_once_more_with_more_samples(judge: Judge) -> None:
    target = Timed((steady(1.0), steady(4.0)), (steady(1.0, 120), steady(4.08, 120)))
    row = judge({"speedup": 4.0}, target)
    assert target.asked == [60, 120]
    assert (row.verdict, row.n) == ("pass", 180)
    (retry,) = row.retries
    assert (retry["kept"], [run["n"] for run in retry["runs"]]) == ("both", [60, 120])
    assert retry["why"][0].startswith("speedup: ")
    assert row.checks[0]["why"].endswith("kept, within the noise (floor 3 %), timed twice")
    assert row.checks[0]["noise"]["within"] is True
    json.dumps(vars(row), allow_nan=False)


def test_a_second_run_can_decide_against_a_bound(judge: Judge) -> None:
    row = judge({"speedup": 4.0}, Timed((steady(1.0), steady(3.9)), (steady(1.0, 120), steady(3.6, 120))))
    assert row.verdict == "fail"
    assert row.speedup is not None and row.speedup < 3.7


def test_a_run_that_scatters_is_replaced_by_one_that_does_not(judge: Judge) -> None:
    row = judge({"speedup": 2.0}, Timed((SCATTERED, steady(4.0)), (steady(1.0, 120), steady(4.0, 120))))
    assert (row.verdict, row.trusted, row.n) == ("pass", True, 120)
    assert row.retries[0]["kept"] == "second"
    assert row.retries[0]["why"][0].startswith("the timings scatter")


@pytest.mark.parametrize("limit", [1.0, 100.0])
def test_timings_that_scatter_twice_neither_pass_nor_fail(judge: Judge, limit: float) -> None:
    row = judge({"speedup": limit}, Timed((SCATTERED, steady(4.0)), (SCATTERED * 2, steady(4.0, 120))))
    assert (row.verdict, row.trusted) == ("not_measured", False)
    assert row.checks[0]["why"].startswith("speedup: not measured (untrusted, timed twice: the timings scatter (p90 ")


def test_a_recipe_without_a_bound_on_time_is_timed_once(judge: Judge) -> None:
    target = Timed((SCATTERED, steady(4.0)))
    assert judge({"size_ratio": 0.01}, target).verdict == "pass"
    assert target.asked == [60]
