"""Commands about secrets: set one, list their names, remove one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from deployer.cli.connections import remote
from deployer.cli.durations import age
from deployer.cli.tables import Column
from deployer.cli.terminals import Terminal

if TYPE_CHECKING:
    from deployer.client import Client

_COLUMNS: Final = (
    Column("NAME", narrow="cut"),
    Column("AGENTS", narrow="cut"),
    Column("CHANGED", priority=1),
    Column("PROBLEM", narrow="wrap"),
)


@click.group
def secrets() -> None:
    """Give agents passwords and tokens that no package holds.

    A manifest refers to a secret in its variables: [env] TOKEN = "${secret:NAME}".
    """


@secrets.command("set")
@click.argument("name")
@click.option(
    "--agent",
    "agents",
    multiple=True,
    metavar="PATTERN",
    help="Who may use it, such as 'billing-*'; may be repeated.  [all]",
)
@remote
def set_secret(client: Client, terminal: Terminal, name: str, agents: tuple[str, ...]) -> None:
    """Set a secret to what standard input holds, or to what is typed when asked.

    It is no argument, for every user of a machine can read those. One line end after the value is
    left out. Agents that run get it at their next start.
    """
    if sys.stdin.isatty():
        value = str(click.prompt("Value", hide_input=True, confirmation_prompt=True, err=True))
    else:
        value = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    found = client.set_secret(name, value, agents=agents or None)
    if terminal.as_json:
        terminal.document(found.document)
    else:
        terminal.line(f"{found.name} is set, for {', '.join(found.agents)}")


@secrets.command("list")
@remote
def list_secrets(client: Client, terminal: Terminal) -> None:
    """List secrets; nobody can read their values."""
    found = client.secrets()
    if terminal.as_json:
        terminal.documents("secrets", found)
    elif not found:
        terminal.line("no secrets; set one with `atoll-deployer secrets set NAME`")
    else:
        rows = [(s.name, ", ".join(s.agents), age(s.changed_at), s.problem) for s in found]
        terminal.table(_COLUMNS, rows)


@secrets.command("remove")
@click.argument("name")
@remote
def remove_secret(client: Client, terminal: Terminal, name: str) -> None:
    """Remove a secret; agents that run keep it until they end, and do not start without it."""
    client.remove_secret(name)
    if terminal.as_json:
        terminal.document({"name": name, "removed": True})
    else:
        terminal.line(f"{name} is removed")
