"""Models are timed in turns, after a warm-up, and a scattered run says so."""

from __future__ import annotations

import gc
import time

import pytest

from edgetf.runtime import timing
from edgetf.runtime.timing import Taken, interleaved_ms, settled, warm_up


@pytest.fixture(autouse=True)
def _short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "WARMUP_SECONDS", 0.01)


def test_every_model_has_its_samples() -> None:
    taken = interleaved_ms([lambda: None, lambda: None, lambda: None], 30)
    assert [len(each.warm) for each in taken] == [30, 30, 30]
    assert [len(each.after_another) for each in taken] == [16, 30, 15]  # the ends of a round also follow themselves
    assert all(sample >= 0 for each in taken for sample in each.warm + each.after_another)


def test_models_take_turns_and_the_order_turns_round_every_other_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "WARMUP_SECONDS", 0.0)
    calls: list[str] = []
    interleaved_ms([lambda: calls.append("a"), lambda: calls.append("b")], 4)
    warmed, timed = "".join(calls[:-16]), "".join(calls[-16:])
    assert warmed.lstrip("a").strip("b") == ""
    assert min(warmed.count("a"), warmed.count("b")) >= 2 * timing.WARMUP_RUNS  # two windows that agree
    assert timed == "aabb" + "bbaa" + "aabb" + "bbaa"


def test_the_run_after_another_model_is_kept_apart() -> None:
    last = ""

    def run(name: str) -> None:
        """Slow where the other one ran before, as a model is whose weights have left the caches."""
        nonlocal last
        time.sleep(0.005 if name != last else 0)
        last = name

    for each in interleaved_ms([lambda: run("a"), lambda: run("b")], 5):
        assert max(each.warm) < 5 <= min(each.after_another)


def test_one_model_alone_follows_no_other() -> None:
    (alone,) = interleaved_ms([lambda: None], 5)
    assert (len(alone.warm), alone.after_another) == (5, [])


def test_warm_up_lasts_at_least_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "WARMUP_SECONDS", 0.05)
    started = time.perf_counter()
    assert interleaved_ms([lambda: None], 0) == [Taken()]
    assert time.perf_counter() - started >= 0.05


def test_milliseconds_are_milliseconds() -> None:
    slow, fast = interleaved_ms([lambda: time.sleep(0.005), lambda: None], 3)
    assert min(slow.warm) >= 5
    assert min(fast.warm) < 5


def test_the_garbage_collector_rests_while_timing_and_works_again() -> None:
    seen: list[bool] = []
    interleaved_ms([lambda: seen.append(gc.isenabled())], 3)
    assert seen[-3:] == [False] * 3
    assert gc.isenabled()


def test_the_garbage_collector_works_again_after_an_error() -> None:
    calls = 0

    def fail() -> None:
        nonlocal calls
        calls += 1
        if not gc.isenabled():
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interleaved_ms([fail], 3)
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        interleaved_ms([lambda: None], 1)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_call_is_warm_when_its_times_no_longer_change() -> None:
    """A cold cache, a clock that rises: the first runs are slow, and none of them is counted."""
    pauses = iter([0.02] * 5 + [0.012] * 5 + [0.006] * 5)
    (taken,) = interleaved_ms([lambda: time.sleep(next(pauses, 0.001))], 5)
    assert min(taken.warm) < 6


def test_a_call_that_never_settles_is_warm_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "WARMUP_LIMIT", 0.05)
    growing = iter(0.001 * 1.5**k for k in range(1000))
    started = time.perf_counter()
    warm_up(lambda: time.sleep(next(growing)))
    assert time.perf_counter() - started < 2


def test_with_time_to_spare_the_median_is_known_to_one_per_cent() -> None:
    (taken,) = interleaved_ms([lambda: time.sleep(0.001)], 30, seconds=20.0)
    assert settled(taken.warm)
    assert len(taken.warm) >= 30


def test_a_slow_model_gets_thirty_samples_where_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    (taken,) = interleaved_ms([lambda: time.sleep(0.002)], 500, seconds=0.01)
    assert len(taken.warm) == timing.LEAST_SAMPLES
