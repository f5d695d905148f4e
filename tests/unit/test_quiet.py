"""Libraries are kept off the terminal, and afterwards everything is as it was."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings

import pytest

from edgetf.core.quiet import quiet


def test_nothing_of_the_block_reaches_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet():
        os.write(1, b"from C on stdout\n")
        os.write(2, b"from C on stderr\n")
        subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
    assert capfd.readouterr() == ("", "")


def test_output_comes_back_after_the_block(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet():
        pass
    os.write(1, b"out")
    os.write(2, b"err")
    assert capfd.readouterr() == ("out", "err")


def test_an_error_passes_and_output_comes_back(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), quiet():
        os.write(1, b"lost")
        raise KeyError
    os.write(1, b"out")
    assert capfd.readouterr() == ("out", "")


def test_blocks_may_stand_in_each_other(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet():
        with quiet():
            os.write(1, b"lost")
        os.write(1, b"lost too")
    os.write(1, b"out")
    assert capfd.readouterr() == ("out", "")


def test_logging_and_warnings_are_as_before() -> None:
    level, filters = logging.root.manager.disable, list(warnings.filters)
    with quiet():
        warnings.warn("chatter", UserWarning, stacklevel=1)
        assert logging.root.manager.disable >= logging.ERROR
    assert logging.root.manager.disable == level
    assert list(warnings.filters) == filters


def test_no_file_descriptor_is_lost() -> None:
    def following() -> int:
        number = os.dup(1)
        os.close(number)
        return number

    before = following()
    for _ in range(5):
        with quiet():
            pass
    assert following() == before
