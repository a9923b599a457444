"""Commands that tell what happened to an agent: its logs, the cause of its state, the timeline."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from deployer.cli.connections import remote
from deployer.cli.terminals import Terminal

if TYPE_CHECKING:
    from deployer.client import Client, Event


@click.command
@click.argument("name")
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
    name: str,
    follow: bool,  # noqa: FBT001 - as click hands it over
    stream: str,
    tail: int,
) -> None:
    """Print the last lines of an agent's log."""
    if not follow:
        found = client.logs(name, stream=stream, tail=tail)
        if terminal.as_json:
            terminal.document(found.document)
            return
        for line in found.lines:
            terminal.raw_line(line)
        return
    for line in client.follow_logs(name, stream=stream, tail=tail):
        if terminal.as_json:
            # One document a line, for those who read it while it grows.
            click.echo(json.dumps({"agent": name, "stream": stream, "line": line}))
        else:
            terminal.raw_line(line)


@click.command
@click.argument("name")
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
@click.option("--agent", metavar="NAME", help="Of this agent only.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@remote
def events(client: Client, terminal: Terminal, agent: str | None, limit: int) -> None:
    """List what happened, the latest last."""
    found = client.events(agent=agent)[-limit:]
    if terminal.as_json:
        terminal.documents("events", found)
        return
    rows = [(_local_time(each), each.agent, each.kind, each.message) for each in found]
    terminal.table(("AT", "AGENT", "KIND", "MESSAGE"), rows)


def _local_time(event: Event) -> str | None:
    return f"{event.at.astimezone():%Y-%m-%d %H:%M:%S}" if event.at else None


COMMANDS = (logs, why, events)
