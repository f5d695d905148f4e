"""The document of a run, and how tables and Markdown show it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from edgetf.config.load import load_recipe
from edgetf.core.artifact import Artifact, FileEntry, Manifest, Spec
from edgetf.core.metrics import Metric
from edgetf.report.card import card
from edgetf.report.cost import Counted
from edgetf.report.document import StageResult, VariantResult, document, rows_of, run_verdict
from edgetf.report.family import members_of
from edgetf.report.markdown import rows_markdown, run_markdown
from edgetf.report.table import device_table, run_tables
from edgetf.validation.judge import judged
from edgetf.validation.row import DeviceRow

METRICS = [
    Metric("accuracy", 0.95, n=100, ci95=(0.9, 0.98)),
    Metric("accuracy_drop", 0.0123, n=100, ci95=(-0.01, 0.03)),
]
ROW = DeviceRow(
    "host",
    backend={"asked": "CPUExecutionProvider", "ran": "CPUExecutionProvider"},
    seq_len=64,
    latency_p50_ms=2.0,
    latency_p90_ms=2.6,
    n=60,
    reference={"name": "teacher-onnx-fp32", "latency_p50_ms": 9.0, "n": 60},
    speedup=4.5,
    trusted=True,
    load_ms=12.0,
    peak_rss_bytes=100 << 20,
    size_bytes=10 << 20,
    reference_size_bytes=80 << 20,
    metrics=[metric.to_json() for metric in METRICS],
    machine={"processor": "A CPU"},
)
AWAY = DeviceRow("board", how="not_measured", why=["not measured: board cannot be reached from here"])
MADE = {"edgetf": "0.1.0", "commit": "abc", "versions": {}}


def variant(name: str, kind: str = "onnx", params: int | None = 1_234_567) -> Artifact:
    details = {
        "label_names": ["money", "sport"], "inputs": ["input_ids"], "input_dtype": "int64", "max_length": 64,
        "long_texts": "truncate", "pad_id": 0, "parity": {"max_abs_difference": 1e-6, "cosine": 1.0},
        "quantized_share": 0.98,
    }  # fmt: skip
    spec = Spec(kind, "model.onnx", params=params, scheme="w8a8_dynamic", metrics=tuple(METRICS), details=details)
    files = (FileEntry("model.onnx", "0" * 64, 10 << 20),)
    return Artifact(Path("/run") / name, Manifest(name, "quantize", "k", spec, files, seconds=3.0, made=MADE), "d")


def fast(p50: float, **fields: Any) -> DeviceRow:
    return judged(replace(ROW, latency_p50_ms=p50, **fields), {"speedup": 4})


FAILING = judged(replace(ROW, speedup=2.0), {"speedup": 4})
UNMEASURED = judged(AWAY, {"speedup": 4})
DOUBTED = judged(replace(ROW, doubts=["other work takes 2 of 2 cores; end it"]), {"speedup": 4})
COUNTED, GROWN = (
    judged(DeviceRow("emulated_a72", how="emulated", size_bytes=size), {"speedup": 4, "size_mib": 1})
    for size in (1 << 20, 2 << 20)
)
WRONG = judged(replace(ROW, problems=["parity: moved"]), {"speedup": 4})


@pytest.mark.parametrize(
    ("variants", "wanted"),
    [
        ([[fast(2)], [fast(1)]], ("pass", "v1")),
        ([[fast(2)], [FAILING]], ("pass", "v0")),
        ([[FAILING], [FAILING]], ("fail", None)),
        ([[fast(1)], [WRONG]], ("fail", None)),
        ([[fast(1), FAILING], [fast(3)]], ("pass", "v1")),
        ([[fast(1), fast(9)], [fast(3), fast(4)]], ("pass", "v1")),
        ([[fast(1), UNMEASURED]], ("pass", "v0")),
        ([[UNMEASURED], [UNMEASURED]], ("not_measured", None)),
        ([[UNMEASURED], [FAILING]], ("fail", None)),
        ([], ("not_measured", None)),
        ([[fast(1), COUNTED]], ("pass", "v0")),
        ([[fast(1), GROWN]], ("fail", None)),
        ([[COUNTED]], ("not_measured", None)),
        ([[DOUBTED], [FAILING]], ("not_measured", None)),
        ([[DOUBTED], [fast(1)]], ("pass", "v1")),
    ],
    ids=["fastest", "one passes", "all fail", "one is wrong", "fails on one device", "slowest device counts",
         "out of reach", "nothing measured", "fail outweighs", "no variants",
         "emulated has no speed-up", "fails where emulated", "speed-up nowhere",
         "in doubt", "in doubt beside one that passes"],
)  # fmt: skip
def test_the_run_passes_with_the_fastest_variant_that_keeps_its_budget(
    variants: list[list[DeviceRow]], wanted: tuple[str, str | None]
) -> None:
    assert run_verdict([(variant(f"v{k}"), rows) for k, rows in enumerate(variants)]) == wanted


@pytest.fixture
def record() -> dict[str, Any]:
    """The document of a made-up run."""
    recipe = load_recipe("quickstart")
    best = variant("onnx-w8a8_dynamic")
    stages = [
        StageResult("distill", [variant("1-distill", "torch")], True, None),
        StageResult("quantize", [best], False, None),
    ]
    variants = [VariantResult(best, [ROW, AWAY])]
    made = document(recipe, Path("/run"), 61.234, MADE, variant("teacher-onnx-fp32"), stages, variants)
    return json.loads(json.dumps(made))


def test_a_document_keeps_the_contract(record: dict[str, Any]) -> None:
    wanted = {"schema", "recipe", "run", "seconds", "made", "verdict", "budget", "teacher", "stages", "variants"}
    assert wanted <= set(record)
    assert (record["schema"], record["recipe"], record["run"], record["seconds"]) == (1, "quickstart", "/run", 61.23)
    assert {"params", "size_bytes", "metrics"} <= set(record["teacher"])
    for stage in record["stages"]:
        assert {"name", "seconds", "cached", "params", "size_bytes", "metrics"} <= set(stage)
    for found in record["variants"]:
        assert {"name", "format", "scheme", "path", "size_bytes", "metrics", "devices"} <= set(found)
    assert record["resolved_recipe"]["teacher"]["source"]


def test_a_document_judges_its_rows_by_the_recipes_budget(record: dict[str, Any]) -> None:
    assert (record["verdict"], record["best"]) == ("pass", "onnx-w8a8_dynamic")
    host, board = record["variants"][0]["devices"]
    assert (host["verdict"], board["verdict"]) == ("pass", "not_measured")
    assert {check["key"] for check in host["checks"]} == set(record["budget"])
    assert board["latency_p50_ms"] is None
    assert board["why"]


def test_rows_come_out_of_a_document_as_they_went_in(record: dict[str, Any]) -> None:
    assert rows_of(record) == [
        ("onnx-w8a8_dynamic", judged(ROW, record["budget"])),
        ("onnx-w8a8_dynamic", judged(AWAY, record["budget"])),
    ]


def rendered(thing: Any) -> str:
    console = Console(width=160, no_color=True)
    with console.capture() as capture:
        console.print(thing)
    return capture.get()


def test_tables_show_every_stage_and_variant_with_its_numbers(record: dict[str, Any]) -> None:
    text = rendered(run_tables(record))
    for words in ("distill", "(reused)", "quantize", "0.950 ± 0.040", "1.23 M", "10.0 MiB", "2.00 ms", "4.50 ×",
                  "+0.0123", "100.0 MiB", "host", "board", "pass", "not_measured",
                  "the fastest variant that keeps it: onnx-w8a8_dynamic", "1 min 1 s"):  # fmt: skip
        assert words in text, words


def test_what_was_not_measured_is_a_dash_and_never_0() -> None:
    table = device_table([("onnx-fp32", UNMEASURED)])
    line = next(line for line in rendered(table).splitlines() if "board" in line)
    assert line.count("–") == 7
    assert "0" not in line


def test_a_device_table_shows_names_as_they_are() -> None:
    """A folder may be called like a markup tag."""
    assert "[bold]" in rendered(device_table([("[bold]", ROW)]))


def test_markdown_has_a_row_a_variant_and_device() -> None:
    text = rows_markdown([("onnx-fp32", fast(2)), ("onnx-fp32", UNMEASURED)])
    lines = text.splitlines()
    assert lines[2] == "| onnx-fp32 | host | measured | 0.950 ± 0.040 | 0.0123 | 10.0 MiB | 2.00 ms | 4.50 × | pass |"
    assert lines[3] == "| onnx-fp32 | board | – | – | – | – | – | – | not_measured |"
    assert {line.count("|") for line in lines if line.startswith("|")} == {10}


def test_markdown_says_below_why_something_failed() -> None:
    text = rows_markdown([("onnx-fp32", FAILING), ("tflite-fp32", fast(2)), ("onnx-fp32", UNMEASURED)])
    notes = [line for line in text.splitlines() if line.startswith("- ")]
    assert notes == [
        "- onnx-fp32 on host: speedup: 2, wanted >= 4: missed",
        "- onnx-fp32 on board: not measured: board cannot be reached from here",
    ]


def test_markdown_of_a_run_names_verdict_stages_and_commit(record: dict[str, Any]) -> None:
    text = run_markdown(record)
    assert text.startswith("# quickstart: pass\n")
    for words in (
        "| distill |",
        "| quantize |",
        "| onnx-w8a8_dynamic | host | measured |",
        "edgetf 0.1.0, commit abc.",
    ):
        assert words in text, words


COST = (Counted(1_234_567, 50_000_000, 10 << 20, 64), Counted(2_469_134, 200_000_000, 80 << 20, 64))


def card_of(params: int | None = 1_234_567, remarks: Sequence[str] = ()) -> str:
    cost = (replace(COST[0], params=params), COST[1])
    rows = [vars(fast(2.0)), vars(UNMEASURED)]
    return card(variant("onnx-w8a8_dynamic"), rows, "quickstart", "sequence_classification", cost, remarks)


def test_a_card_holds_the_measured_numbers() -> None:
    text = card_of()
    for words in ("# quickstart: onnx, w8a8_dynamic", "money, sport",
                  "| file | `model.onnx`, 10.0 MiB (1/8.0) |", "| parameters | 1.23 M (1/2.0) |",
                  "| multiply-accumulates of 64 tokens | 50.0 M (1/4.0) |",
                  "| accuracy | 0.9500 | 0.9000 to 0.9800 | 100 |", "2.00 ms", "9.00 ms", "4.50 ×", "A CPU",
                  "Accuracy drop against its teacher: 0.0123 (95 %: -0.0100 to 0.0300).",
                  "not measured: board cannot be reached from here", "cosine 1.0000"):  # fmt: skip
        assert words in text, words
    assert "On its speed" not in text


def test_a_card_says_where_the_counted_gain_did_not_arrive() -> None:
    assert "\nOn its speed: pruned but not faster.\n" in card_of(remarks=["pruned but not faster"])


def test_a_card_begins_with_the_front_matter_of_a_hub() -> None:
    assert card_of().splitlines()[:4] == ["---", "library_name: edgetf", "pipeline_tag: text-classification", "---"]


def test_a_card_without_counted_parameters_is_written_too() -> None:
    assert "| parameters | – |" in card_of(params=None)


def member(name: str, p50: float, accuracy: float) -> list[VariantResult]:
    """Two variants of a member: a fast one, and one that is twice as slow."""
    metrics = [Metric("accuracy", accuracy, n=100, ci95=(0.8, 1.0)).to_json(), METRICS[1].to_json()]
    row = replace(ROW, metrics=metrics, speedup=9 / p50)
    return [
        VariantResult(variant(f"{name}-{kind}"), [replace(row, latency_p50_ms=ms, speedup=9 / ms)], name)
        for kind, ms in (("onnx-fp32", 2 * p50), ("onnx-w8a8_dynamic", p50))
    ]


@pytest.fixture
def family_record() -> dict[str, Any]:
    """A family of three: the last one is slower than the second, and no better."""
    recipe = load_recipe("quickstart", ["prune.target.speedup=[2,3,5]", "budget.speedup=4"])
    variants = [*member("2x", 3.0, 0.95), *member("3x", 2.0, 0.94), *member("5x", 2.1, 0.93)]
    stages = [StageResult("prune-2x", [variant("3-prune-2x", "torch")], False, None, "2x")]
    made = document(recipe, Path("/run"), 61.2, MADE, variant("teacher-onnx-fp32"), stages, variants)
    return json.loads(json.dumps(made))


def test_every_member_of_a_family_is_judged_by_its_own_variants(family_record: dict[str, Any]) -> None:
    assert [(entry["name"], entry["target"], entry["verdict"], entry["best"]) for entry in family_record["family"]] == [
        ("2x", {"speedup": 2.0}, "fail", None),
        ("3x", {"speedup": 3.0}, "pass", "3x-onnx-w8a8_dynamic"),
        ("5x", {"speedup": 5.0}, "pass", "5x-onnx-w8a8_dynamic"),
    ]
    assert (family_record["verdict"], family_record["best"]) == ("pass", "3x-onnx-w8a8_dynamic")
    assert [found["member"] for found in family_record["variants"]] == ["2x", "2x", "3x", "3x", "5x", "5x"]
    assert family_record["stages"][0]["member"] == "2x"


def test_a_family_is_shown_as_a_front(family_record: dict[str, Any]) -> None:
    assert [(m.name, m.variant, m.in_front) for m in members_of(family_record)] == [
        ("2x", "2x-onnx-w8a8_dynamic", True),
        ("3x", "3x-onnx-w8a8_dynamic", True),
        ("5x", "5x-onnx-w8a8_dynamic", False),
    ]
    shown = rendered(run_tables(family_record))
    line = next(line for line in shown.splitlines() if "│ 2x " in line)
    for words in ("2x-onnx-w8a8_dynamic", "0.950", "1.23 M", "3.00 ms", "3.00 ×", "●", "fail"):
        assert words in line, words
    assert "members that keep it: 3x, 5x" in shown
    rows = [line for line in run_markdown(family_record).splitlines() if line.startswith("| 5x |")]
    assert rows == [
        "| 5x | 5x-onnx-w8a8_dynamic | 0.930 ± 0.100 | +0.0123 | 1.23 M | – | 10.0 MiB | 2.10 ms | 4.29 × |  | pass |"
    ]


def test_a_member_that_was_not_measured_is_not_in_front(family_record: dict[str, Any]) -> None:
    for found in family_record["variants"][:2]:
        found["devices"] = [vars(UNMEASURED)]
    first, *others = members_of(family_record)
    assert (first.variant, first.row, first.in_front) == (None, None, False)
    assert all(member.variant for member in others)
    assert "| 2x | – | – | – | – | – | – | – | – |  |" in run_markdown(family_record)


def test_one_model_is_no_family(record: dict[str, Any]) -> None:
    assert record["family"] == []
    assert "front" not in rendered(run_tables(record))
    assert "| member |" not in run_markdown(record)
