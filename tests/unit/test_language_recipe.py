"""Recipes of language models: what the schema lets through, and what it says of what it does not."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from edgetf.config.language.recipe import LanguageRecipe
from edgetf.config.load import find_recipe, load_recipe
from edgetf.config.recipe import Recipe
from edgetf.core.errors import ConfigError


def refusal(*overrides: str) -> str:
    """What is said of recipe tinygpt with these overrides."""
    with pytest.raises(ConfigError) as refused:
        load_recipe("tinygpt", overrides)
    return str(refused.value)


def test_the_task_decides_the_schema() -> None:
    assert isinstance(load_recipe("tinygpt"), LanguageRecipe)
    assert isinstance(load_recipe("quickstart"), Recipe)


def test_overrides_reach_stages_that_only_language_models_have() -> None:
    recipe = load_recipe("tinygpt", ["pretrain.steps=7", "distill.divergence=jsd", "vocabulary.size=900"])
    assert isinstance(recipe, LanguageRecipe)
    assert [stage.stage for stage in recipe.stages] == ["pretrain", "vocabulary", "distill", "export", "quantize"]
    distill = recipe.distill()
    assert distill is not None
    assert distill.divergence == "jsd"


def test_a_teacher_that_is_there_takes_the_place_of_one_that_is_trained() -> None:
    recipe = load_recipe("tinygpt", ['teacher={"source": "./teacher"}', "pretrain=null"])
    assert isinstance(recipe, LanguageRecipe)
    assert recipe.teacher.model_dump() == {"source": "./teacher", "revision": None}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["student.num_key_value_heads=3"], "num_attention_heads 4 is not a multiple of num_key_value_heads 3"),
        (["teacher.hidden_size=250"], "teacher: got"),
        (["pretrain=null"], "pretrain: trains a teacher that has only a shape"),
        (['teacher={"source": "./teacher"}'], "pretrain: trains a teacher that has only a shape"),
        (["distill=null"], "student: a tinygpt is made by the distill stage"),
        (["prune.ffn_ratio=0.5"], "prune: it makes the teacher smaller, and a tinygpt is another model"),
        (["export=null"], "there is no export stage"),
        (["distill.teacher=0", "distill.labels=0"], "teacher and labels both weigh 0"),
        (["quantize.schemes=[\"w8a16\"]"], "allowed for decoders: w8a8_dynamic, w8, w4"),
        (["distill.divergance=jsd"], "distill.divergance: not a field; did you mean divergence?"),
        (["teacher.hidden_sice=64"], "teacher.hidden_sice: not a field; did you mean hidden_size?"),
        (["finetune.epochs=2"], "finetune: not a recipe field or stage"),
        (["data.split.test=0"], "perplexity is measured on held-out documents"),
        (['budget={"accuracy_drop": 0.1}'], "budget.accuracy_drop: not measured for language_modeling"),
        (['budget={"perplexity_ration": 1.1}'], "not a budget; did you mean perplexity_ratio?"),
        (['budget={"flip_rate": 10}'], "budget.flip_rate: got 10, allowed 0 to 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_words(overrides: list[str], said: str) -> None:
    assert said in refusal(*overrides)


REMOTE = 'teacher={"endpoint": "http://127.0.0.1:9/v1", "model": "m"}'


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], "it gives texts alone; give distill.sequence_level"),
        (["distill.sequence_level.samples=9"], "set distill.teacher=0"),
        (
            ["distill.sequence_level.samples=9", "distill.teacher=0", "distill.labels=1", "vocabulary.size=900"],
            "there is no model to prune",
        ),
    ],
)
def test_an_endpoint_gives_words_alone(overrides: list[str], said: str) -> None:
    assert said in refusal(REMOTE, "pretrain=null", *overrides)


def test_an_endpoint_teaches_by_its_texts() -> None:
    words = ["distill.sequence_level.samples=9", "distill.teacher=0", "distill.labels=1"]
    assert isinstance(load_recipe("tinygpt", [REMOTE, "pretrain=null", *words]), LanguageRecipe)


def test_a_key_does_not_stand_in_a_recipe() -> None:
    with pytest.raises(ConfigError, match="api_key_env: not the name of a variable") as refused:
        load_recipe("tinygpt", [REMOTE[:-1] + ', "api_key_env": "sk-secret"}', "pretrain=null"])
    assert "secret" not in str(refused.value)


def test_a_pruned_teacher_is_a_student_too() -> None:
    tree: dict[str, Any] = yaml.safe_load(find_recipe("tinygpt").read_text())
    stages = [{"stage": "prune", "ffn_ratio": 0.5}, {"stage": "export"}]
    recipe = LanguageRecipe.model_validate(
        {**tree, "name": "n", "teacher": {"source": "t"}, "student": {"architecture": "teacher"}, "stages": stages}
    )
    assert recipe.variant_names() == ["onnx-fp32"]
