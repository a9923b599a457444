"""A group of commands whose modules are imported when one of them is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Final

import click

_LONGEST_SENTENCE: Final = 200


class LazyGroup(click.Group):
    """Imports the module of a command only to run it, to help with it, or to list them all."""

    def __init__(
        self, *args: Any, sections: Mapping[str, Mapping[str, str]], **kwargs: Any
    ) -> None:
        """Know where commands are.

        Args:
            args: As click's own group takes them.
            sections: ``module:name`` of each command by its name, below the titles of the help.
            kwargs: As click's own group takes them.
        """
        super().__init__(*args, **kwargs)
        self._sections = sections
        self._places = {name: at for each in sections.values() for name, at in each.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Name all commands, importing none."""
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        place = self._places.get(cmd_name)
        if place is None:
            return super().get_command(ctx, cmd_name)
        module, _, name = place.partition(":")
        command = getattr(importlib.import_module(f"deployer.cli.{module}"), name)
        if not isinstance(command, click.Command):  # pragma: no cover - a test walks all of them
            raise TypeError(f"{place} is no command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands section by section, each with the whole first sentence of its help."""
        width = max(map(len, self._places))
        for title, places in self._sections.items():
            commands = ((name, self.get_command(ctx, name)) for name in places)
            rows = [
                (name.ljust(width), command.get_short_help_str(_LONGEST_SENTENCE))
                for name, command in commands
                if command is not None
            ]
            with formatter.section(title):
                formatter.write_dl(rows)
