"""What a run of a language model leaves: folders with their numbers and cards, one document, and its tables."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tiny_decoder import FACTS, artifact, exported

from edgetf.config.language.recipe import LanguageRecipe
from edgetf.core.artifact import Artifact, load, seal
from edgetf.core.device import load_device
from edgetf.core.errors import EdgetfError
from edgetf.data.corpus.documents import Corpus
from edgetf.pipeline.deliver import read_rows
from edgetf.pipeline.language.deliver import deliver_reference, deliver_variant, text_sizes
from edgetf.report.document import StageResult, VariantResult, rows_of
from edgetf.report.junit import junit
from edgetf.report.language_document import language_document
from edgetf.report.pages import shown_rows, shown_run, written_rows, written_run
from edgetf.runtime.decode.model import decoder_model
from edgetf.stages.language.context import LanguageContext
from edgetf.validation.language.evaluation import read_exam
from edgetf.validation.language.settings import LanguageSettings

TEXTS = ("once upon a time there was a wolf in the forest and the wolf was very old, " * 8,) * 6
SETTINGS = LanguageSettings(samples=30, contexts=(8, 16))
RECIPE = LanguageRecipe.model_validate(
    {
        "name": "tiny",
        "task": "language_modeling",
        "teacher": {"source": "somewhere"},
        "data": {"sources": ["somewhere.txt"], "max_length": 32, "max_test_tokens": 320},
        "stages": [{"stage": "export"}],
        "budget": {"perplexity_ratio": 1.01, "size_mib": 10},
    }
)


def context_of(texts: tuple[str, ...] = TEXTS) -> LanguageContext:
    corpus = Corpus((), (), texts, "fingerprint")
    return LanguageContext(RECIPE, corpus, report=lambda done, total, note: None, say=lambda remark: None)


def made(folder: Path, write: Any) -> Artifact:
    return seal(folder, stage="validate", key="key", parents=(), made={"edgetf": "0", "commit": "none"}, write=write)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the reference and a variant, the same file, on this machine and on a board that is away."""
    folder = tmp_path_factory.mktemp("run")
    own = artifact(exported("llama"), folder / "3-export-onnx")
    reference = made(folder / "teacher-onnx-fp32", lambda out: deliver_reference(own, context_of(), SETTINGS, out))
    devices = [load_device("host"), load_device("raspberry_pi_5")]
    made(
        folder / "onnx-fp32",
        lambda out: deliver_variant(
            own, reference, devices, SETTINGS, RECIPE, "distill", lambda done, total, note: None, out
        ),
    )
    return folder


@pytest.fixture(scope="module")
def record(run: Path) -> dict[str, Any]:
    reference, variant = load(run / "teacher-onnx-fp32"), load(run / "onnx-fp32")
    stages = [StageResult("distill", [reference], False, variant), StageResult("export", [variant], True, variant)]
    variants = [VariantResult(variant, read_rows(variant), None, "distill")]
    return language_document(RECIPE, run, 1.0, {"edgetf": "0", "commit": "none"}, reference, stages, variants)


def text_of(shown: Any) -> str:
    console = Console(width=200, record=True, file=io.StringIO(), color_system=None)
    console.print(shown)
    return console.export_text()


def test_the_reference_holds_the_test_tokens_and_what_it_says_of_them(run: Path) -> None:
    exam = read_exam(run / "teacher-onnx-fp32", 300)
    assert exam.ids.shape == (10, 32)
    assert exam.teacher.top_ids.shape == (10, 31, 64)


def test_a_block_has_the_bytes_of_its_text_but_for_its_first_token(run: Path) -> None:
    codec = decoder_model(load(run / "3-export-onnx")).codec()
    text = "The wolf's café was old; " * 12
    ids = codec.ids(text)
    blocks = ids[: len(ids) // 8 * 8].reshape(-1, 8).astype(np.int32)
    firsts = np.insert(blocks[:, :1], 0, 0, axis=1)  # behind a token that has no text
    whole = len(codec.text(blocks.ravel().tolist()).encode())
    assert text_sizes(blocks, codec).sum() + text_sizes(firsts, codec).sum() == whole


def test_the_variant_is_as_good_as_the_file_that_it_is(run: Path) -> None:
    here, away = read_rows(load(run / "onnx-fp32"))
    found = {metric["name"]: metric["value"] for metric in here.metrics}
    assert found["perplexity_ratio"] == pytest.approx(1.0, abs=1e-4)
    assert found["flip_rate"] == 0
    assert (here.how, away.how) == ("measured", "predicted")
    assert [entry["context"] for entry in here.decoding] == [8, 16]
    assert here.decoding[0]["roofline"]["share"] < 1


def test_the_card_says_what_was_measured(run: Path) -> None:
    text = (run / "onnx-fp32" / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: text-generation" in text
    assert "with the recipe `tiny`: a language model, distilled." in text
    for name in ("perplexity", "perplexity_ratio", "bits_per_byte", "kl", "kl_p99", "flip_rate"):
        assert f"| {name} | " in text
    assert "predicted (" in text
    assert f"layers of width {FACTS.hidden_size}, 4 heads on 2 of keys and values, {FACTS.head_dim} wide" in text


def test_texts_that_fill_no_block_are_refused(run: Path, tmp_path: Path) -> None:
    own = load(run / "3-export-onnx")
    with pytest.raises(EdgetfError, match="give more text"):
        deliver_reference(own, context_of(("short",)), SETTINGS, tmp_path)


def test_the_document_has_the_schema_of_every_run(record: dict[str, Any]) -> None:
    assert {"schema", "recipe", "run", "seconds", "made", "verdict", "budget", "teacher", "stages", "variants"} <= set(
        record
    )
    assert record["variants"][0]["devices"][0]["decoding"]
    assert record["teacher"]["name"] == "teacher-onnx-fp32"
    json.dumps(record)


def test_a_teacher_that_only_guesses_fails_the_run(record: dict[str, Any]) -> None:
    assert (record["verdict"], record["best"]) == ("fail", None)
    (problem,) = record["variants"][0]["devices"][0]["problems"]
    assert "no better than guessing among its 300 tokens" in problem


def test_a_document_read_again_is_shown_as_it_was(record: dict[str, Any]) -> None:
    again = json.loads(json.dumps(record))
    assert text_of(shown_run(again)) == text_of(shown_run(record))


def test_tables_hold_quality_speed_and_its_roof(record: dict[str, Any]) -> None:
    for text in (text_of(shown_run(record)), written_run(record)):
        for word in ("perplexity", "ratio", "KL", "flips", "tokens/s", "of the roof", "peak RSS", "teacher", "fail"):
            assert word in text
        assert "predicted" in text
    assert "perplexity_ratio=1.01" in text_of(shown_run(record))


def test_rows_alone_are_shown_too(record: dict[str, Any]) -> None:
    rows = rows_of(record)
    assert "of the roof" in text_of(shown_rows(rows, "language_modeling"))
    assert "| onnx-fp32 | raspberry_pi_5 (predicted) |" in written_rows(rows, "language_modeling")
    assert "- onnx-fp32 on raspberry_pi_5: not measured" in written_rows(rows, "language_modeling")


def test_a_ci_server_reads_every_bound(record: dict[str, Any]) -> None:
    text = junit(rows_of(record))
    assert 'name="perplexity_ratio"' in text
    assert text.count("<testsuite ") == 2


def test_where_nothing_was_timed_there_is_no_table_of_rates(record: dict[str, Any]) -> None:
    away = [pair for pair in rows_of(record) if pair[1].how == "predicted"]
    assert "of the roof" not in written_rows(away, "language_modeling")
