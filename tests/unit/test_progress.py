"""Progress: plain lines where there is no terminal, and every line as it was said."""

from __future__ import annotations

import io
import re

import pytest

from edgetf.report import progress
from edgetf.report.progress import Reporter


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What stands for stderr."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return io.StringIO()


@pytest.mark.parametrize(
    "line", ["plain", "[bold]tag[/bold]", "[/]", "a 1.5 'b' http://x", "x" * 300, "stage :fire: w8"]
)
def test_a_line_is_shown_as_it_is(stream: io.StringIO, line: str) -> None:
    Reporter(stream).say(line)
    assert stream.getvalue() == line + "\n"


def test_a_step_says_when_it_begins_and_ends(stream: io.StringIO) -> None:
    reporter = Reporter(stream)
    with reporter.step("distill"):
        assert stream.getvalue() == "distill …\n"
        reporter.say("a remark")
    assert re.fullmatch(r"distill …\na remark\ndistill: done in \d+\.\d s\n", stream.getvalue())


def test_a_step_that_fails_is_not_called_done(stream: io.StringIO) -> None:
    with pytest.raises(KeyError), Reporter(stream).step("distill"):
        raise KeyError
    assert stream.getvalue() == "distill …\n"


def test_updates_say_how_far_and_how_long_still(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    reporter = Reporter(stream)
    with reporter.step("distill"):
        reporter.update(1, 10, "loss 0.6")  # counting begins here
        reporter.update(5, 10, "loss 0.5")
    line = stream.getvalue().splitlines()[1]
    assert re.fullmatch(r"distill: 5/10, loss 0\.5, about \d+ s left", line)


def test_what_a_resumed_step_had_done_before_is_not_counted_as_speed(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 0.0, 10.0, 30.0, 40.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    reporter = Reporter(stream)
    with reporter.step("distill"):
        reporter.update(500, 1000, "loss 0.5")
        reporter.update(510, 1000, "loss 0.5")  # ten more in twenty seconds
    assert "510/1000, loss 0.5, about 980 s left" in stream.getvalue()


def test_nothing_is_foretold_before_the_first_part_is_done(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    reporter = Reporter(stream)
    with reporter.step("distill"):
        reporter.update(0, 10, "")
    assert len(stream.getvalue().splitlines()) == 2


def test_updates_are_seldom_enough_to_read(stream: io.StringIO) -> None:
    reporter = Reporter(stream)
    with reporter.step("distill"):
        for done in range(1, 1000):
            reporter.update(done, 1000, "")
    assert len(stream.getvalue().splitlines()) == 2


def test_no_control_characters_reach_a_file(stream: io.StringIO) -> None:
    reporter = Reporter(stream)
    with reporter.step("distill"):
        reporter.update(1, 2, "")
    assert "\x1b" not in stream.getvalue()
    assert "\r" not in stream.getvalue()


def test_on_a_terminal_a_step_is_a_bar(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    reporter = Reporter(stream)
    with reporter.step("distill"):
        reporter.update(5, 10, "loss 0.5")
        reporter.say("a remark")
    shown = stream.getvalue()
    assert "\x1b" in shown
    assert "a remark" in shown
    assert re.search(r"distill: done in \d+\.\d s", shown)


def test_without_a_stream_it_writes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter()
    reporter.say("on stderr")
    reporter._stream.close()
    assert capfd.readouterr() == ("", "on stderr\n")
