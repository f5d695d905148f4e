"""Whether a command line is one that the CLI takes: its command, options and values, without running anything."""

from __future__ import annotations

from typing import Any

import typer

from edgetf.cli import app


def parsed(words: list[str]) -> tuple[str, dict[str, Any]]:
    """The command behind ``edgetf WORDS``, as in ``ci init``, and its parameters.

    Raises:
        click.UsageError: no such command or option, a value of another kind, or an argument is missing.
    """
    command: Any = typer.main.get_command(app)
    names: list[str] = []
    while hasattr(command, "commands"):
        name, command, words = command.resolve_command(command.make_context("edgetf", list(words)), words)
        names.append(name)
    return " ".join(names), command.make_context(names[-1], list(words)).params
