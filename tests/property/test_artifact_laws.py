"""A sealed artifact opens again whatever is in it, and no manifest brings more than an ArtifactError."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from edgetf.core.artifact import MANIFEST, Artifact, Spec, key_of, open_verified, seal
from edgetf.core.errors import ArtifactError

often = settings(max_examples=60, deadline=None)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**6) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def sealed(folder: Path, files: dict[str, bytes], details: dict[str, Any]) -> Artifact:
    def write(out: Path) -> tuple[Spec, float]:
        for name, content in files.items():
            (out / name).write_bytes(content)
        return Spec("onnx", next(iter(files)), details=details), 0.5

    return seal(folder, stage="export", key="k", parents=[], made={}, write=write)


@often
@given(
    files=st.dictionaries(st.sampled_from(["a.bin", "b.bin", "c.json"]), st.binary(max_size=50), min_size=1),
    details=st.dictionaries(st.text(max_size=5), json_values, max_size=3),
)
def test_what_is_sealed_opens_again(files: dict[str, bytes], details: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        artifact = sealed(Path(folder) / "a", files, details)
        again = open_verified(artifact.path)
        assert again == artifact
        assert again.spec.details == details
        assert {name: (again.path / name).read_bytes() for name in files} == files


@often
@given(content=st.binary(min_size=1, max_size=50), at=st.integers(0, 49), change=st.integers(1, 255))
def test_any_changed_byte_is_found(content: bytes, at: int, change: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        artifact = sealed(Path(folder) / "a", {"m.bin": content}, {})
        changed = bytearray(content)
        changed[at % len(content)] ^= change
        artifact.model_path.write_bytes(bytes(changed))
        try:
            open_verified(artifact.path)
        except ArtifactError:
            return
        raise AssertionError("the change was not found")


@settings(max_examples=150, deadline=None)
@given(value=json_values, data=st.data())
def test_no_manifest_brings_more_than_an_artifact_error(value: Any, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        artifact = sealed(Path(folder) / "a", {"m.bin": b"x"}, {})
        path = artifact.path / MANIFEST
        record = json.loads(path.read_text())
        node, field = record, data.draw(st.sampled_from(sorted(record)))
        if field == "files" and data.draw(st.booleans()):
            node, field = record["files"][0], data.draw(st.sampled_from(["path", "sha256", "size_bytes"]))
        node[field] = value
        path.write_text(json.dumps(record))
        with contextlib.suppress(ArtifactError):
            open_verified(artifact.path)


@often
@given(value=json_values)
def test_key_is_the_same_after_a_round_trip(value: Any) -> None:
    assert key_of(value) == key_of(json.loads(json.dumps(value)))
