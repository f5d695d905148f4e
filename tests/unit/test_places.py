"""Where things lie: what is shipped, and the cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetf.core.places import cache_folder, checkout, shipped


@pytest.mark.parametrize("folder", ["recipes", "devices", "calibration_data"])
def test_what_is_shipped_is_there(folder: str) -> None:
    assert list(shipped(folder).glob("*.yaml"))


def test_the_cache_is_where_the_user_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETF_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "own"


def test_the_cache_is_in_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGETF_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "edgetf"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "edgetf"


def test_a_checkout_holds_the_project_file() -> None:
    top = checkout()
    assert top is None or (top / "pyproject.toml").is_file()
