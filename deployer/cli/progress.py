"""A deployment while it happens: a line a step for people, an event a step for machines."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, Self

import click

from deployer.cli.durations import seconds_text
from deployer.cli.terminals import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from rich.progress import Progress, TaskID

    from deployer.cli.terminals import Terminal
    from deployer.client import Deployed, Step

_MARKS: Final = {"done": ("✓", "green"), "skipped": ("-", "dim"), "failed": ("✗", "red")}
_UPLOAD: Final = "upload"
_SHOWN: Final = 3


class StepLines:
    """Tells of each step that ended; a terminal shows the running one with a clock.

    For machines each change of a step is an event.
    """

    def __init__(self, terminal: Terminal, *, uploads: bool = False) -> None:
        """Tell terminal.

        Args:
            terminal: Where to; what goes wrong is told there as an event too from now on.
            uploads: Whether a package is on its way, so that none being sent is worth a word.
        """
        self._terminal = terminal
        self._uploads = uploads
        self._stack = ExitStack()
        self._running: TaskID | None = None
        self._shown = ""
        self._live: Progress | None = None
        self._has_begun = False
        terminal.tells_events = True

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._terminal.is_rich:
            from rich.progress import (  # noqa: PLC0415 - slow, and only for terminals
                Progress,
                SpinnerColumn,
                TextColumn,
                TimeElapsedColumn,
            )

            columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False))
            live = Progress(
                *columns, TimeElapsedColumn(), console=self._terminal.console, transient=True
            )
            self._live = self._stack.enter_context(live)
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave only the lines of the steps that ended, and say after Ctrl-C what goes on."""
        self._stack.close()
        if error_type is KeyboardInterrupt and self._has_begun and not self._terminal.as_json:
            told = "the server goes on with it; `atoll-deployer events -f` shows how it ends"
            click.echo(f"\n{told}", nl=False, err=True)

    def __call__(self, step: Step) -> None:
        """Tell of a step that changed."""
        is_theirs = step.name != _UPLOAD
        self._has_begun = self._has_begun or is_theirs
        was_sent, self._uploads = not self._uploads, False
        if is_theirs and not was_sent:
            self.ended(_UPLOAD, "skipped", "the server has this package already")
        if self._terminal.as_json:
            document = dict(step.document) or {
                "name": step.name,
                "outcome": step.outcome,
                "started_at": step.started_at and step.started_at.isoformat(),
                "ended_at": step.ended_at and step.ended_at.isoformat(),
                "duration_seconds": step.duration_seconds,
                "message": step.message,
            }
            self._terminal.event("step", **document)
        elif step.outcome != "running":
            self._end(step.name, step.outcome, step.duration_seconds, step.message)
        elif self._live is not None:
            text = printable(f"{step.name}  {step.message}".rstrip())
            if self._shown != step.name or self._running is None:
                self._clear()
                self._running = self._live.add_task(text, total=None)
                self._shown = step.name
            else:
                self._live.update(self._running, description=text)

    def ended(self, name: str, outcome: str, message: str, seconds: float | None = None) -> None:
        """Tell of a step that was done here."""
        if self._terminal.as_json:
            told = {"name": name, "outcome": outcome, "duration_seconds": seconds}
            self._terminal.event("step", **told, message=message)
        else:
            self._end(name, outcome, seconds, message)

    def pack(self, package: Path) -> Path | bytes:
        """Pack a directory, and tell what was left out; a file is given as it is."""
        if not package.is_dir():
            return package
        from deployer.client.directories import contents_of, zipped  # noqa: PLC0415 - it brings pathspec

        began_at = time.monotonic()
        contents = contents_of(package)
        archive = zipped(contents)
        count = len(contents.files)
        message = f"{count} file{'' if count == 1 else 's'}{_left_out(contents.left_out)}"
        self.ended("pack", "done", message, round(time.monotonic() - began_at, 3))
        return archive

    def _clear(self) -> None:
        if self._live is not None and self._running is not None:
            self._live.remove_task(self._running)
            self._running = None

    def _end(self, name: str, outcome: str, seconds: float | None, message: str) -> None:
        self._clear()
        took = "" if seconds is None else seconds_text(seconds)
        message = printable(message)
        if self._live is None:
            self._terminal.line(f"{name:<12} {outcome:<8} {took:>8}  {message}".rstrip())
            return
        from rich.text import Text  # noqa: PLC0415 - as above

        mark, style = _MARKS.get(outcome, ("?", ""))
        line = Text.assemble((mark, style), f" {name:<12} {took:>8}  ", (message, "dim"))
        self._live.console.print(line)


def tell_deployed(terminal: Terminal, deployed: Deployed) -> None:
    """Tell what a deploy or a rollback came to, and what one may do next."""
    deployment, connection = deployed.deployment, deployed.connection
    if terminal.as_json:
        documents: dict[str, Any] = {
            "deployment": dict(deployment.document) if deployment else None,
            "connection": dict(connection.document) if connection else None,
        }
        terminal.event("succeeded", **documents)
        return
    name = deployment.agent if deployment else connection.name if connection else "the agent"
    release = deployment.release if deployment else connection.release if connection else None
    what = f"{name} release {release}" if release else name
    seconds = deployment.duration_seconds if deployment else None
    how = f" ({seconds_text(seconds)})" if seconds is not None else ""
    if connection is None or connection.url is None:
        status = connection.status if connection else "installed"
        terminal.line(f"{what} is {status}{how}")
        terminal.line(f"next: atoll-deployer start {name}")
        return
    already = "" if deployment else ", as it was installed already"
    terminal.line(f"{what} is {connection.status} at {connection.url}{already}{how}")
    terminal.line(f"next: atoll-deployer status {name}")
    terminal.line(f"      atoll-deployer logs {name} -f")


def _left_out(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"; left out {', '.join(names[:_SHOWN])}{more}"
