"""The main job on what else users bring: pairs of texts, long texts in chunks, other families, a MobileBERT student."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import yaml
from conftest import Cli, Tiny
from tiny import tiny_classifier, tiny_rows

from edgetf.core.artifact import load, open_verified

FAST = {"epochs": 6, "batch_size": 16, "learning_rate": 0.003, "threads": 1}


def recipe_with(tiny: Tiny, path: Path, formats: list[str], **changes: object) -> Path:
    """The tiny recipe with short trainings and no pruning."""
    tree = yaml.safe_load(tiny.recipe.read_text())
    tree["stages"] = [
        {"stage": "finetune", **FAST},
        {"stage": "distill", **FAST},
        {"stage": "export", "formats": formats},
        {"stage": "quantize"},
    ]
    tree["budget"] = {}
    path.write_text(yaml.safe_dump({**tree, **changes}))
    return path


def test_pairs_of_texts(cli: Cli, tiny: Tiny, tmp_path: Path) -> None:
    """Do two texts speak of the same topic?"""
    rows, rng = tiny_rows(120), random.Random(0)
    pairs = []
    for text, label in rows:
        other, topic = rng.choice(rows)
        pairs.append({"first": text, "second": other, "same": "yes" if topic == label else "no"})
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    source = {"source": str(data), "text": "first", "text_pair": "second", "label": "same", "max_length": 40}
    recipe = recipe_with(tiny, tmp_path / "pairs.yaml", ["onnx", "tflite"], data=source)
    done = cli("compress", f"recipe={recipe}", "--out", tmp_path / "run", "--json")
    # so few rows teach it nothing, and a comparison with such a teacher is refused
    assert done.returncode in {0, 5}, done.stderr
    report = json.loads(done.stdout)
    assert {variant["name"] for variant in report["variants"]} >= {"onnx-w8a8_dynamic", "tflite-w8a8_dynamic"}
    for variant in report["variants"]:
        assert not any("parity" in why for why in variant["devices"][0]["why"])
    golden = (tmp_path / "run" / "onnx-fp32" / "golden.jsonl").read_text().splitlines()
    row = json.loads(golden[0])
    assert row["text_pair"] and 1 in row["token_type_ids"][0]
    answer = cli("infer", tmp_path / "run" / "onnx-w8a8_dynamic", "bank shares", "--pair", "loan market", "--json")
    assert json.loads(answer.stdout)[0]["label"] in {"yes", "no"}


def test_long_texts_in_chunks(cli: Cli, tiny: Tiny, tmp_path: Path) -> None:
    rows = tiny_rows(150)
    data = tmp_path / "long.jsonl"
    data.write_text("".join(json.dumps({"text": f"{text} " * 3, "label": label}) + "\n" for text, label in rows))
    source = {"source": str(data), "max_length": 12, "long_texts": "chunk"}
    recipe = recipe_with(tiny, tmp_path / "chunks.yaml", ["onnx"], data=source)
    done = cli("compress", f"recipe={recipe}", "--out", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    variant = open_verified(tmp_path / "run" / "onnx-w8a8_dynamic")
    assert variant.spec.details["long_texts"] == "chunk"
    golden = [json.loads(line) for line in (variant.path / "golden.jsonl").read_text().splitlines()]
    assert max(len(row["input_ids"]) for row in golden) > 1
    assert all(len(ids) <= 12 for row in golden for ids in row["input_ids"])


@pytest.mark.slow
@pytest.mark.parametrize("family", ["distilbert", "roberta"])
def test_teachers_of_other_families(cli: Cli, tiny: Tiny, tmp_path: Path, family: str) -> None:
    teacher = tiny_classifier(family, tmp_path / "teacher")
    recipe = recipe_with(tiny, tmp_path / "r.yaml", ["onnx", "tflite"], teacher={"source": str(teacher)})
    done = cli("compress", f"recipe={recipe}", "--out", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    for name in ("onnx-w8a8_dynamic", "tflite-w8a8_dynamic"):
        details = load(tmp_path / "run" / name).spec.details
        assert details["inputs"] == ["input_ids", "attention_mask"]
        assert details["quantized_share"] == 1.0


@pytest.mark.slow
def test_a_mobilebert_student(cli: Cli, tiny: Tiny, tmp_path: Path) -> None:
    shape = {"num_hidden_layers": 1, "hidden_size": 32, "intra_bottleneck_size": 16, "embedding_size": 16,
             "intermediate_size": 16, "num_attention_heads": 2, "num_feedforward_networks": 1}  # fmt: skip
    student = {"architecture": "mobilebert", **shape}
    recipe = recipe_with(tiny, tmp_path / "r.yaml", ["onnx", "tflite"], student=student)
    done = cli("compress", f"recipe={recipe}", "--allow-larger", "--out", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "run" / "2-distill" / "config.json").read_text())
    assert config["architectures"] == ["MobileBertForSequenceClassification"]
    for name in ("onnx-w8a8_dynamic", "tflite-w8a8_dynamic"):
        assert open_verified(tmp_path / "run" / name).spec.details["parity"]["cosine"] > 0.95
