"""Commands about releases: list them, go back to one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from deployer.cli.connections import remote
from deployer.cli.durations import age
from deployer.cli.names import NAME
from deployer.cli.progress import StepLines, tell_deployed
from deployer.cli.tables import Column
from deployer.cli.terminals import Terminal

if TYPE_CHECKING:
    from deployer.client import Client, Release

_COLUMNS: Final = (
    Column("RELEASE"),
    Column("STATUS"),
    Column(""),
    Column("VERSION", narrow="cut"),
    Column("CHECKSUM", priority=1),
    Column("PYTHON", priority=2, narrow="cut"),
    Column("AGE", priority=3),
    Column("ROLLBACK", narrow="wrap"),
)


@click.command
@NAME
@remote
def releases(client: Client, terminal: Terminal, name: str) -> None:
    """List an agent's releases."""
    found = client.releases(name)
    if terminal.as_json:
        terminal.documents("releases", found)
        return
    rows = [
        (
            *_state(each),
            *(each.version, each.checksum, each.python, age(each.created_at)),
            "ready" if each.rollback_ready is True else each.rollback_ready,
        )
        for each in found
    ]
    terminal.table(_COLUMNS, rows)


@click.command
@NAME
@click.option("--to", type=click.IntRange(min=1), metavar="N", help="Else the one before.")
@click.option("--wait", "wait_seconds", default=900.0, show_default=True, metavar="SECONDS")
@remote
def rollback(
    client: Client, terminal: Terminal, name: str, to: int | None, wait_seconds: float
) -> None:
    """Put an earlier release live again.

    With --json each line is an event, as those of push.
    """
    with StepLines(terminal) as on_progress:
        deployed = client.rollback(name, to=to, wait_seconds=wait_seconds, on_progress=on_progress)
    tell_deployed(terminal, deployed)


def _state(release: Release) -> tuple[int, str, str]:
    place = "current" if release.current else "previous" if release.previous else ""
    return release.number, release.status, place
