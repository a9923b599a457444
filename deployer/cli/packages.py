"""Commands that bring a package to a server: push it, or ask what that would do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from deployer.cli.connections import remote
from deployer.cli.names import NAME
from deployer.cli.progress import StepLines, tell_deployed
from deployer.cli.terminals import Terminal

if TYPE_CHECKING:
    from deployer.client import Client, Plan, Scan

PACKAGE = click.Path(exists=True, path_type=Path)
_STRATEGY = click.option(
    "--strategy",
    type=click.Choice(("rehearse", "replace", "parallel")),
    help="How the new release takes over; else as the manifest says.",
)


@click.command
@click.argument("package", type=PACKAGE)
@_STRATEGY
@click.option("--force", is_flag=True, help="Deploy it anew even when it is installed already.")
@click.option("--start/--no-start", default=True, help="Start it, or only install it.")
@click.option("--wait", "wait_seconds", default=900.0, show_default=True, metavar="SECONDS")
@remote
def push(
    client: Client,
    terminal: Terminal,
    package: Path,
    strategy: str | None,
    force: bool,  # noqa: FBT001 - as click hands it over
    start: bool,  # noqa: FBT001
    wait_seconds: float,
) -> None:
    """Deploy a package: a ZIP, or a directory that is packed into one as `pack` does it.

    Nothing is uploaded that the server has already, and nothing is deployed that runs already. A
    signature that lies beside the ZIP as PACKAGE.minisig is sent along.
    Ctrl-C ends the watching; what the server has begun it goes on with.

    With --json each line is an event: `step` as often as one changes, then `succeeded` with the
    deployment and the connection, or `failed` with the problem.
    """
    with StepLines(terminal, uploads=True) as on_progress:
        deployed = client.deploy(
            on_progress.pack(package),
            strategy=strategy,
            force=force,
            start=start,
            wait_seconds=wait_seconds,
            on_progress=on_progress,
        )
    tell_deployed(terminal, deployed)


@click.command
@NAME
@click.argument("package", type=PACKAGE)
@_STRATEGY
@remote
def plan(
    client: Client, terminal: Terminal, name: str, package: Path, strategy: str | None
) -> None:
    """Say what deploying a package for an agent would do, and do nothing.

    A package that the server does not have is uploaded, as it has to look into it.
    """
    found = client.plan(name, package, strategy)
    if terminal.as_json:
        terminal.document(found.document)
        return
    if not found.steps:
        terminal.line(f"this package is {found.agent}'s current release: nothing would be deployed")
        return
    terminal.pairs(_planned(found))


def _planned(found: Plan) -> dict[str, object]:
    """Say a plan in a few lines."""
    needs, disk, port = found.dependencies, found.disk, found.port
    changed = (f"{each.name} {each.before} -> {each.after}" for each in needs.changed)
    needed_bytes = disk.code_bytes + (disk.environment_bytes or 0)
    more = "" if disk.environment_bytes is not None else " and an environment"
    cached = {True: "nothing", False: "something", None: "unknown"}
    return {
        "agent": found.agent,
        "version": found.version,
        "in place of": f"release {found.release}" if found.release else "nothing",
        "strategy": found.strategy,
        "python": f"{found.python.version}{', another one' if found.python.changed else ''}",
        "added": ", ".join(needs.added),
        "removed": ", ".join(needs.removed),
        "changed": ", ".join(changed),
        "unchanged": needs.unchanged,
        "to download": cached[needs.cached],
        "environment": "one that is there" if needs.environment_reused else "a new one",
        "disk": f"{needed_bytes:,} bytes{more}, of {disk.free_bytes:,} free",
        "port": f"{port.number}, {'as now' if port.kept else 'a new one'}",
        "missing": "; ".join(found.missing_secrets),
        "vulnerabilities": _vulnerable(found.vulnerabilities),
        "restarts": "the process that runs now is replaced" if found.restarts else "nothing runs",
        "steps": ", ".join(found.steps),
    }


def _vulnerable(scan: Scan | None) -> str:
    if scan is None or scan.status == "not_scanned":
        return f"not scanned: {scan.reason}" if scan else ""
    return "; ".join(each.message for each in scan.findings) or "none known"
