"""What exists is whole: sealing, verifying, copying, and every way in which an artifact can be broken."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgetf.core.artifact import (
    CHECKPOINT,
    MANIFEST,
    Artifact,
    Spec,
    key_of,
    link_copy,
    load,
    open_verified,
    seal,
    verify,
)
from edgetf.core.errors import ArtifactError, DeviceError
from edgetf.core.files import file_sha256, guard_disk, read_json, write_json
from edgetf.core.metrics import Metric

Write = Callable[[Path], tuple[Spec, float]]


def write_model(out: Path) -> tuple[Spec, float]:
    """Two files, one of them in a folder."""
    (out / "model.bin").write_bytes(b"weights")
    (out / "extra").mkdir()
    (out / "extra" / "words.txt").write_text("a b c")
    return Spec("torch", "model.bin", params=7, metrics=(Metric("dev_accuracy", 0.5, n=2),), details={"x": 1}), 1.23456


def sealed(folder: Path, write: Write = write_model, key: str = "k1", parents: tuple[Artifact, ...] = ()) -> Artifact:
    return seal(folder, stage="distill", key=key, parents=parents, made={"edgetf": "0"}, write=write)


def edit_manifest(artifact: Artifact, **changes: Any) -> None:
    """Write other values into the manifest, as a tamperer would."""
    path = artifact.path / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_sealed_artifact_is_what_was_written(tmp_path: Path) -> None:
    artifact = sealed(tmp_path / "a")
    manifest = artifact.manifest
    assert (manifest.name, manifest.stage, manifest.key, manifest.seconds) == ("a", "distill", "k1", 1.235)
    assert artifact.spec == write_model_spec()
    assert artifact.model_path.read_bytes() == b"weights"
    assert manifest.size_bytes == 7
    assert verify(artifact) is artifact


def write_model_spec() -> Spec:
    return Spec("torch", "model.bin", params=7, metrics=(Metric("dev_accuracy", 0.5, n=2),), details={"x": 1})


def test_manifest_lists_every_file_with_its_hash(tmp_path: Path) -> None:
    artifact = sealed(tmp_path / "a")
    on_disk = {
        path.relative_to(artifact.path).as_posix(): (file_sha256(path), path.stat().st_size)
        for path in artifact.path.rglob("*")
        if path.is_file() and path.name != MANIFEST
    }
    assert {entry.path: (entry.sha256, entry.size_bytes) for entry in artifact.manifest.files} == on_disk
    assert set(on_disk) == {"model.bin", "extra/words.txt"}


def test_manifest_also_lists_a_file_of_its_own_name_further_down(tmp_path: Path) -> None:
    def write(out: Path) -> tuple[Spec, float]:
        (out / "web").mkdir()
        (out / "web" / "manifest.json").write_text("{}")
        return write_model(out)

    assert "web/manifest.json" in {entry.path for entry in sealed(tmp_path / "a", write).manifest.files}


def test_manifest_is_written_last_and_the_name_is_taken_after_that(tmp_path: Path) -> None:
    folder = tmp_path / "a"

    def write(out: Path) -> tuple[Spec, float]:
        assert out == tmp_path / "a.partial"
        assert not folder.exists()
        assert not (out / MANIFEST).exists()
        return write_model(out)

    sealed(folder, write)
    newest = max(folder.rglob("*.*"), key=lambda path: path.stat().st_mtime_ns)
    assert newest.name == MANIFEST
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_children_name_their_parents_by_digest(tmp_path: Path) -> None:
    parent = sealed(tmp_path / "parent")
    child = sealed(tmp_path / "child", parents=(parent,))
    assert child.manifest.parents == (parent.digest,) == (file_sha256(parent.path / MANIFEST),)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failing_write_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def write(out: Path) -> tuple[Spec, float]:
        write_model(out)
        raise error

    with pytest.raises(error):
        sealed(tmp_path / "a", write)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_write_keeps_the_artifact_that_was_there(tmp_path: Path) -> None:
    before = sealed(tmp_path / "a")

    def write(out: Path) -> tuple[Spec, float]:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        sealed(tmp_path / "a", write, key="k2")
    assert open_verified(tmp_path / "a").digest == before.digest


def interrupted(folder: Path, key: str) -> None:
    """A training that was stopped after its first checkpoint."""

    def write(out: Path) -> tuple[Spec, float]:
        (out / CHECKPOINT).mkdir()
        (out / CHECKPOINT / "state").write_text("step 10")
        (out / "half.bin").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sealed(folder, write, key)


def found_again(folder: Path, key: str) -> list[str]:
    """What a second try finds in its folder; it then finishes."""
    found: list[str] = []

    def write(out: Path) -> tuple[Spec, float]:
        found.extend(sorted(path.name for path in out.iterdir() if not path.name.startswith(".")))
        return write_model(out)

    sealed(folder, write, key)
    return found


def test_a_checkpoint_under_the_same_key_is_kept(tmp_path: Path) -> None:
    interrupted(tmp_path / "a", "k1")
    assert not (tmp_path / "a").exists()
    assert (tmp_path / "a.partial" / CHECKPOINT / "state").read_text() == "step 10"
    assert found_again(tmp_path / "a", "k1") == [CHECKPOINT]


def test_a_checkpoint_under_another_key_is_wiped(tmp_path: Path) -> None:
    interrupted(tmp_path / "a", "k1")
    assert found_again(tmp_path / "a", "k2") == []


def test_a_finished_artifact_holds_no_checkpoint_and_no_key_file(tmp_path: Path) -> None:
    interrupted(tmp_path / "a", "k1")
    found_again(tmp_path / "a", "k1")
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {"model.bin", "extra", MANIFEST}
    open_verified(tmp_path / "a")


def test_sealing_again_replaces_the_old_artifact(tmp_path: Path) -> None:
    old = sealed(tmp_path / "a")
    new = sealed(tmp_path / "a", key="k2")
    assert (old.digest != new.digest, new.manifest.key) == (True, "k2")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_verify_finds_a_changed_file_of_the_same_size(tmp_path: Path) -> None:
    artifact = sealed(tmp_path / "a")
    artifact.model_path.write_bytes(b"weightz")
    with pytest.raises(ArtifactError, match="model.bin: changed since it was sealed"):
        verify(artifact)


def test_verify_finds_a_missing_file(tmp_path: Path) -> None:
    artifact = sealed(tmp_path / "a")
    (artifact.path / "extra" / "words.txt").unlink()
    with pytest.raises(ArtifactError, match="words.txt: missing"):
        verify(artifact)


@pytest.mark.parametrize("name", ["../x", "/etc/hostname", "extra/../../x", ".."])
def test_verify_refuses_a_file_outside_the_folder(tmp_path: Path, name: str) -> None:
    artifact = sealed(tmp_path / "a")
    (tmp_path / "x").write_bytes(b"weights")
    entry = {"path": name, "sha256": file_sha256(tmp_path / "x"), "size_bytes": 7}
    listed = json.loads((artifact.path / MANIFEST).read_text())["files"]
    edit_manifest(artifact, files=[*listed, entry])
    with pytest.raises(ArtifactError, match="unsafe file name"):
        open_verified(artifact.path)


@pytest.mark.parametrize("name", ["../x", "/etc/hostname", "unlisted.bin"])
def test_the_model_file_must_be_one_of_the_listed_files(tmp_path: Path, name: str) -> None:
    """Else a manifest could point the runtime at a file that no hash covers."""
    artifact = sealed(tmp_path / "a")
    (tmp_path / "x").write_bytes(b"other weights")
    (artifact.path / "unlisted.bin").write_bytes(b"other weights")
    edit_manifest(artifact, model_file=name)
    with pytest.raises(ArtifactError):
        open_verified(artifact.path)


def test_link_copy_is_the_same_artifact(tmp_path: Path) -> None:
    source = sealed(tmp_path / "a")
    copy = link_copy(source, tmp_path / "b")
    assert (copy.digest, copy.manifest) == (source.digest, source.manifest)
    assert verify(copy).path == tmp_path / "b"
    assert copy.model_path.samefile(source.model_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_link_copy_replaces_what_was_there_and_spares_the_source(tmp_path: Path) -> None:
    source = sealed(tmp_path / "a")
    sealed(tmp_path / "b", key="k2")
    assert link_copy(source, tmp_path / "b").manifest.key == "k1"
    sealed(tmp_path / "b", key="k3")
    verify(source)


def test_load_of_nothing_says_what_to_give(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("nowhere", "not an artifact folder"),
        ("file", "not an artifact folder"),
        ("empty", "not found"),
    ):
        with pytest.raises(ArtifactError, match=message):
            load(tmp_path / name)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "3", '"text"', "{}", '{"schema": 1}', "\x00"])
def test_a_broken_manifest_is_an_artifact_error(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(ArtifactError, match="make it again"):
        load(tmp_path)


def test_a_manifest_that_is_not_text_is_an_artifact_error(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArtifactError, match="cannot be read as JSON"):
        load(tmp_path)


def test_a_manifest_of_another_schema_is_refused(tmp_path: Path) -> None:
    artifact = sealed(tmp_path / "a")
    edit_manifest(artifact, schema=2)
    with pytest.raises(ArtifactError, match="schema 2, this edgetf reads 1"):
        load(artifact.path)


@pytest.mark.parametrize(
    "changes",
    [
        {"files": None},
        {"files": [3]},
        {"files": [{"path": 5, "sha256": "", "size_bytes": 0}]},
        {"metrics": [[]]},
        {"metrics": [{"name": "accuracy", "value": 1, "unit": "fraction", "n": 1, "ci95": [0.5]}]},
        {"parents": 3},
        {"model_file": 3},
        {"details": None},
        {"details": []},
    ],
    ids=str,
)
def test_a_foreign_manifest_is_an_artifact_error(tmp_path: Path, changes: dict[str, Any]) -> None:
    artifact = sealed(tmp_path / "a")
    edit_manifest(artifact, **changes)
    with pytest.raises(ArtifactError):
        open_verified(artifact.path)


def test_write_json_leaves_no_part_behind_and_reads_back(tmp_path: Path) -> None:
    record = {"text": "Ä\u2028\n", "n": 1.5, "none": None}
    write_json(tmp_path / "x.json", record)
    assert read_json(tmp_path / "x.json") == record
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_key_feels_every_value_and_no_order() -> None:
    assert key_of({"a": [1, 2], "b": None}) == key_of({"b": None, "a": [1, 2]})
    assert len({key_of(value) for value in ([1, 2], [2, 1], ["1", "2"], {"1": 2}, [1, [2]])}) == 5


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "the disk or its quota is full"),
        (errno.EDQUOT, "the disk or its quota is full"),
        (errno.EFBIG, "the disk or its quota is full"),
        (errno.EROFS, "no permission to write there"),
        (errno.EACCES, "no permission to write there"),
    ],
)
def test_a_disk_that_refuses_is_one_clear_message(tmp_path: Path, number: int, message: str) -> None:
    with pytest.raises(ArtifactError, match=message), guard_disk(tmp_path):
        raise OSError(number, os.strerror(number))


def test_another_error_of_the_system_is_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError), guard_disk(tmp_path):
        tmp_path.read_bytes()


def test_an_error_of_ours_passes_as_it_is(tmp_path: Path) -> None:
    """Also where it was raised on the way out of an error of the system."""
    with pytest.raises(DeviceError, match="runtime"), guard_disk(tmp_path):
        try:
            raise PermissionError(errno.EACCES, "no entry")
        except PermissionError:
            raise DeviceError("the runtime is not there") from None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_clear_message(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"the disk or its quota is full; free some space"), guard_disk(tmp_path):
        Path("/dev/full").write_text("x")


def test_a_file_over_the_limit_is_an_artifact_error_and_leaves_nothing(tmp_path: Path) -> None:
    code = """if True:
        import resource, sys
        from pathlib import Path
        from edgetf.core.artifact import Spec, seal
        from edgetf.core.errors import ArtifactError, DeviceError

        def write(out):
            (out / "model.bin").write_bytes(b"x" * 100_000)
            return Spec("torch", "model.bin"), 0.0

        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            seal(Path(sys.argv[1]), stage="distill", key="k", parents=[], made={}, write=write)
        except ArtifactError as error:
            print(error)
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    words = [sys.executable, "-c", code, str(tmp_path / "a")]
    done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "the disk or its quota is full" in done.stdout
    assert list(tmp_path.iterdir()) == []
