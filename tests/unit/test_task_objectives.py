"""The distillation loss of every other task, in parts: processes that share a batch come to the loss of the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import LABELS, tiny_classifier, tiny_rows, tiny_scores, tiny_tagged

from edgetf.config.recipe import Recipe
from edgetf.config.training import LossConfig
from edgetf.core.artifact import Artifact, Spec, seal
from edgetf.core.task_names import TaskName
from edgetf.data.dataset import Dataset, Split
from edgetf.data.labels import read_labels, unknown
from edgetf.models.checkpoint import WEIGHTS, load_classifier, save_classifier
from edgetf.models.heads import Head
from edgetf.stages import distill
from edgetf.stages.context import Context
from edgetf.stages.objective import Objective
from edgetf.training.batches import TensorBatch, in_order

ROWS = 24


def rows_of(task: TaskName) -> tuple[Split, list[str]]:
    """Rows of unlike lengths, every fourth without a label."""
    if task == "token_classification":
        tagged = tiny_tagged(ROWS)
        texts, words = [" ".join(words) for words, _ in tagged], [tags for _, tags in tagged]
    elif task == "regression":
        texts, words = map(list, zip(*[(text, str(score)) for text, score in tiny_scores(ROWS)], strict=True))
    else:
        texts, words = [text for text, _ in tiny_rows(ROWS)], [""] * ROWS
    labels, names = read_labels(task, words)
    labels = [unknown(task, text) if row % 4 == 0 else labels[row] for row, text in enumerate(texts)]
    return Split(texts, None, labels), names


def context_of(task: TaskName, folder: Path, long_texts: str) -> Context:
    """A context with a teacher that reads no more than twelve tokens at a time."""
    split, names = rows_of(task)
    recipe = Recipe.model_validate(
        {
            "name": "tiny",
            "task": task,
            "teacher": {"source": "somewhere"},
            "data": {"source": "somewhere.jsonl", "max_length": 12, "long_texts": long_texts},
            "student": {"num_hidden_layers": 1},
            "stages": [{"stage": "distill"}, {"stage": "export"}],
        }
    )
    data = Dataset(names, split, split, split, fingerprint=task, duplicates=0, conflicts=0)
    context = Context(recipe, data, report=lambda done, total, note: None, say=lambda remark: None)
    source = tiny_classifier("bert", folder / "source", LABELS)

    def write(out: Path) -> tuple[Spec, float]:
        params = save_classifier(load_classifier(source, names or None, context.head), out, source)
        return Spec("torch", WEIGHTS, params, details=context.input_details(0)), 0.0

    return context.with_teacher(seal(folder / "0-teacher", stage="teacher", key="", parents=(), made={}, write=write))


def objective_of(context: Context, **weights: float) -> Objective:
    teacher: Artifact = context.the_teacher()
    student = distill.start(teacher, context)
    nothing: dict[str, Any] = {"logits": 0, "labels": 0, **weights}
    made = Objective(LossConfig(**nothing), student, teacher, context)
    made.learner.eval()
    return made


def addend(made: Objective, term: str, part: TensorBatch, batch: TensorBatch) -> torch.Tensor:
    """What a part of a batch adds to a term."""
    return made.loss(made.learner, part, 0.0)[term] * made.counts(part)[term] / made.counts(batch)[term]


@pytest.mark.parametrize("long_texts", ["truncate", "chunk"])
@pytest.mark.parametrize(
    ("task", "term"),
    [
        ("token_classification", "logits"),
        ("token_classification", "labels"),
        ("regression", "logits"),
        ("regression", "labels"),
        ("sentence_embeddings", "logits"),
    ],
)
def test_parts_add_up_to_the_batch(task: TaskName, term: str, long_texts: str, tmp_path: Path) -> None:
    made = objective_of(context_of(task, tmp_path, long_texts), **{term: 1.0})
    for _, batch in in_order(made.rows, made.encoder, batch_size=7):
        addends = [addend(made, term, batch.part(index, 3), batch) for index in range(3)]
        torch.testing.assert_close(torch.stack(addends).sum(), made.loss(made.learner, batch, 0.0)[term])
    made.close()


def test_similarities_are_those_of_each_part(tmp_path: Path) -> None:
    """The pairs of texts that lie in two parts are left out; what is left is a mean of the same kind."""
    made = objective_of(context_of("sentence_embeddings", tmp_path, "truncate"), similarities=1.0)
    ((_, batch),) = in_order(made.rows, made.encoder)
    parts = [batch.part(index, 2) for index in range(2)]
    alone = [made.loss(made.learner, part, 0.0)["similarities"] for part in parts]
    addends = [addend(made, "similarities", part, batch) for part in parts]
    torch.testing.assert_close(torch.stack(addends).sum(), torch.stack(alone).mean())
    made.close()


def test_what_is_shared_with_other_processes_can_be_pickled(tmp_path: Path) -> None:
    """A model that pools, and the context."""
    import pickle

    context = context_of("sentence_embeddings", tmp_path, "truncate")
    model = load_classifier(context.the_teacher().path, head=context.head)
    again, told = pickle.loads(pickle.dumps((model, context)))
    assert told.head == Head("sentence_embeddings", context.recipe.pooling)
    assert told.data == context.data
    ids = {"input_ids": torch.tensor([[2, 7, 8, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    with torch.no_grad():
        assert torch.equal(again(**ids).logits, model(**ids).logits)
