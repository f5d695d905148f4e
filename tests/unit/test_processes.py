"""What a process hands to the others, and how it works without any."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import FAMILY_NAMES, tiny_classifier, tiny_dataset

from edgetf.config.recipe import Recipe
from edgetf.models.checkpoint import load_classifier
from edgetf.models.slicing import factorize_words, layers_of, narrow_heads
from edgetf.stages.context import Context
from edgetf.training import processes
from edgetf.training.teacher import takes_token_types


def inputs_of(model: Any) -> dict[str, torch.Tensor]:
    ids = torch.tensor([[2, 7, 9, 11, 3]])
    more = {"token_type_ids": torch.zeros_like(ids)} if takes_token_types(model) else {}
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **more}


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_model_arrives_as_it_was(family: str, pruned: bool, tmp_path: Path) -> None:
    """Also one with a layer without heads, and an embedding that is a product."""
    model = load_classifier(tiny_classifier(family, tmp_path)).eval()
    if pruned:
        narrow_heads(model, layers_of(model)[0], [])
        factorize_words(model, 4)
    arrived = pickle.loads(pickle.dumps(model))
    with torch.no_grad():
        torch.testing.assert_close(arrived(**inputs_of(model)).logits, model(**inputs_of(model)).logits, rtol=0, atol=0)


def test_a_context_arrives_silent() -> None:
    said: list[str] = []
    recipe = Recipe.model_validate(
        {
            "name": "tiny", "teacher": {"source": "somewhere"}, "data": {"source": "somewhere.csv"},
            "student": {"num_hidden_layers": 1}, "stages": [{"stage": "export", "formats": ["onnx"]}],
        }
    )  # fmt: skip
    context = Context(recipe, tiny_dataset(), report=lambda done, total, note: said.append(note), say=said.append)
    arrived = pickle.loads(pickle.dumps(context))
    arrived.say("a remark")
    arrived.report(1, 2, "a note")
    assert said == []
    assert arrived.recipe == recipe and arrived.data == context.data
    context.say("a remark")
    assert said == ["a remark"]


def test_alone_everything_is_done_here() -> None:
    assert (processes.count(), processes.index(), processes.is_main()) == (1, 0, True)
    assert processes.call(divmod, 7, 3) == (2, 1)
    assert processes.share("word") == processes.once(lambda: "word") == "word"
    assert processes.summed(torch.tensor([2.0])).item() == 2.0
    assert processes.together(lambda: 5) == 5
