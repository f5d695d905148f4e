"""A scheme that this machine computes in float has an accuracy here, but no milliseconds, and is never the best."""

from __future__ import annotations

from dataclasses import replace

import pytest
from exported import Exported, trained

from edgetf.core.artifact import Artifact, seal
from edgetf.core.device import load_device
from edgetf.formats.quantization import Quantization
from edgetf.report.document import run_verdict
from edgetf.report.markdown import rows_markdown
from edgetf.stages import quantize
from edgetf.validation.judge import SIMULATED, judged
from edgetf.validation.row import DeviceRow, Settings
from edgetf.validation.validate import validate

QUICK = Settings(samples=30)


@pytest.fixture(scope="module")
def fp8(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    source: Exported = trained()
    how = Quantization("fp8_e4m3", "per_tensor")
    return seal(
        tmp_path_factory.mktemp("fp8") / "onnx-fp8_e4m3", stage="quantize", key="fp8", parents=[], made={},
        write=lambda out: quantize.run(how, source.artifact, source.context, out, source.feeds()),
    )  # fmt: skip


@pytest.fixture(scope="module")
def row(fp8: Artifact) -> DeviceRow:
    return validate(fp8, load_device("host"), None, {}, QUICK)


def test_its_answers_are_measured_and_its_time_is_not(row: DeviceRow) -> None:
    assert row.how == "simulated"
    assert row.problems == [] and row.peak_rss_bytes and row.size_bytes
    assert (row.latency_p50_ms, row.latency_p90_ms, row.speedup, row.speedup_ci95) == (None, None, None, None)
    assert (row.samples_ms, row.n, row.reference) == ([], 0, None)
    assert f"simulated: {SIMULATED}" in row.why


def test_a_budget_of_time_is_not_kept_but_not_measured(row: DeviceRow) -> None:
    for budget in ({"speedup": 1.0}, {"latency_p50_ms": 1000.0}):
        found = judged(row, budget)
        assert found.verdict == "not_measured"
        assert any(SIMULATED in why for why in found.why)


def test_a_budget_of_size_is_kept(row: DeviceRow) -> None:
    assert judged(row, {"size_mib": 1.0}).verdict == "pass"
    assert judged(row, {"size_mib": 0.001}).verdict == "fail"


def test_it_is_never_the_best(fp8: Artifact, row: DeviceRow) -> None:
    mine = judged(row, {})
    timed = replace(mine, how="measured", latency_p50_ms=1e9)
    other = replace(fp8, manifest=replace(fp8.manifest, name="onnx-fp32"))
    assert run_verdict([(fp8, [mine]), (other, [timed])]) == ("pass", "onnx-fp32")
    assert run_verdict([(other, [timed]), (fp8, [mine])]) == ("pass", "onnx-fp32")
    assert run_verdict([(fp8, [mine])]) == ("pass", None)


@pytest.mark.parametrize("name", ["raspberry_pi_5", "jetson_orin_nano"])
def test_where_it_is_refused_nothing_is_measured(fp8: Artifact, name: str) -> None:
    row = validate(fp8, load_device(name), None, {}, QUICK)
    assert (row.how, row.verdict) == ("not_measured", "not_measured")
    (why,) = row.why
    assert why.startswith("not measured: fp8_e4m3 has no hardware on ")


def test_where_it_runs_it_cannot_be_reached(fp8: Artifact) -> None:
    row = validate(fp8, load_device("jetson_thor"), None, {}, QUICK)
    (why,) = row.why
    assert why.startswith("not measured: jetson_thor: cannot be reached from here")


def test_the_document_says_so(row: DeviceRow) -> None:
    text = rows_markdown([("onnx-fp8_e4m3", judged(row, {"speedup": 2.0}))])
    (line,) = (line for line in text.splitlines() if line.startswith("| onnx-fp8_e4m3 |"))
    assert line.endswith("| – | – | not_measured |")
    assert f"- onnx-fp8_e4m3 on host: simulated: {SIMULATED}" in text
