"""What the plan says before any work follows what the stages will do to the model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Tiny

from edgetf.config.load import load_recipe
from edgetf.core.errors import ConfigError
from edgetf.pipeline import forecast
from edgetf.pipeline.plan import Plan, make_plan


def planned(tiny: Tiny, *words: str) -> Plan:
    return make_plan(load_recipe(str(tiny.recipe), ["finetune.epochs=1", "prune=null", *words]), allow_larger=True)


def params(tiny: Tiny, *words: str) -> int:
    return planned(tiny, *words).student.params


def test_a_smaller_vocabulary_has_fewer_weights(tiny: Tiny) -> None:
    whole = params(tiny)
    words = json.loads((tiny.teacher / "config.json").read_text())["vocab_size"]
    assert params(tiny, "vocabulary.size=60", "vocabulary.positions=false") == whole - (words - 60) * 32
    assert params(tiny, f"vocabulary.size={words + 1}", "vocabulary.positions=false") == whole
    assert params(tiny, "vocabulary.positions=true") == whole - (64 - 16) * 32
    factorized = params(tiny, "vocabulary.embedding_size=8", "vocabulary.positions=false")
    assert factorized == whole - words * 32 + (words + 32) * 8


def test_a_target_has_fewer_weights_the_lower_it_is(tiny: Tiny) -> None:
    found = [params(tiny, "prune.round_to=8", f"prune.target.params={share}") for share in (1.0, 0.5, 0.25)]
    assert found[0] == params(tiny)
    assert found[0] > found[1] > found[2]
    assert params(tiny, "prune.round_to=8", "prune.target.speedup=2") == found[1]


def test_a_family_is_planned_member_by_member(tiny: Tiny) -> None:
    plan = planned(tiny, "prune.round_to=8", "prune.target.params=[0.5,0.25]", 'export.formats=["onnx"]')
    single = [params(tiny, "prune.round_to=8", f"prune.target.params={share}") for share in (0.5, 0.25)]
    assert [student.cost.params for student in plan.students] == single
    record = plan.to_json()
    assert [(member["name"], member["params"]) for member in record["family"]] == [
        ("0.5params", single[0]),
        ("0.25params", single[1]),
    ]
    assert record["student"]["params"] == single[0]
    assert record["variants"][::2] == ["0.5params-onnx-fp32", "0.25params-onnx-fp32"]
    assert planned(tiny, "prune.round_to=8", "prune.target.params=[0.5]").to_json()["family"] == []


def test_a_narrower_hidden_state_has_fewer_weights(tiny: Tiny) -> None:
    kept = ["prune.ffn_ratio=0", "prune.round_to=8"]
    assert params(tiny, *kept) == params(tiny)
    assert params(tiny, *kept, "prune.hidden_ratio=0.5") < params(tiny)
    assert params(tiny, "student.hidden_size=16") < params(tiny)


def test_every_teacher_of_an_ensemble_takes_its_time(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "matmul_macs_per_second", lambda: 2e10)
    one, three = (
        {
            step.name: step.predicted_seconds
            for step in planned(tiny, f"finetune.ensemble={count}", "finetune.epochs=1000").steps
        }
        for count in (1, 3)
    )
    fixed = forecast._EXPORT_SECONDS["onnx"]
    assert three["finetune"] - fixed == pytest.approx(3 * (one["finetune"] - fixed), rel=0.01)
    assert three["export"] == one["export"]


def test_a_second_distill_stage_keeps_the_student(tiny: Tiny) -> None:
    stages = (
        '[{"stage": "finetune"}, {"stage": "distill", "name": "general"}, {"stage": "distill"}, {"stage": "export"}]'
    )
    plan = planned(tiny, f"stages={stages}")
    assert plan.student.params == params(tiny)
    assert [step.name for step in plan.steps] == ["finetune", "general", "distill", "export", "validate"]


def test_unlabelled_texts_take_time_but_change_no_split(tiny: Tiny, tmp_path: Path) -> None:
    more = tmp_path / "more.jsonl"
    more.write_text("".join(json.dumps({"text": f"text {k}"}) + "\n" for k in range(9)))
    before, after = planned(tiny), planned(tiny, f"data.unlabelled={more}")
    assert after.data.unlabelled is not None and len(after.data.unlabelled) == 9
    assert after.to_json()["data"] == before.to_json()["data"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["student.hidden_size=64"], "student.hidden_size: got 64, allowed: up to the teacher's 32"),
        (["student.num_attention_heads=8"], "student.num_attention_heads: got 8, allowed: up to the teacher's 4"),
        (["student.intermediate_size=65"], "student.intermediate_size: got 65, allowed: up to the teacher's 64"),
    ],
    ids=str,
)
def test_a_student_wider_than_its_teacher_is_refused(tiny: Tiny, words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(tiny, *words)


NO_LAYER = "layer_map: got null for every layer, but hidden and attention compare layers; name one"
HIDDEN = {"hidden": 1, "progressive": 0.5}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layer_map": [0, 1]}, "layer_map: got 2 layers, allowed: the student's 1"),
        ({"layer_map": [2]}, "layer_map: got 2, allowed: 0 to 1"),
        ({"layer_map": [-1]}, "layer_map: got -1, allowed: 0 to 1"),
        ({"layer_map": [None], **HIDDEN}, NO_LAYER),
        ({"layer_map": [None], "attention": 1, "progressive": 1}, NO_LAYER),
        ({"relations": 1, "relation_heads": 4, "relation_layer": 2}, "relation_layer: got 2, allowed: -2 to 1"),
        ({"relations": 1, "relation_heads": 3}, "relation_heads: got 3, allowed: a divisor of 32"),
    ],
    ids=str,
)
def test_what_a_loss_cannot_compare_is_found_in_every_stage(
    tiny: Tiny, fields: dict[str, object], message: str
) -> None:
    """Before any work, and of all stages at once: the training would come to it hours later."""
    heads = {"head_ratio": 0, "round_to": 8}
    stages = [
        {"stage": "finetune"},
        {"stage": "distill", "name": "general", **fields},
        {"stage": "distill", **fields},
        {"stage": "prune", **heads, **fields},
        {"stage": "export"},
    ]
    with pytest.raises(ConfigError) as caught:
        make_plan(load_recipe(str(tiny.recipe), [f"stages={json.dumps(stages)}"]), allow_larger=True)
    for name, problem in zip(("general", "distill", "prune"), caught.value.problems, strict=True):
        assert problem.startswith(f"{name}.{message}")


@pytest.mark.parametrize("target", [{"params": 0.5}, {"speedup": 2}], ids=str)
def test_a_target_keeps_the_layers_that_a_map_names(tiny: Tiny, target: dict[str, float]) -> None:
    words = [f"prune.target={json.dumps(target)}", "prune.hidden=1", "prune.round_to=8"]
    planned(tiny, *words, "prune.layer_map=[1]")
    with pytest.raises(ConfigError, match="^prune.layer_map: got 2 layers, allowed: the student's 1$"):
        planned(tiny, *words, "prune.layer_map=[0,1]")
