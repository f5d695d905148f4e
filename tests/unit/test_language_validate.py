"""A decoder on a device: golden tokens first, then its distance from its teacher, its speed beside it, a verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_decode_prediction import decoder_file

from edgetf.core.artifact import Artifact, Spec, seal
from edgetf.core.decoder import DecoderFacts
from edgetf.core.device import load_device
from edgetf.core.errors import ArtifactError, DeviceError
from edgetf.report.pages import written_rows
from edgetf.runtime.decode.answers import answer
from edgetf.runtime.decode.model import decoder_model
from edgetf.targets.target import Answer, How, Request, Tick
from edgetf.validation import attempt
from edgetf.validation.judge import judged
from edgetf.validation.language.asking import Asker
from edgetf.validation.language.evaluation import Exam, write_exam
from edgetf.validation.language.settings import LanguageSettings
from edgetf.validation.language.validate import validate_language
from edgetf.validation.row import DeviceRow, row_from_json

FACTS = DecoderFacts(2, 4, 2, 8, 32, 40, 64, thetas=(10_000.0, 10_000.0), eos_ids=(0,))
SETTINGS = LanguageSettings(samples=30, contexts=(8, 16, 500))
IDS = np.random.default_rng(0).integers(1, 40, (6, 12)).astype(np.int32)
MEMORY = {"reads": [{"bytes": 1280, "bytes_per_s": 10**9}], "memory_bytes_per_s": 10**9, "last_cache_bytes": 1 << 20}


class Here:
    """A target that runs decoders made of numpy; what it writes and how fast can be changed."""

    how: How = "measured"
    counts = False

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.slower = 1.0  # than the reference
        self.garbles = False

    def ask(self, request: Request, tick: Tick | None = None) -> Answer:
        self.asked.append(request["do"])
        if request["do"] == "bandwidth":
            return MEMORY
        if request["do"] == "count":
            counts = [{"total": total, "by_class": {}} for total in (3_000_000, 4_000_000)]
            return {"seq_lens": [request["seq_len"]], "instructions": counts[: len(request["models"])]}
        sent = {**request}
        for name in ("model", "models"):
            if name in sent:
                records = sent[name] if name == "models" else [sent[name]]
                changed = [{**record, "backend": "fake", "model_file": "fake.json"} for record in records]
                sent[name] = changed if name == "models" else changed[0]
        if sent["do"] == "decode_bench":
            return self._timed(sent)
        found = answer(sent, lambda done, total: None)
        if self.garbles and sent["do"] == "generate":
            found["tokens"] = [[*tokens[:3], (tokens[3] + 1) % 40, *tokens[4:]] for tokens in found["tokens"]]
        return json.loads(json.dumps(found))

    def _timed(self, request: Request) -> Answer:
        def record(context: int, ms: float) -> dict[str, Any]:
            return {
                "context": context,
                "prefill_ms": [context * ms] * 9,
                "decode_ms": [ms * (1 + 0.001 * (k % 3)) for k in range(request["samples"])],
                "doubts": [],
            }

        backend = {"asked": "numpy", "ran": "numpy"}
        each = [2.0 * self.slower, 2.0][: len(request["models"])]
        return {
            "models": [
                {"load_ms": 1.0, "backend": backend, "contexts": [record(n, ms) for n in request["contexts"]]}
                for ms in each
            ],
            "peak_rss_bytes": None,
            "load_average": [0.0, 0.0, 0.0],
            "conditions": {},
            "machine": {"processor": "numpy"},
        }


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    target = Here()
    monkeypatch.setattr(attempt, "open_target", lambda device: target)
    return target


def sealed(folder: Path, write: Callable[[Path], tuple[Spec, float]]) -> Artifact:
    return seal(folder, stage="export", key="key", parents=(), made={}, write=write)


def written(folder: Path, scheme: str = "fp32", seed: int = 0, facts: DecoderFacts = FACTS) -> Artifact:
    """An exported decoder by itself."""

    def write(out: Path) -> tuple[Spec, float]:
        (out / "fake.json").write_text(json.dumps({"seed": seed}))
        decoder_file(out / "model.onnx")
        details = {"task": "language_modeling", "max_length": facts.max_length, "decoder": facts.to_json()}
        return Spec("onnx", "model.onnx", 1280, scheme, details=details), 0.0

    return sealed(folder, write)


def and_more(bare: Artifact, folder: Path, add: Callable[[Path], None]) -> Artifact:
    """The same with files that `add` writes beside its own."""

    def write(out: Path) -> tuple[Spec, float]:
        for entry in bare.manifest.files:
            (out / entry.path).write_bytes((bare.path / entry.path).read_bytes())
        add(out)
        return bare.spec, 0.0

    return sealed(folder, write)


def asker_of(artifact: Artifact) -> Asker:
    return Asker(Here(), decoder_model(artifact))


def with_golden(folder: Path, scheme: str = "fp32", seed: int = 0) -> Artifact:
    """An exported decoder with the tokens that it writes."""
    bare = written(folder.with_name(folder.name + "-bare"), scheme, seed)
    prompts = IDS[:4, :5].tolist()
    tokens = asker_of(bare).greedy(prompts, 6)["tokens"]

    def add(out: Path) -> None:
        rows = [{"text": "", "ids": ids, "greedy": after} for ids, after in zip(prompts, tokens, strict=True)]
        (out / "golden.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    return and_more(bare, folder, add)


@pytest.fixture
def reference(tmp_path: Path) -> Artifact:
    """A teacher that foresees its exam better than by guessing: half of that is what it writes itself."""
    bare = written(tmp_path / "bare")
    starts = IDS[:, :4].tolist()
    after = asker_of(bare).greedy(starts, 4)["tokens"]
    blocks = np.array([[*a, *b] for a, b in zip(starts, after, strict=True) if len(b) == 4], dtype=np.int32)
    teacher, _ = asker_of(bare).teach(blocks)
    exam = Exam(blocks, np.full(len(blocks), 7), teacher)
    return and_more(bare, tmp_path / "teacher-onnx-fp32", lambda out: write_exam(out, exam))


def test_a_file_that_is_its_teacher_keeps_every_budget_of_quality(
    tmp_path: Path, here: Here, reference: Artifact
) -> None:
    budget = {"perplexity_ratio": 1.001, "kl": 1e-6, "kl_p99": 1e-6, "flip_rate": 0.0, "decode_tokens_per_s": 400.0}
    row = validate_language(with_golden(tmp_path / "own"), load_device("host"), reference, budget, SETTINGS)
    assert (row.verdict, row.problems) == ("pass", [])
    assert row.parity["same"] == row.parity["prompts"] == 4
    assert here.asked == ["generate", "score", "decode_bench", "bandwidth"]  # golden tokens come first
    assert row_from_json(asdict(row)) == row


def test_another_model_is_some_way_off(tmp_path: Path, here: Here, reference: Artifact) -> None:
    own = with_golden(tmp_path / "own", seed=5)
    row = validate_language(own, load_device("host"), reference, {"kl": 0.01, "flip_rate": 0.1}, SETTINGS)
    found = {metric["name"]: metric["value"] for metric in row.metrics}
    assert row.verdict == "fail"
    assert found["perplexity_ratio"] > 1
    assert found["kl_p99"] >= found["kl"] > 0.01


def test_speed_is_that_of_the_middle_context_and_every_context_is_kept(
    tmp_path: Path, here: Here, reference: Artifact
) -> None:
    here.slower = 0.5
    row = validate_language(with_golden(tmp_path / "own", "w4"), load_device("host"), reference, {}, SETTINGS)
    assert [entry["context"] for entry in row.decoding] == [8, 16, 56]  # the longest is cut to what fits
    assert row.seq_len == 16
    assert row.latency_p50_ms == row.decoding[1]["decode_p50_ms"] == pytest.approx(1.0, abs=0.01)
    assert row.speedup == pytest.approx(2.0, rel=0.01)
    assert row.decoding[1]["ttft_ms"] == pytest.approx(16.0)
    assert row.decoding[1]["prefill_tokens_per_s"] == pytest.approx(1000.0)
    assert row.reference is not None
    assert row.reference["name"] == "teacher-onnx-fp32"


def test_the_roof_is_bandwidth_over_the_bytes_of_a_token(tmp_path: Path, here: Here, reference: Artifact) -> None:
    row = validate_language(with_golden(tmp_path / "own"), load_device("host"), reference, {}, SETTINGS)
    roof = row.decoding[0]["roofline"]
    assert roof["bytes_per_token"] == 1280 + 8 * FACTS.cache_bytes_per_token
    assert roof["tokens_per_s"] == pytest.approx(1e9 / roof["bytes_per_token"], rel=1e-4)
    assert roof["share"] == pytest.approx(row.decoding[0]["decode_tokens_per_s"] / roof["tokens_per_s"], abs=1e-4)
    assert roof["in_cache"]


@pytest.mark.parametrize(("scheme", "verdict"), [("fp32", "fail"), ("w4", "pass")])
def test_other_tokens_are_wrong_of_an_fp32_file_and_rounding_of_a_quantized_one(
    tmp_path: Path, here: Here, reference: Artifact, scheme: str, verdict: str
) -> None:
    here.garbles = True
    row = validate_language(with_golden(tmp_path / "own", scheme), load_device("host"), reference, {}, SETTINGS)
    assert row.verdict == verdict
    assert row.parity["same"] == 0
    assert bool(row.problems) == (scheme == "fp32")


@pytest.mark.parametrize(
    ("budget", "verdict"),
    [
        ({"decode_tokens_per_s": 400.0}, "pass"),
        ({"decode_tokens_per_s": 600.0}, "fail"),
        ({"prefill_tokens_per_s": 400.0, "ttft_ms": 40.0}, "pass"),
        ({"ttft_ms": 20.0}, "fail"),
        ({"latency_p50_ms": 3.0, "speedup": 0.9}, "pass"),
    ],
)
def test_budgets_of_speed(
    tmp_path: Path, here: Here, reference: Artifact, budget: dict[str, float], verdict: str
) -> None:
    row = validate_language(with_golden(tmp_path / "own"), load_device("host"), reference, budget, SETTINGS)
    assert row.verdict == verdict
    assert row.retries == []  # far from its bound, so that one run says it


def test_a_rate_within_the_noise_of_its_bound_is_timed_twice(tmp_path: Path, here: Here, reference: Artifact) -> None:
    own = with_golden(tmp_path / "own")
    row = validate_language(own, load_device("host"), reference, {"decode_tokens_per_s": 500.0}, SETTINGS)
    assert here.asked.count("decode_bench") == 2
    assert row.retries[0]["kept"] == "both"
    assert row.n == 30 + 60
    assert "within the noise" in row.why[0]


def test_without_a_reference_quality_is_not_measured(tmp_path: Path, here: Here) -> None:
    row = validate_language(with_golden(tmp_path / "own"), load_device("host"), None, {"perplexity": 50}, SETTINGS)
    assert row.verdict == "not_measured"
    assert "give it with --reference" in row.why[0]
    assert row.latency_p50_ms is not None


def test_a_device_that_is_away_is_predicted_and_never_a_pass(tmp_path: Path, reference: Artifact) -> None:
    own = with_golden(tmp_path / "own")
    row = validate_language(own, load_device("raspberry_pi_5"), reference, {"decode_tokens_per_s": 1.0}, SETTINGS)
    assert (row.how, row.verdict, row.metrics) == ("predicted", "not_measured", [])
    assert row.predicted is not None
    assert row.why[1].startswith("predicted ")
    assert "tokens/s behind 16" in row.why[1]
    assert row.checks[0]["verdict"] == "not_measured"


def test_a_device_of_which_nothing_is_known_is_not_measured(tmp_path: Path, reference: Artifact) -> None:
    row = validate_language(with_golden(tmp_path / "own"), load_device("pixel_6"), reference, {}, SETTINGS)
    assert (row.how, row.predicted, row.verdict) == ("not_measured", None, "not_measured")


def test_a_device_that_goes_away_leaves_no_half_row(
    tmp_path: Path, here: Here, reference: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(request: Request, tick: Tick | None = None) -> Answer:
        if request["do"] == "decode_bench":
            raise DeviceError("the board went away")
        return Here().ask(request, tick)

    monkeypatch.setattr(here, "ask", gone)
    row = validate_language(with_golden(tmp_path / "own"), load_device("host"), reference, {}, SETTINGS)
    assert (row.how, row.metrics, row.size_bytes) == ("not_measured", [], None)
    assert row.why == ["not measured: the board went away"]


def test_an_emulated_processor_gives_answers_and_no_milliseconds(
    tmp_path: Path, here: Here, reference: Artifact
) -> None:
    here.how = "emulated"
    own, budget = with_golden(tmp_path / "own"), {"decode_tokens_per_s": 1.0, "kl": 0.1}
    row = validate_language(own, load_device("host"), reference, budget, SETTINGS)
    assert here.asked == ["generate", "score"]
    assert (row.latency_p50_ms, row.decoding, row.peak_rss_bytes) == (None, [], None)
    assert [check["verdict"] for check in row.checks] == ["not_measured", "pass"]


def test_a_token_on_an_emulated_processor_is_counted(tmp_path: Path, here: Here, reference: Artifact) -> None:
    here.how, here.counts = "emulated", True
    own = with_golden(tmp_path / "own", "w4")
    row = validate_language(own, load_device("host"), reference, {"instructions_ratio": 0.8}, SETTINGS)
    assert here.asked == ["generate", "score", "count"]
    assert (row.instructions, row.instructions_ratio, row.seq_len, row.verdict) == (3_000_000, 0.75, 16, "pass")
    assert row.why[-1] == (
        "emulated: 3.0 million instructions a token at a context of 16 tokens, 0.75 times the reference's"
    )
    assert "| 3.00 M (1/1.3) |" in written_rows([("onnx-w4", row)], "language_modeling")


def test_the_reference_of_another_vocabulary_is_refused(tmp_path: Path, here: Here, reference: Artifact) -> None:
    small = written(tmp_path / "small", facts=replace(FACTS, vocab_size=5))
    with pytest.raises(ArtifactError, match="the model knows 5"):
        validate_language(small, load_device("host"), reference, {}, SETTINGS)


@pytest.mark.parametrize("line", ["", "{}", '{"ids": [], "greedy": [1]}', '{"ids": [1], "greedy": "x"}', "nonsense"])
def test_broken_golden_tokens_are_named(tmp_path: Path, here: Here, line: str) -> None:
    own = with_golden(tmp_path / "own")
    (own.path / "golden.jsonl").write_text(line + "\n")
    with pytest.raises(ArtifactError, match=r"golden\.jsonl"):
        validate_language(own, load_device("host"), None, {}, SETTINGS)


def test_a_row_is_judged_anew_from_what_was_kept(tmp_path: Path, here: Here, reference: Artifact) -> None:
    own = with_golden(tmp_path / "own")
    row = judged(validate_language(own, load_device("host"), reference, {}, SETTINGS), {})
    kept = row_from_json(json.loads(json.dumps(asdict(row))))
    verdicts = [judged(kept, {"decode_tokens_per_s": bound}).verdict for bound in (300.0, 900.0)]
    assert verdicts == ["pass", "fail"]


def test_a_row_of_before_decoders_has_none() -> None:
    record = asdict(DeviceRow("host"))
    del record["decoding"]
    assert row_from_json(record).decoding == []
