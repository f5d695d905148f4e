"""The errors that a user or a file can cause, each with its exit code.

A message reads ``place: got, allowed, next step``. Whatever is not an `EdgetfError` is a bug and keeps its
traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

EXIT_FINE = 0
EXIT_BUDGET_MISSED = 1
EXIT_INTERRUPTED = 130


class EdgetfError(Exception):
    """Base of every error that is shown without a traceback."""

    exit_code = 2


class ConfigError(EdgetfError):
    """A recipe, an option or a data set is wrong; holds every problem found, not just the first."""

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class DataError(ConfigError):
    """The rows of a data set cannot be used."""


class ArtifactError(EdgetfError):
    """An artifact or a model file is missing, corrupt, unsafe, or cannot be written."""

    exit_code = 3


class DeviceError(EdgetfError):
    """A device, a backend, or the package behind it is not available."""

    exit_code = 4


class ParityError(EdgetfError):
    """An op is not supported, or a result differs from what it must equal."""

    exit_code = 5


def near_match(word: str, known: Iterable[str]) -> str:
    """The end of an error message that names the nearest known word.

    >>> near_match("hiden_size", ["hidden_size", "vocab_size"])
    '; did you mean hidden_size?'
    >>> near_match("zzz", ["a", "b"])
    '; known: a, b'
    """
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known: {', '.join(names)}" if names else ""


def missing_extra(module: str, extra: str) -> DeviceError:
    """The one line for a package that an extra would have brought."""
    return DeviceError(f"{module}: not installed; run: pip install 'edgetf[{extra}]'")


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Turn a failed import inside the block into the install command of `extra`.

    Raises:
        DeviceError: a package of another project is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "edgetf":
            raise  # a missing module of our own is a bug
        raise missing_extra(error.name or "a package", extra) from error
