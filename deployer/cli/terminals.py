"""What commands print: rich for people at a terminal, plain text for pipes, JSON for machines."""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import click

from deployer.cli import failures, tables
from deployer.cli.tables import Column
from deployer.errors import DeployerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console

    from deployer.client.answers import Answer

_STYLES: Final[Mapping[str, str]] = {
    "running": "green",
    "succeeded": "green",
    "done": "green",
    "starting": "yellow",
    "stopping": "yellow",
    "degraded": "yellow",
    "queued": "yellow",
    "failed": "red",
    "crash_looping": "red",
    "quarantined": "red",
    "rolled_back": "red",
}


class Terminal:
    """Where a command's output goes.

    Attributes:
        as_json: Print documents for machines, and nothing else.
        tells_events: Those documents are events, one a line, and so is what goes wrong.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        """Print to this process's standard output, and errors to standard error."""
        self.as_json = as_json
        self.tells_events = False

    @property
    def is_rich(self) -> bool:
        """Whether somebody looks at a terminal that can do more than take lines."""
        return not self.as_json and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"

    @cached_property
    def console(self) -> Console:
        """rich's side of the terminal; it honours NO_COLOR by itself."""
        from rich.console import Console  # noqa: PLC0415 - slow, and only for terminals

        return Console(highlight=False)

    def line(self, text: str) -> None:
        """Print a line."""
        click.echo(printable(text))

    def raw_line(self, text: str) -> None:
        """Print a line of a log: as it is into a pipe, without surprises on a terminal."""
        click.echo(printable(text) if sys.stdout.isatty() else text)

    def document(self, document: Mapping[str, Any]) -> None:
        """Print a document for machines."""
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))

    def event(self, event: str, **members: Any) -> None:
        """Print an event for machines, on a line of its own, at once."""
        click.echo(json.dumps({"event": event, **members}, ensure_ascii=False))

    def documents(self, name: str, answers: Sequence[Answer]) -> None:
        """Print a list for machines, as the server would give it whole."""
        self.document({name: [dict(each.document) for each in answers], "count": len(answers)})

    @property
    def is_coloured(self) -> bool:
        """Whether colours are seen and wanted; see no-color.org."""
        return self.is_rich and not os.environ.get("NO_COLOR")

    @property
    def width(self) -> int | None:
        """In characters; None where lines may be as long as they are."""
        return shutil.get_terminal_size().columns if self.is_rich else None

    def styled(self, padded: str, text: str | None = None) -> str:
        """Colour a status word, by itself or padded."""
        colour = _STYLES.get(padded if text is None else text)
        return click.style(padded, fg=colour) if colour and self.is_coloured else padded

    def table(self, columns: Sequence[Column | str], rows: Sequence[Sequence[object]]) -> None:
        """Print rows below their titles, no wider than the terminal; None shows as a dash."""
        for line in self.table_lines(columns, rows):
            click.echo(line)

    def table_lines(
        self, columns: Sequence[Column | str], rows: Sequence[Sequence[object]]
    ) -> list[str]:
        """Set rows below their titles, as `table` prints them."""
        texts = [[_cell(value) for value in row] for row in rows]
        shapes = [Column(each) if isinstance(each, str) else each for each in columns]
        titles, *others = tables.lines(shapes, texts, self.width, self.styled)
        return [click.style(titles, bold=True) if self.is_coloured else titles, *others]

    def pairs(self, values: Mapping[str, object]) -> None:
        """Print names with their values; those that are None or empty are left out."""
        shown = {name: _cell(value) for name, value in values.items() if value not in {None, ""}}
        width = max(map(len, shown), default=0)
        for name, text in shown.items():
            click.echo(f"{name.ljust(width)}  {self.styled(text)}")

    def error(self, error: DeployerError) -> None:
        """Tell why a command failed."""
        if self.as_json:
            problem = failures.problem_document(error)
            if self.tells_events:
                self.event("failed", problem=problem)
            else:
                self.document(problem)
            return
        first, *others = failures.lines(error)
        coloured = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        click.echo(click.style(printable(first), fg="red" if coloured else None), err=True)
        for line in others:
            click.echo(printable(line), err=True)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Turn an error of the block into words and an exit code, and Ctrl-C into silence."""
        try:
            yield
        except DeployerError as error:
            self.error(error)
            sys.exit(failures.exit_code(error))
        except KeyboardInterrupt:
            click.echo(err=True)  # the shell's prompt goes below the ^C
            sys.exit(failures.ExitCode.INTERRUPTED)


def printable(text: str) -> str:
    """Show control characters instead of sending them.

    Logs, causes and evidence are written by agents, and a terminal obeys whoever writes to it.
    """
    return "".join(
        each if each.isprintable() or each == "\t" else each.encode("unicode_escape").decode()
        for each in text
    )


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else printable(str(value))
