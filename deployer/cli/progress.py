"""A deployment on a terminal, step by step while it happens."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

import click

from deployer.cli.terminals import printable

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress, TaskID

    from deployer.cli.terminals import Terminal
    from deployer.client import Step

_MARKS: Final = {"done": ("✓", "green"), "skipped": ("-", "dim"), "failed": ("✗", "red")}


class StepLines:
    """Prints a line for each step that ended; a terminal shows the running one with a clock."""

    def __init__(self, terminal: Terminal) -> None:
        """Print to terminal, or nothing at all when it is for machines."""
        self._terminal = terminal
        self._stack = ExitStack()
        self._running: TaskID | None = None
        self._shown = ""
        self._live: Progress | None = None

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
        """Leave only the lines of the steps that ended."""
        self._stack.close()

    def __call__(self, step: Step) -> None:
        """Show a step that changed."""
        if self._terminal.as_json:
            return
        if step.outcome != "running":
            self._end(step)
        elif self._live is not None:
            text = printable(f"{step.name}  {step.message}".rstrip())
            if self._shown != step.name or self._running is None:
                self._clear()
                self._running = self._live.add_task(text, total=None)
                self._shown = step.name
            else:
                self._live.update(self._running, description=text)

    def _clear(self) -> None:
        if self._live is not None and self._running is not None:
            self._live.remove_task(self._running)
            self._running = None

    def _end(self, step: Step) -> None:
        self._clear()
        seconds = f"{step.duration_seconds:.1f} s" if step.duration_seconds is not None else ""
        message = printable(step.message)
        if self._live is None:
            click.echo(f"{step.name:<12} {step.outcome:<8} {seconds:>8}  {message}".rstrip())
            return
        from rich.text import Text  # noqa: PLC0415 - as above

        mark, style = _MARKS.get(step.outcome, ("?", ""))
        line = Text.assemble((mark, style), f" {step.name:<12} {seconds:>8}  ", (message, "dim"))
        self._live.console.print(line)
