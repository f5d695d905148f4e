"""What a student learns from beside the training rows, and what an endpoint says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chat_server import chat
from tiny import LABELS, tiny_classifier, tiny_dataset, tiny_split

from edgetf.config.recipe import Recipe
from edgetf.config.stages import DistillConfig
from edgetf.core.artifact import Artifact, Spec, seal
from edgetf.core.errors import ConfigError
from edgetf.data.labels import NO_LABEL
from edgetf.models.checkpoint import WEIGHTS, copy_checkpoint, load_classifier
from edgetf.stages.context import Context
from edgetf.stages.objective import Objective
from edgetf.stages.transfer import told, transfer_split
from edgetf.training.batches import Collator, TensorBatch

torch.set_num_threads(1)
UNLABELLED = replace(tiny_split(20, seed=9), labels=[NO_LABEL] * 20)
DATA = replace(tiny_dataset(train=12, dev=6, test=6), unlabelled=UNLABELLED)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETF_CACHE", str(tmp_path / "cache"))


def context_of(**data: Any) -> Context:
    recipe = Recipe.model_validate(
        {
            "name": "tiny",
            "teacher": {"source": "somewhere"},
            "data": {"source": "somewhere.csv", "max_length": 32, "unlabelled": "more.csv", **data},
            "stages": [{"stage": "export", "formats": ["onnx"]}],
        }
    )
    return Context(recipe, DATA, report=lambda done, total, note: None, say=lambda remark: None)


@pytest.fixture
def teacher(tmp_path: Path) -> Artifact:
    folder = tiny_classifier("bert", tmp_path / "source")

    def write(out: Path) -> tuple[Spec, float]:
        return Spec("torch", WEIGHTS, copy_checkpoint(folder, out), details={"pad_id": 0}), 0.0

    return seal(tmp_path / "teacher", stage="test", key="k", parents=(), made={}, write=write)


def test_all_is_the_training_rows_and_then_the_unlabelled_texts() -> None:
    split = transfer_split(context_of(), "all")
    assert split.texts == DATA.train.texts + UNLABELLED.texts
    assert split.labels == DATA.train.labels + [NO_LABEL] * 20
    assert transfer_split(context_of(), "labelled").texts == DATA.train.texts
    assert transfer_split(context_of(), "unlabelled").texts == UNLABELLED.texts


def test_unlabelled_needs_some() -> None:
    context = replace(context_of(), data=tiny_dataset(12, 6, 6))
    with pytest.raises(ConfigError, match=r"rows: got unlabelled, but there are none"):
        transfer_split(context, "unlabelled")


def test_an_endpoint_names_the_class_of_the_unlabelled_texts_only() -> None:
    with chat(lambda text: LABELS[1]) as server:
        context = context_of(labeller={"endpoint": server.url, "model": "m", "top_logprobs": 0})
        found = told(context, "all", len(DATA.train) + 20)
    assert found is not None
    assert np.isnan(found[: len(DATA.train)]).all()
    assert (found[len(DATA.train) :].argmax(axis=1) == 1).all()
    assert told(context_of(), "all", 32) is None


def test_what_it_says_stands_in_for_a_label(teacher: Artifact) -> None:
    """A text that the endpoint names gets the cross-entropy with that class; one that it does not, none."""
    with chat(lambda text: LABELS[2] if text == UNLABELLED.texts[0] else "no idea") as server:
        labeller = {"endpoint": server.url, "model": "m", "top_logprobs": 0}
        context = context_of(labeller=labeller).with_teacher(teacher)
        config = DistillConfig(logits=0, labels=1, rows="unlabelled")
        student = load_classifier(teacher.path)
        objective = Objective(config, student, teacher, context)
        batch = TensorBatch(**Collator(objective.rows, objective.encoder)([0, 1]))
        loss = objective.loss(objective.learner, batch, 0.0)["labels"]
        none = objective.loss(
            objective.learner, TensorBatch(**Collator(objective.rows, objective.encoder)([1, 2])), 0.0
        )
        logits, _ = objective.learner(batch)
        objective.close()
    wanted = torch.nn.functional.cross_entropy(logits[:1], torch.tensor([2]))
    torch.testing.assert_close(loss, wanted)
    assert none["labels"].item() == 0


def test_a_labeller_needs_texts() -> None:
    with pytest.raises(ValueError, match="nothing to label"):
        context_of(unlabelled=None, labeller={"endpoint": "http://127.0.0.1/v1", "model": "m"})
