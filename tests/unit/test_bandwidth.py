"""The bandwidth that a decoder is held against is that of reading, at the sizes that were asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetf.runtime import bandwidth as module
from edgetf.runtime.bandwidth import bandwidth, last_cache_bytes
from edgetf.targets.local import ask_runner


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUND_SECONDS", 0.01)


def test_every_size_is_read_and_one_beyond_the_caches() -> None:
    found = bandwidth({"threads": 1, "bytes": [1 << 16, 1 << 20]})
    assert [each["bytes"] for each in found["reads"]][:2] == [1 << 16, 1 << 20]
    assert found["reads"][-1]["bytes"] >= module.LEAST_BYTES
    assert found["memory_bytes_per_s"] == found["reads"][-1]["bytes_per_s"]
    assert all(each["bytes_per_s"] > 1e8 for each in found["reads"])  # slower than any memory, but no dead read
    assert all(each["n"] >= module.LEAST_ROUNDS for each in found["reads"])


def test_threads_share_a_buffer() -> None:
    found = bandwidth({"threads": 2, "bytes": [8 << 20]})
    assert found["reads"][0]["bytes_per_s"] > 1e8


def test_a_model_larger_than_what_may_be_taken_is_read_as_main_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_available", lambda: 0)
    found = bandwidth({"threads": 1, "bytes": [4 << 30]})
    assert [each["bytes"] for each in found["reads"]] == [module.LEAST_BYTES]


def test_the_last_cache_is_the_largest(tmp_path: Path) -> None:
    for number, size in enumerate(("48K", "2M", "nonsense", "512")):
        (tmp_path / f"index{number}").mkdir()
        (tmp_path / f"index{number}" / "size").write_text(size)
    assert last_cache_bytes(tmp_path) == 2 << 20
    assert last_cache_bytes(tmp_path / "nowhere") is None


def test_the_runner_answers() -> None:
    found = ask_runner({"do": "bandwidth", "threads": 1, "bytes": [1 << 16]})
    assert found["reads"][0]["bytes"] == 1 << 16
