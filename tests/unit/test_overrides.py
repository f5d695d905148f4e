"""``key.path=value`` edits the tree before the schema sees it, so file and command line meet the same rules."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from edgetf.config.data import AugmentConfig
from edgetf.config.load import load_recipe
from edgetf.config.overrides import apply_overrides
from edgetf.config.quantization import QuantizeConfig
from edgetf.config.stages import DistillConfig, PruneTarget
from edgetf.config.student import FromTeacher
from edgetf.core.errors import ConfigError


def tree() -> dict[str, Any]:
    return {
        "name": "x",
        "data": {"source": "bbc_news"},
        "stages": [{"stage": "distill", "epochs": 2}, {"stage": "prune"}, {"stage": "export"}],
    }


def names(edited: dict[str, Any]) -> list[str]:
    return [stage["stage"] for stage in edited["stages"]]


def stage_of(recipe: Any, name: str) -> Any:
    return next(stage for stage in recipe.stages if stage.stage == name)


def test_no_overrides_change_nothing() -> None:
    assert apply_overrides(tree(), []) == tree()


def test_the_given_tree_is_left_as_it_was() -> None:
    given = tree()
    before = copy.deepcopy(given)
    apply_overrides(given, ["data.source=x", "prune=null", "distill.epochs=5"])
    assert given == before


def test_null_drops_a_stage() -> None:
    assert names(apply_overrides(tree(), ["prune=null"])) == ["distill", "export"]
    assert names(apply_overrides(tree(), ["finetune=null"])) == ["distill", "prune", "export"]
    assert "prune" not in [stage.stage for stage in load_recipe("quickstart", ["prune=null"]).stages]


def test_a_field_of_a_stage_is_set() -> None:
    distill = stage_of(load_recipe("quickstart", ["distill.temperature=4"]), "distill")
    assert isinstance(distill, DistillConfig)
    assert distill.temperature == 4.0


def two_distills() -> dict[str, Any]:
    return {**tree(), "stages": [{"stage": "distill", "name": "general"}, *tree()["stages"]]}


def test_each_of_two_distill_stages_is_set_by_its_name() -> None:
    edited = apply_overrides(two_distills(), ["general.temperature=4", "distill.epochs=5"])
    assert edited["stages"][:2] == [
        {"stage": "distill", "name": "general", "temperature": "4"},
        {"stage": "distill", "epochs": "5"},
    ]


def test_each_of_two_distill_stages_is_dropped_by_its_name() -> None:
    assert apply_overrides(two_distills(), ["general=null"]) == tree()
    assert names(apply_overrides(two_distills(), ["distill=null"])) == ["distill", "prune", "export"]
    assert apply_overrides(two_distills(), ["distill=null"])["stages"][0]["name"] == "general"


def test_a_named_stage_is_suggested_for_a_word_that_is_near() -> None:
    with pytest.raises(ConfigError, match="did you mean general"):
        apply_overrides(two_distills(), ["genral.epochs=1"])


def test_a_field_of_a_field_is_set() -> None:
    recipe = load_recipe("quickstart", ["prune.target.speedup=4", "data.augment.copies=2"])
    assert stage_of(recipe, "prune").target == PruneTarget(speedup=4)
    assert recipe.data.augment == AugmentConfig(copies=2)


def test_a_field_of_a_field_keeps_its_neighbors() -> None:
    given = {**tree(), "stages": [{"stage": "prune", "target": {"params": 0.5}}]}
    edited = apply_overrides(given, ["prune.target.params=null", "prune.target.macs=0.25"])
    assert edited["stages"] == [{"stage": "prune", "target": {"params": None, "macs": "0.25"}}]


def test_the_schedule_of_a_term_is_set() -> None:
    distill = stage_of(load_recipe("quickstart", ["distill.schedules.hidden=[1, 0]", "distill.hidden=1"]), "distill")
    assert distill.schedules == {"hidden": (1.0, 0.0)}


def test_a_field_of_the_student_is_set() -> None:
    recipe = load_recipe("quickstart", ["student.num_hidden_layers=6", "student.layers=null"])
    assert recipe.student == FromTeacher(num_hidden_layers=6, layers=None)


def test_a_missing_section_is_made() -> None:
    recipe = load_recipe("quickstart", ["validation.threads=2", "data.split.seed=7"])
    assert (recipe.validation.threads, recipe.data.split.seed) == (2, 7)
    assert recipe.data.split.test == 0.35


@pytest.mark.parametrize("name", ["finetune", "vocabulary", "quantize"])
def test_a_stage_that_is_not_there_is_added_in_its_place(name: str) -> None:
    field = {
        "finetune": "finetune.epochs=1",
        "vocabulary": "vocabulary.size=8000",
        "quantize": 'quantize.schemes=["w8a8_dynamic"]',
    }[name]
    order = {
        "finetune": ["finetune", "distill", "prune", "export"],
        "vocabulary": ["vocabulary", "distill", "prune", "export"],
        "quantize": ["distill", "prune", "export", "quantize"],
    }
    assert names(apply_overrides(tree(), [field])) == order[name]


def test_a_dropped_stage_can_be_set_up_anew() -> None:
    quantize = stage_of(load_recipe("quickstart", ["quantize=null", 'quantize.schemes=["fp32"]']), "quantize")
    assert quantize == QuantizeConfig(schemes=("fp32",))


@pytest.mark.parametrize(
    ("text", "value"), [("1e-4", 1e-4), ("0.001", 1e-3), ("2E-3", 2e-3), (" 1e-3 ", 1e-3)], ids=repr
)
def test_scientific_notation_is_a_number(text: str, value: float) -> None:
    assert stage_of(load_recipe("quickstart", [f"distill.learning_rate={text}"]), "distill").learning_rate == value


@pytest.mark.parametrize(("text", "value"), [("no", False), ("true", True), ("0", False), ("yes", True)])
def test_words_become_booleans_where_the_schema_wants_one(text: str, value: bool) -> None:
    recipe = load_recipe("quickstart", [f"distill.freeze_embeddings={text}"])
    assert stage_of(recipe, "distill").freeze_embeddings is value


def test_a_word_stays_a_word_where_the_schema_wants_one() -> None:
    assert load_recipe("quickstart", ["data.text=no", "data.label=1e-4"]).data.text == "no"


def test_lists_and_mappings_are_json() -> None:
    recipe = load_recipe(
        "quickstart",
        ['export.formats=["onnx"]', 'budget={"speedup": 2}', "student.layers=[1, 3, 5]", 'data.split={"seed": 3}'],
    )
    assert recipe.variants() == [("onnx", "fp32"), ("onnx", "w8a8_dynamic")]
    assert recipe.budget == {"speedup": 2.0}
    assert recipe.student == FromTeacher(layers=(1, 3, 5))
    assert (recipe.data.split.seed, recipe.data.split.test) == (3, 0.2)


def test_the_value_begins_at_the_first_equals_sign() -> None:
    assert apply_overrides(tree(), ["data.source=a=b=c"])["data"]["source"] == "a=b=c"
    assert apply_overrides(tree(), ["description="])["description"] == ""


def test_the_last_word_wins() -> None:
    assert stage_of(load_recipe("quickstart", ["distill.epochs=1", "distill.epochs=2"]), "distill").epochs == 2


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("nonsense", "nonsense: not an override; write it as key.path=value"),
        ("", "not an override"),
        ("=1", "=1: not an override"),
        ("distil.epochs=1", "distil: not a recipe field or stage; did you mean distill?"),
        ("dta.source=1", "dta: not a recipe field or stage; did you mean data?"),
        ("distill=4", "distill: got '4'; a stage is dropped by distill=null, or set by distill.FIELD=value"),
        ("distill.epochs.b=1", "distill.epochs.b: epochs is 2, which has no fields"),
        ("name.first=1", "name.first: name is 'x', which has no fields"),
        ("data.source.deep=1", "data.source.deep: source is 'bbc_news', which has no fields"),
        ("stages.0=1", "which has no fields"),
        ("data=[1, 2", "data: got [1, 2, which is not JSON"),
        ("data={'a': 1}", "which is not JSON"),
    ],
)
def test_a_word_that_cannot_be_placed_is_a_config_error(word: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        apply_overrides(tree(), [word])
    assert message in str(caught.value)


def test_every_word_that_cannot_be_placed_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        apply_overrides(tree(), ["nonsense", "distil.epochs=1", "data.source=fine", "x=["])
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    "words",
    [
        ["stages=null", "prune=null"],
        ["stages=x", "distill.epochs=1"],
        ["stages={}", "prune=null"],
        ["stages=3", "export.opset=20"],
    ],
    ids=str,
)
def test_stages_that_are_no_list_are_a_config_error(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="stages"):
        load_recipe("quickstart", words)


@pytest.mark.parametrize("stages", [None, 3, "text", {}], ids=repr)
def test_an_override_of_a_broken_file_is_a_config_error(stages: Any) -> None:
    with pytest.raises(ConfigError, match="stages"):
        apply_overrides({"stages": stages}, ["distill.epochs=1"])


def test_json_too_deep_to_read_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="not JSON"):
        apply_overrides(tree(), ["data=" + "[" * 100_000])
