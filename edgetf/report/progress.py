"""Progress on stderr: bars with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_SECONDS = 10.0


class Reporter:
    """Shows one step at a time. Writes to a copy of stderr, so that silencing a library does not silence it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or os.fdopen(os.dup(sys.stderr.fileno()), "w", buffering=1)
        self._console = Console(file=self._stream)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._name = ""
        self._said = 0.0
        self._started = 0.0
        self._first: tuple[int, float] | None = None  # what was done when counting began, and when

    def say(self, line: str) -> None:
        """One line."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)
        else:
            self._console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show the progress of a step while the block runs."""
        self._name, self._said, self._first = name, time.monotonic(), None
        self._started = time.monotonic()
        if not self._console.is_terminal:
            self.say(f"{name} …")
            yield
            self.say(f"{name}: done in {time.monotonic() - self._started:.1f} s")
            return
        columns = (
            SpinnerColumn(), TextColumn("{task.fields[name]}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
        )  # fmt: skip
        with Progress(*columns, console=self._console, transient=True) as bar:
            self._bar = bar
            self._task = bar.add_task("", total=None, name=name, note="")
            try:
                yield
            finally:
                self._bar = self._task = None
        self.say(f"{name}: done in {time.monotonic() - self._started:.1f} s")

    def update(self, done: int, total: int, note: str) -> None:
        """How far the step is."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, note=note)
            return
        now = time.monotonic()
        if self._first is None or done < self._first[0]:  # a new phase of the step, or one that resumes in its middle
            self._first = (done, now)
        begun, since = self._first
        if now - self._said < PLAIN_SECONDS or done <= begun:
            return
        self._said = now
        left = (now - since) * (total - done) / (done - begun)
        self.say(f"{self._name}: {done}/{total}, {note}, about {left:.0f} s left")
