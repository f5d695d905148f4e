"""The store of a run: what an interrupted training left is gone on with, unless everything is to be made anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetf.core.artifact import CHECKPOINT, Spec
from edgetf.pipeline.store import Store


def stopped(out: Path) -> tuple[Spec, float]:
    (out / CHECKPOINT).mkdir()
    raise KeyboardInterrupt


@pytest.mark.parametrize(("fresh", "wanted"), [(False, [CHECKPOINT]), (True, [])])
def test_a_fresh_run_begins_its_trainings_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: bool, wanted: list[str]
) -> None:
    monkeypatch.setenv("EDGETF_CACHE", str(tmp_path / "cache"))
    found: list[str] = []

    def write(out: Path) -> tuple[Spec, float]:
        found.extend(path.name for path in out.iterdir() if not path.name.startswith("."))
        (out / "model.bin").write_bytes(b"weights")
        return Spec("torch", "model.bin", params=1), 1.0

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path, fresh=False).make("2-distill", "distill", {}, (), (), stopped)
    Store(tmp_path, fresh).make("2-distill", "distill", {}, (), (), write)
    assert found == wanted
