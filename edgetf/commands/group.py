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
        return super().parse_args(ctx, self._named(args))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """See `click.Group.resolve_command`."""
        return super().resolve_command(ctx, self._named(args))

    def _named(self, args: list[str]) -> list[str]:
        first = next((word for word in args if not word.startswith("-")), None)
        return args if first in self.commands or args[:1] in ([word] for word in _HELP) else [DEFAULT, *args]
