"""Commands about keys, and the audit of what was done with them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import click

from deployer.cli.connections import remote
from deployer.cli.durations import age
from deployer.cli.names import OF_AGENT
from deployer.cli.tables import Column
from deployer.cli.terminals import Terminal

if TYPE_CHECKING:
    from datetime import datetime

    from deployer.client import AuditEntry, Client, Key

_KEYS: Final = (
    Column("ID"),
    Column("NAME", narrow="cut"),
    Column("SCOPE"),
    Column("AGENTS", narrow="cut"),
    Column("AGE", priority=1),
    Column("EXPIRES", priority=3),
    Column("LAST USED", priority=2),
)
_ENTRIES: Final = (
    Column("AT"),
    Column("WHO"),
    Column("NAME", priority=3, narrow="cut"),
    Column("FROM", priority=2),
    Column("WHAT"),
    Column("AGENT", narrow="cut"),
    Column("TARGET", priority=4, narrow="cut"),
    Column("STATUS", priority=5),
    Column("TIMES", priority=1),
)
_SCOPES = ("read", "operate", "deploy", "admin")


@click.group
def keys() -> None:
    """Make, list and revoke API keys."""


@keys.command
@click.argument("name")
@click.option(
    "--scope",
    type=click.Choice(_SCOPES),
    default="read",
    show_default=True,
    help="Each includes those before it.",
)
@click.option(
    "--agent", "agents", multiple=True, metavar="PATTERN", help="Only for such, as in 'web-*'."
)
@click.option("--days", type=click.FloatRange(0, min_open=True), help="How long it lasts.")
@remote
def create(
    client: Client,
    terminal: Terminal,
    name: str,
    scope: str,
    agents: tuple[str, ...],
    days: float | None,
) -> None:
    """Make a key and print it, this once: the server keeps only a hash of it."""
    made = client.create_key(name, scope=scope, agents=agents or ("*",), expires_in_days=days)
    if terminal.as_json:
        terminal.document(made.document)
        return
    terminal.line(made.key)
    click.echo(f"key {made.id} is shown this once; keep it in a safe place", err=True)


@keys.command("list")
@remote
def list_keys(client: Client, terminal: Terminal) -> None:
    """List keys, without their texts."""
    found = client.keys()
    if terminal.as_json:
        terminal.documents("keys", found)
        return
    terminal.table(_KEYS, [_row(each) for each in found])


@keys.command
@click.argument("key_id", metavar="ID")
@remote
def revoke(client: Client, terminal: Terminal, key_id: str) -> None:
    """Let nobody in with a key from now on."""
    client.revoke_key(key_id)
    if terminal.as_json:
        terminal.document({"id": key_id, "revoked": True})
    else:
        terminal.line(f"key {key_id} is revoked")


@click.command
@OF_AGENT
@click.option("--who", metavar="WHO", help="What they did only, such as key:ID.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@remote
def audit(
    client: Client, terminal: Terminal, agent: str | None, who: str | None, limit: int
) -> None:
    """List who did what, the latest last."""
    found = client.audit(agent=agent, who=who, limit=limit)[::-1]
    if terminal.as_json:
        terminal.documents("entries", found)
        return
    terminal.table(_ENTRIES, [_entry(each) for each in found])


def _row(key: Key) -> tuple[object, ...]:
    name = f"{key.name} (in the file token)" if key.is_local else key.name
    used = age(key.last_used_at)
    return (
        *(key.id, name, key.scope, ", ".join(key.agents), age(key.created_at)),
        *(_local_time(key.expires_at), used and f"{used} ago"),
    )


def _entry(entry: AuditEntry) -> tuple[object, ...]:
    times = entry.times if entry.times > 1 else None
    return (
        *(_local_time(entry.at), entry.who, entry.name, entry.source, entry.operation),
        *(entry.agent, entry.target, entry.status or None, times),
    )


def _local_time(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    with contextlib.suppress(OverflowError):  # the last day of 9999 has no local time in the east
        moment = moment.astimezone()
    return f"{moment:%Y-%m-%d %H:%M:%S}"
