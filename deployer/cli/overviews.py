"""Commands that show all agents: a list, and a live view."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Final

import click

from deployer.byte_sizes import size_text
from deployer.cli.connections import remote
from deployer.cli.durations import age
from deployer.cli.screens import Screen
from deployer.cli.tables import Column
from deployer.cli.terminals import Terminal
from deployer.errors import ServerUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from deployer.client import Agent, Client

_LIST: Final = (
    Column("NAME", narrow="cut"),
    Column("STATUS"),
    Column("RELEASE", priority=5),
    Column("VERSION", priority=6, narrow="cut"),
    Column("URL", priority=9),
    Column("PID", priority=2),
    Column("RESTARTS", priority=1),
    Column("UP", priority=7),
    Column("CPU", priority=3, is_number=True),
    Column("MEMORY", priority=4, is_number=True),
)
_TOP: Final = (
    Column("NAME", narrow="cut"),
    Column("STATUS"),
    Column("PORT", priority=5),
    Column("CPU", priority=9, is_number=True),
    Column("MEMORY", priority=8, is_number=True),
    Column("UP", priority=7, is_number=True),
    Column("RESTARTS", priority=3, is_number=True),
    Column("RELEASE", priority=4, is_number=True),
    Column("HEALTH", priority=2, narrow="cut"),
)
_BAD: Final = frozenset({"degraded", "crash_looping", "failed", "quarantined"})
_NONE: Final = (
    "no agents; deploy one with `atoll-deployer push DIR`; `atoll-deployer init DIR` makes one"
)
_ORDERS: Final = {
    "name": lambda agent: agent.name,
    "cpu": lambda agent: -((agent.usage and agent.usage.cpus) or 0),
    "memory": lambda agent: -(agent.usage.memory_bytes if agent.usage else 0),
}


@click.command("list")
@remote
def list_agents(client: Client, terminal: Terminal) -> None:
    """List all agents.

    On a terminal that is too narrow the columns that matter less are left out.
    """
    agents = client.agents()
    if terminal.as_json:
        terminal.documents("agents", agents)
    elif not agents:
        terminal.line(_NONE)
    else:
        rows = [
            (
                *(a.name, a.status, a.release, a.version, a.url, a.pid, a.restarts),
                *(_up(a), _cpu(a), _memory(a)),
            )
            for a in agents
        ]
        terminal.table(_LIST, rows)
        for each in agents:
            if terminal.is_rich and each.status in _BAD:
                terminal.line(f"{each.name} is {each.status}: atoll-deployer why {each.name}")


@click.command
@click.option(
    "--interval",
    type=click.FloatRange(0.2, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks.",
)
@click.option("--sort", type=click.Choice(tuple(_ORDERS)), default="name", show_default=True)
@remote
def top(client: Client, terminal: Terminal, interval: float, sort: str) -> None:
    """Watch all agents, until q or Ctrl-C.

    Into a pipe, and with --json, it looks once. CPU is in percent of one processor.
    """
    view = View(client.url, client.agents, terminal, sort)
    view.look()
    if terminal.as_json:
        terminal.documents("agents", view.agents)
        return
    if not Screen.is_possible(terminal):
        for line in view.lines():
            click.echo(line)
        return
    with Screen() as screen:
        while not screen.is_left(interval, view.lines):
            view.look_again()


class View:
    """What top shows."""

    def __init__(
        self, url: str, ask: Callable[[], list[Agent]], terminal: Terminal, sort: str
    ) -> None:
        """Know what is to be shown; nothing is asked yet.

        Args:
            url: The server's address.
            ask: Gives all agents.
            terminal: Sets the table.
            sort: A key of _ORDERS.
        """
        self._url = url
        self._ask = ask
        self._terminal = terminal
        self._order = _ORDERS[sort]
        self._trouble = ""
        self.agents: list[Agent] = []

    def look(self) -> None:
        """Ask the server."""
        self.agents = sorted(self._ask(), key=self._order)
        self._trouble = ""

    def look_again(self) -> None:
        """Ask the server, and bear that it is away: it may be restarting, and agents run on."""
        try:
            self.look()
        except ServerUnreachableError as error:
            self._trouble = f"{error.detail}; trying again"

    def lines(self) -> list[str]:
        """Set all, in lines no longer than the terminal is wide."""
        counts = Counter(each.status for each in self.agents)
        told = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        clock = f"{datetime.now().astimezone():%H:%M:%S}"
        head = self._trouble or "  ".join(filter(None, (clock, told, self._url)))
        rows = [
            (
                *(a.name, a.status, a.port, _cpu(a), _memory(a), _up(a)),
                *(a.restarts, a.release, _health(a)),
            )
            for a in self.agents
        ]
        body = self._terminal.table_lines(_TOP, rows) if rows else [_NONE]
        return [head[: self._terminal.width], "", *body]


def _up(agent: Agent) -> str | None:
    return age(agent.started_at) if agent.pid else None


def _cpu(agent: Agent) -> str | None:
    if agent.usage is None or agent.usage.cpus is None:
        return None
    return f"{agent.usage.cpus:.1%}"


def _memory(agent: Agent) -> str | None:
    return size_text(agent.usage.memory_bytes) if agent.usage else None


def _health(agent: Agent) -> str | None:
    if agent.health is None:
        return None
    return agent.health.detail or ("good" if agent.health.healthy else "bad")
