"""Commands about one agent: see it, start and stop it, wait for it, remove it."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import click

from deployer.byte_sizes import size_text
from deployer.cli.connections import remote
from deployer.cli.durations import age, seconds_text
from deployer.cli.names import NAME, complete_names
from deployer.cli.terminals import Terminal
from deployer.errors import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from deployer.client import Agent, Client, Connection

_STATUSES: Final = (
    *("installed", "starting", "running", "degraded", "stopping", "stopped"),
    *("crash_looping", "failed", "quarantined"),
)
_WAIT = click.option("--wait", "wait_seconds", default=60.0, show_default=True, metavar="SECONDS")


@click.command
@NAME
@remote
def status(client: Client, terminal: Terminal, name: str) -> None:
    """Show one agent."""
    _tell(terminal, client.agent(name))


@click.command
@NAME
@click.option(
    "--sub-agent", is_flag=True, help="Print what an ATOLL agent's agent.toml needs to use it."
)
@remote
def show(client: Client, terminal: Terminal, name: str, sub_agent: bool) -> None:  # noqa: FBT001 - as click hands it over
    """Show one agent and what its author says of it, or how another one reaches it."""
    if not sub_agent:
        agent = client.agent(name)
        manifest = {} if agent.release is None else client.release(name, agent.release).manifest
        if terminal.as_json:
            terminal.document({**agent.document, "manifest": manifest})
        else:
            _tell(terminal, agent)
            terminal.pairs(dict(_lines_of(manifest)))
    elif terminal.as_json:
        terminal.document({"name": name, "sub_agent": client.sub_agent(name)})
    else:
        for line in client.sub_agent(name).splitlines():
            terminal.line(line)


@click.command
@NAME
@_WAIT
@remote
def start(client: Client, terminal: Terminal, name: str, wait_seconds: float) -> None:
    """Start an agent and wait until it is healthy."""
    began_at = time.monotonic()
    _tell_act(terminal, client.start(name, wait_seconds=wait_seconds), began_at)


@click.command
@NAME
@_WAIT
@remote
def stop(client: Client, terminal: Terminal, name: str, wait_seconds: float) -> None:
    """Stop an agent; it stays stopped until somebody starts it."""
    began_at = time.monotonic()
    _tell_act(terminal, client.stop(name, wait_seconds=wait_seconds), began_at)


@click.command
@NAME
@_WAIT
@remote
def restart(client: Client, terminal: Terminal, name: str, wait_seconds: float) -> None:
    """Stop an agent and start it again."""
    began_at = time.monotonic()
    _tell_act(terminal, client.restart(name, wait_seconds=wait_seconds), began_at)


@click.command
@NAME
@_WAIT
@remote
def kill(client: Client, terminal: Terminal, name: str, wait_seconds: float) -> None:
    """End an agent at once, whatever else is under way."""
    began_at = time.monotonic()
    _tell_act(terminal, client.kill(name, wait_seconds=wait_seconds), began_at)


@click.command
@NAME
@click.option(
    "--status",
    "wanted",
    type=click.Choice(_STATUSES),
    default="running",
    show_default=True,
    help="What to wait for.",
    metavar="STATUS",
)
@click.option("--timeout", "timeout_seconds", default=60.0, show_default=True, metavar="SECONDS")
@remote
def wait(
    client: Client, terminal: Terminal, name: str, wanted: str, timeout_seconds: float
) -> None:
    """Wait until an agent has a status; fails when it does not come in time."""
    began_at = time.monotonic()
    agent = client.wait(name, status=wanted, timeout_seconds=timeout_seconds)
    _tell_act(terminal, agent, began_at)


@click.command("open")
@click.argument("name", required=False, shell_complete=complete_names)
@remote
def open_address(client: Client, terminal: Terminal, name: str | None) -> None:
    """Open an agent in the browser, or the server's dashboard when none is named.

    The address is printed in any case; a browser is asked for only at a terminal of a desktop.
    """
    if name is None:
        url = client.url
        if url.startswith("unix:"):
            raise BadRequestError(
                "cannot open the dashboard: the server listens on a Unix socket",
                hint="name the address of the proxy in front of it with --server",
            )
    else:
        agent = client.agent(name)
        if agent.url is None or agent.pid is None:
            raise BadRequestError(
                f"cannot open {name}: it is {agent.status}",
                cause=f"it is {agent.status}",
                hint=f"start it with `atoll-deployer start {name}`",
            )
        url = agent.url
    if terminal.as_json:
        terminal.document({"url": url})
        return
    terminal.line(url)
    if terminal.is_rich and _has_browser():
        import webbrowser  # noqa: PLC0415 - for desktops only

        webbrowser.open(url)


def _has_browser() -> bool:
    """Tell whether there is a desktop; a text browser would take the terminal."""
    wanted = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    return sys.platform == "darwin" or any(map(os.environ.get, wanted))


@click.command
@NAME
@click.option("--keep-data", is_flag=True, help="Leave the agent's data directory.")
@remote
def remove(client: Client, terminal: Terminal, name: str, keep_data: bool) -> None:  # noqa: FBT001 - as click hands it over
    """Stop an agent and delete it with all its releases."""
    began_at = time.monotonic()
    client.remove(name, keep_data=keep_data)
    if terminal.as_json:
        terminal.document({"name": name, "removed": True})
    else:
        kept = ", its data is kept" if keep_data else ""
        terminal.line(f"{name} is removed{kept} ({seconds_text(time.monotonic() - began_at)})")


def _tell_act(terminal: Terminal, agent: Agent | Connection, began_at: float) -> None:
    if terminal.as_json:
        terminal.document(agent.document)
        return
    place = f" at {agent.url}" if agent.url and agent.pid else ""
    took = seconds_text(time.monotonic() - began_at)
    terminal.line(f"{agent.name} is {agent.status}{place} ({took})")


def _tell(terminal: Terminal, agent: Agent) -> None:
    if terminal.as_json:
        terminal.document(agent.document)
        return
    health = agent.health
    terminal.pairs(
        {
            "name": agent.name,
            "status": agent.status,
            "desired": agent.desired,
            "url": agent.url,
            "release": agent.release,
            "version": agent.version,
            "checksum": agent.checksum,
            "pid": agent.pid,
            "up": age(agent.started_at) if agent.pid else None,
            "restarts": agent.restarts,
            **_shares(agent),
            "health": health and (health.detail or ("good" if health.healthy else "bad")),
            "last error": agent.last_error,
            "secrets": "changed since it was started: restart it" if agent.secrets_changed else "",
        }
    )


def _lines_of(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Write a table of a manifest as lines, with dotted names as in TOML."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _lines_of(value, f"{prefix}{name}.")
        else:
            values = value if isinstance(value, list) else [value]
            texts = (each if isinstance(each, str) else json.dumps(each) for each in values)
            yield f"{prefix}{name}", ", ".join(texts)


def _shares(agent: Agent) -> dict[str, str]:
    """Say how much of everything an agent uses, and how much it may."""
    if agent.usage is None or agent.limits is None:
        return {}
    used, may = agent.usage, agent.limits

    def share(value: float | None, limit: float | None, write: Callable[[Any], str]) -> str:
        most = "" if limit is None else f" of {write(limit)}"
        return "" if value is None else f"{write(value)}{most}"

    return {
        "memory": share(used.memory_bytes, may.memory.limit, size_text),
        "cpus": share(used.cpus, may.cpu.limit, "{:g}".format),
        "processes": share(used.pids, may.pids.limit, str),
        "disk": share(used.disk_bytes, may.disk.limit, size_text),
    }
