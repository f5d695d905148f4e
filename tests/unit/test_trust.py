"""A run that should not be trusted says so, with what to do about it; one that should is left in peace."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgetf.runtime import conditions as looks
from edgetf.runtime.conditions import Snapshot, conditions, snapshot
from edgetf.runtime.trust import doubts, drift, is_noisy

QUIET = {"cores": 4, "other_cores": 0.1, "stolen_cores": 0.0, "throttled": None}


@pytest.mark.parametrize(
    ("samples", "wanted"), [([1.0] * 30, False), ([1.0] * 26 + [9.0] * 4, True), ([1.0] * 29 + [9.0], False),
                            ([1.0, 1.2] * 15, False)]
)  # fmt: skip
def test_a_long_slow_tail_is_noisy(samples: list[float], wanted: bool) -> None:
    assert is_noisy(samples) is wanted


@pytest.mark.parametrize(
    ("samples", "changed", "words"),
    [
        ([1.0, 1.0, 2.0] * 10, {}, "scatter.*end other work"),
        ([1.0] * 15 + [1.3] * 15, {}, "drift.*30% slower.*let it cool"),
        ([1.3] * 15 + [1.0] * 15, {}, "drift.*23% faster"),
        ([1.0] * 30, {"other_cores": 3.5}, "other work takes 3.5 of 4 cores; end it"),
        ([1.0] * 30, {"stolen_cores": 0.6}, "the host of this virtual machine takes 0.6 cores"),
        ([1.0] * 30, {"throttled": ["under-voltage"]}, r"slowed down \(under-voltage\); give it a better supply"),
    ],
)
def test_each_doubt_names_its_remedy(samples: list[float], changed: dict[str, Any], words: str) -> None:
    import re

    (reason,) = doubts(samples, {**QUIET, **changed}, threads=1)
    assert re.search(words, reason)


@pytest.mark.parametrize("found", [QUIET, {}, {"cores": 4, "other_cores": 2.9}, {**QUIET, "throttled": []}])
def test_a_quiet_run_has_none(found: dict[str, Any]) -> None:
    assert doubts([1.0, 1.05] * 20, found, threads=1) == []


def test_work_beside_our_threads_is_no_doubt_until_they_share_cores() -> None:
    found = {"cores": 4, "other_cores": 2.0}
    assert doubts([1.0] * 30, found, threads=2) == []
    assert doubts([1.0] * 30, found, threads=3) != []


def test_drift_of_few_samples_is_defined() -> None:
    assert drift([2.0]) == 0.0


def test_the_work_of_others_is_seen_and_ours_is_not() -> None:
    """Really: this process works, then another one does."""
    if snapshot().busy is None:
        pytest.skip("no /proc/stat on this system")
    before = snapshot()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        pass
    mine = conditions(before, snapshot())
    busy = "import time; end = time.monotonic() + 0.8\nwhile time.monotonic() < end: pass"
    with subprocess.Popen([sys.executable, "-c", busy]) as other:
        before = snapshot()
        other.wait()
        theirs = conditions(before, snapshot())
    assert theirs["other_cores"] > 0.5
    assert mine["seconds"] == pytest.approx(0.5, abs=0.3)


def test_the_sums_are_right() -> None:
    before = Snapshot(10.0, 1.0, 100.0, 5.0, 3, 1500.0, 50.0)
    after = Snapshot(12.0, 2.5, 105.5, 5.5, 7, 1200.0, 81.5)
    found = conditions(before, after)
    assert found["other_cores"] == 2.0  # (5.5 s of all - 1.5 s of ours) / 2 s
    assert (found["stolen_cores"], found["preempted"]) == (0.25, 4)
    assert (found["clock_mhz"], found["temperature_c"]) == ([1500.0, 1200.0], [50.0, 81.5])


def test_a_system_that_tells_nothing_gives_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_CPUS", "_ZONES", "_STAT"):
        monkeypatch.setattr(looks, name, tmp_path / "nowhere")
    monkeypatch.setattr(looks, "_FIRMWARE", (str(tmp_path / "nowhere"),))
    found = conditions(snapshot(), snapshot())
    unknown = ("governor", "clock_mhz", "temperature_c", "throttled", "other_cores", "stolen_cores")
    assert [found[name] for name in unknown] == [None] * 6


def test_a_firmware_that_says_it_otherwise_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "get_throttled").write_text("throttled=none\n")
    monkeypatch.setattr(looks, "_FIRMWARE", (str(tmp_path / "get_throttled"),))
    assert looks.throttled() is None


def test_a_board_that_tells_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files as a Raspberry Pi has them."""
    for core, clock in enumerate(("600000", "1800000")):
        folder = tmp_path / f"cpu{core}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(clock + "\n")
        (folder / "scaling_governor").write_text("ondemand\n")
    zone = tmp_path / "thermal_zone0"
    zone.mkdir()
    (zone / "temp").write_text("61835\n")
    (tmp_path / "get_throttled").write_text("50005\n")
    monkeypatch.setattr(looks, "_CPUS", tmp_path)
    monkeypatch.setattr(looks, "_ZONES", tmp_path)
    monkeypatch.setattr(looks, "_FIRMWARE", (str(tmp_path / "get_throttled"),))
    found = conditions(snapshot(), snapshot())
    assert (found["governor"], found["clock_mhz"], found["temperature_c"]) == ("ondemand", [1800.0] * 2, [61.8] * 2)
    assert found["throttled"] == ["under-voltage", "throttled"]
