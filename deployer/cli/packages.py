"""Commands that bring a package to a server: push it, or ask what that would do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from deployer.cli.connections import remote
from deployer.cli.progress import StepLines
from deployer.cli.terminals import Terminal

if TYPE_CHECKING:
    from deployer.client import Client, Deployed, Plan, Scan

PACKAGE = click.Path(exists=True, path_type=Path)


@click.command
@click.argument("package", type=PACKAGE)
@click.option("--strategy", help="rehearse, replace or parallel; else the manifest's.")
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
    """Deploy a package: a ZIP, or a directory that is packed into one.

    Nothing is uploaded that the server has already, and nothing is deployed that runs already. A
    signature that lies beside the ZIP as PACKAGE.minisig is sent along.
    Ctrl-C ends the watching; what the server has begun it goes on with.
    """
    with StepLines(terminal) as on_progress:
        deployed = client.deploy(
            package,
            strategy=strategy,
            force=force,
            start=start,
            wait_seconds=wait_seconds,
            on_progress=on_progress,
        )
    tell_deployed(terminal, deployed)


@click.command
@click.argument("name")
@click.argument("package", type=PACKAGE)
@click.option("--strategy", help="rehearse, replace or parallel; else the manifest's.")
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


def tell_deployed(terminal: Terminal, deployed: Deployed) -> None:
    """Print what a deploy or a rollback came to, and what one may do next."""
    if terminal.as_json:
        terminal.document(deployed.document)
        return
    deployment, connection = deployed.deployment, deployed.connection
    name = deployment.agent if deployment else connection.name if connection else "the agent"
    release = deployment.release if deployment else connection.release if connection else None
    what = f"{name} release {release}" if release else name
    if connection is None or connection.url is None:
        status = connection.status if connection else "installed"
        terminal.line(f"{what} is {status}; start it with `atoll-deployer start {name}`")
        return
    seconds = deployment.duration_seconds if deployment else None
    how = f" ({seconds:.1f} s)" if seconds is not None else ""
    already = "" if deployment else ", as it was installed already"
    terminal.line(f"{what} is {connection.status} at {connection.url}{already}{how}")
    terminal.line(f"next: atoll-deployer status {name}")
    terminal.line(f"      atoll-deployer logs {name} -f")


COMMANDS = (push, plan)
