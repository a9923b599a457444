"""Commands that tell what happened to an agent: its logs, the cause of its state, the timeline."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final

import click

from deployer.cli.connections import remote
from deployer.cli.log_lines import LogLines, follow_all
from deployer.cli.names import NAME, NAMES, OF_AGENT
from deployer.cli.tables import Column
from deployer.cli.terminals import Terminal

if TYPE_CHECKING:
    from deployer.client import Client, Event

_COLUMNS: Final = (
    Column("AT"),
    Column("AGENT", narrow="cut"),
    Column("KIND", priority=1),
    Column("MESSAGE", narrow="wrap"),
)


@click.command
@NAMES
@click.option("-f", "--follow", is_flag=True, help="Go on with each new line until Ctrl-C.")
@click.option(
    "--stream",
    type=click.Choice(("stdout", "stderr", "install")),
    default="stdout",
    show_default=True,
)
@click.option("--tail", type=click.IntRange(min=0), default=100, show_default=True, metavar="LINES")
@remote
def logs(
    client: Client,
    terminal: Terminal,
    names: tuple[str, ...],
    follow: bool,  # noqa: FBT001 - as click hands it over
    stream: str,
    tail: int,
) -> None:
    """Print the last lines of agents' logs; of all agents when none is named.

    With several agents each line begins with the name of its agent. -f goes on over restarts and
    releases, also while the server restarts. With -f and --json each line is an object.
    """
    chosen = tuple(dict.fromkeys(names)) or tuple(each.name for each in client.agents())
    if not chosen and not terminal.as_json:
        terminal.line("no agents, so no logs")
    printer = LogLines(terminal, stream, chosen)
    if follow:
        terminal.tells_events = True
        follow_all(client, printer, chosen, stream, tail)
        return
    found = [client.logs(name, stream=stream, tail=tail) for name in chosen]
    if terminal.as_json and len(names) == 1:
        terminal.document(found[0].document)
    elif terminal.as_json:
        terminal.documents("logs", found)
    else:
        for each in found:
            for line in each.lines:
                printer.line(each.agent, line)


@click.command
@NAME
@remote
def why(client: Client, terminal: Terminal, name: str) -> None:
    """Tell why an agent is as it is: the cause, the evidence, what to do."""
    found = client.why(name)
    if terminal.as_json:
        terminal.document(found.document)
        return
    terminal.line(found.cause or f"{name} is {found.status}: nothing is known to be wrong with it")
    for line in found.evidence:
        terminal.line(f"  | {line}")
    if found.hint:
        terminal.line(f"hint: {found.hint}")


@click.command
@OF_AGENT
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("-f", "--follow", is_flag=True, help="Go on with each new one until Ctrl-C.")
@remote
def events(
    client: Client,
    terminal: Terminal,
    agent: str | None,
    limit: int,
    follow: bool,  # noqa: FBT001 - as click hands it over
) -> None:
    """List what happened, the latest last."""
    found = client.events(agent=agent)
    shown = found[-limit:]
    if not follow:
        if terminal.as_json:
            terminal.documents("events", shown)
        else:
            rows = [(_local_time(each), each.agent, each.kind, each.message) for each in shown]
            terminal.table(_COLUMNS, rows)
        return
    terminal.tells_events = True
    # From where the list ends, so that nothing falls between the two.
    after = found[-1].id if found else 0
    for each in chain(shown, client.follow_events(agent=agent, after=after)):
        if terminal.as_json:
            terminal.event("event", **each.document)
        else:
            words = (_local_time(each), each.agent, each.kind, each.message)
            terminal.line("  ".join(word for word in words if word))


def _local_time(event: Event) -> str | None:
    return f"{event.at.astimezone():%Y-%m-%d %H:%M:%S}" if event.at else None
