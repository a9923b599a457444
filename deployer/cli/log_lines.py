"""Lines of agents' logs on a terminal: of one agent as they are, of several with their names."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deployer.cli.terminals import Terminal
    from deployer.client import Client

_COLOURS: Final = ("cyan", "yellow", "green", "magenta", "blue", "bright_red")
_WAITING_LINES: Final = 1000


class LogLines:
    """Prints lines, each with its agent's name where there are several agents."""

    def __init__(self, terminal: Terminal, stream: str, names: Sequence[str]) -> None:
        """Print to terminal.

        Args:
            terminal: Where to.
            stream: Which log the lines are of.
            names: Those of all agents whose lines will come.
        """
        self._terminal = terminal
        self._stream = stream
        self._prefixes = dict.fromkeys(names, "")
        if len(self._prefixes) > 1:
            width = max(map(len, names))
            is_coloured = terminal.is_coloured
            for number, name in enumerate(self._prefixes):
                colour = _COLOURS[number % len(_COLOURS)] if is_coloured else None
                self._prefixes[name] = f"{click.style(name.ljust(width), fg=colour)} | "

    def line(self, name: str, line: str) -> None:
        """Print a line of an agent's log."""
        if self._terminal.as_json:
            # One document a line, for those who read it while it grows.
            self._terminal.event("line", agent=name, stream=self._stream, line=line)
            return
        click.echo(self._prefixes[name], nl=False)
        self._terminal.raw_line(line)

    def note(self, name: str, note: str) -> None:
        """Print a word about what follows, beside the lines."""
        if self._terminal.as_json:
            self._terminal.event("note", agent=name, stream=self._stream, note=note)
        else:
            click.echo(f"[{name}: {note}]", err=True)


def follow_all(
    client: Client, printer: LogLines, names: Sequence[str], stream: str, tail: int
) -> None:
    """Print agents' logs as they grow, until all of the agents are removed.

    Args:
        client: Of their server; it makes a twin for each of them.
        printer: Prints the lines; those of one agent come in their order.
        names: The agents'.
        stream: Which log.
        tail: With how many lines to begin.

    Raises:
        DeployerError: One of them cannot be followed, or not any more.
    """
    # Bounded: whoever reads us slowly makes us read slowly, and the server waits.
    heard: queue.Queue[tuple[str, str | None, str | Exception | None]]
    heard = queue.Queue(_WAITING_LINES)

    def follow(name: str) -> None:
        try:
            with client.twin() as own:
                lines = own.follow_logs(
                    name,
                    stream=stream,
                    tail=tail,
                    on_note=lambda note: heard.put((name, None, note)),
                )
                for line in lines:
                    heard.put((name, line, None))
            heard.put((name, None, None))
        except Exception as error:  # noqa: BLE001 - raised again where somebody sees it
            heard.put((name, None, error))

    left = set(names)
    for name in left:
        threading.Thread(target=follow, args=(name,), daemon=True).start()
    while left:
        name, line, word = heard.get()
        if line is not None:
            printer.line(name, line)
        elif isinstance(word, Exception):
            raise word
        elif word is not None:
            printer.note(name, word)
        else:
            left.discard(name)
