"""A group of commands that shows where no command of it is named: `edgetf devices`, `edgetf devices NAME`."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

DEFAULT = "show"
_HELP = ("-h", "--help")


class ShowGroup(TyperGroup):
    """Puts `show` before words that name no command of the group."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See `click.Command.parse_args`."""
        named = next((word for word in args if not word.startswith("-")), None)
        if named not in self.commands and args[:1] not in ([word] for word in _HELP):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)
