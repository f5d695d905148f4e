"""What GitHub Actions shows of a gate: the verdict first, all bounds below, an annotation for what did not pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetf.commands.reports import SUMMARY, Reports
from edgetf.core.errors import ConfigError
from edgetf.report.github import annotation_lines, step_summary
from edgetf.report.markdown import rows_markdown
from edgetf.tasks.classification import TASK
from edgetf.validation.judge import judged
from edgetf.validation.row import DeviceRow

BUDGET = {"speedup": 4.0, "size_mib": 2.0, "accuracy_drop": 0.02}
ROW = judged(DeviceRow("host", speedup=3.0, latency_p50_ms=2.0, size_bytes=1 << 20), BUDGET)
AWAY = judged(DeviceRow("board", how="not_measured", why=["not measured: board is 100 % away"]), BUDGET)
EMULATED = judged(
    DeviceRow("emulated_a72", how="emulated", instructions=3_000_000, reference_instructions=12_000_000,
              latency_p50_ms=7.0, size_bytes=1 << 20), {"instructions_ratio": 0.5},
)  # fmt: skip
ROWS = [("onnx-fp32", ROW), ("onnx-fp32", AWAY)]


def test_a_summary_begins_with_the_verdict_and_folds_every_bound_away() -> None:
    lines = step_summary("edgetf onnx-fp32", "fail", ROWS, rows_markdown(ROWS, TASK)).splitlines()
    assert lines[0] == "## ❌ edgetf onnx-fp32: fail"
    assert lines.index("<details><summary>Every bound</summary>") > lines.index("| onnx-fp32 | board | – | – | – | – "
                                                                                "| – | – | not_measured |")  # fmt: skip
    assert "| ❌ | onnx-fp32 | host | speedup &gt;= 4 | 3 | speedup: 3, wanted &gt;= 4: missed |" in lines
    assert "| ✅ | onnx-fp32 | host | size_mib &lt;= 2 | 1 | size_mib: 1, wanted &lt;= 2: kept |" in lines
    assert lines.count("</details>") == 1
    folded = lines[lines.index("|--|--|--|--|--|--|") + 1 : lines.index("</details>")]
    assert sum(line.startswith("|") for line in folded) == 6


def test_without_a_budget_there_is_nothing_to_fold_away() -> None:
    assert "details" not in step_summary("x", "pass", [("v", judged(DeviceRow("host"), {}))], "")


def test_an_emulated_row_shows_instructions_and_never_milliseconds() -> None:
    rows = [("v", EMULATED), ("v", ROW)]
    text = step_summary("x", "pass", rows, rows_markdown(rows, TASK))
    assert "| variant | device | how | accuracy | drop | size | p50 | speed-up | instructions | verdict |" in text
    assert "| v | emulated_a72 | emulated | – | – | 1.0 MiB | – | – | 3.00 M (1/4.0) | pass |" in text
    assert "| v | host | measured | – | – | 1.0 MiB | 2.00 ms | 3.00 × | – | fail |" in text
    assert "7.0" not in text


def test_what_is_missed_is_an_error_and_what_was_not_measured_a_warning() -> None:
    lines = annotation_lines(ROWS)
    assert [line.split("::")[1] for line in lines] == [
        "error title=onnx-fp32 on host", "warning title=onnx-fp32 on host", "warning title=onnx-fp32 on board",
    ]  # fmt: skip
    assert lines[0].endswith("::speedup: 3, wanted >= 4: missed")
    assert lines[2].endswith("::not measured: board is 100 %25 away")
    assert all(line.startswith("::error") for line in annotation_lines(ROWS, require_measured=True))


def test_the_summary_is_appended_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    monkeypatch.setenv(SUMMARY, str(path))
    Reports(github_summary=True).write("edgetf v", "fail", ROWS, rows_markdown(ROWS, TASK), "")
    assert path.read_text().startswith("before\n## ❌ edgetf v: fail\n")


def test_what_cannot_be_followed_is_said_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SUMMARY, raising=False)
    with pytest.raises(ConfigError) as caught:
        Reports(github_summary=True, github_annotations=True, as_json=True).check()
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["--github-summary", "--github-annotations"]
    Reports(junit=Path("x"), as_json=True).check()
