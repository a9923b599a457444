"""Commands about one agent: see it, start and stop it, wait for it, remove it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from deployer.byte_sizes import size_text
from deployer.cli.connections import remote
from deployer.cli.durations import age
from deployer.cli.terminals import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from deployer.client import Agent, Client, Connection

_WAIT = click.option("--wait", "wait_seconds", default=60.0, show_default=True, metavar="SECONDS")


@click.command
@click.argument("name")
@remote
def status(client: Client, terminal: Terminal, name: str) -> None:
    """Show one agent."""
    _tell(terminal, client.agent(name))


@click.command
@click.argument("name")
@click.option(
    "--sub-agent", is_flag=True, help="Print what an ATOLL agent's agent.toml needs to use it."
)
@remote
def show(client: Client, terminal: Terminal, name: str, sub_agent: bool) -> None:  # noqa: FBT001 - as click hands it over
    """Show one agent, or how another one reaches it."""
    if not sub_agent:
        _tell(terminal, client.agent(name))
    elif terminal.as_json:
        terminal.document({"name": name, "sub_agent": client.sub_agent(name)})
    else:
        for line in client.sub_agent(name).splitlines():
            terminal.line(line)


@click.command
@click.argument("name")
@_WAIT
@remote
def start(client: Client, terminal: Terminal, name: str, wait_seconds: float) -> None:
    """Start an agent and wait until it is healthy."""
    _tell_act(terminal, client.start(name, wait_seconds=wait_seconds))


@click.command
@click.argument("name")
@_WAIT
@remote
def stop(client: Client, terminal: Terminal, name: str, wait_seconds: float) -> None:
    """Stop an agent; it stays stopped until somebody starts it."""
    _tell_act(terminal, client.stop(name, wait_seconds=wait_seconds))


@click.command
@click.argument("name")
@_WAIT
@remote
def restart(client: Client, terminal: Terminal, name: str, wait_seconds: float) -> None:
    """Stop an agent and start it again."""
    _tell_act(terminal, client.restart(name, wait_seconds=wait_seconds))


@click.command
@click.argument("name")
@_WAIT
@remote
def kill(client: Client, terminal: Terminal, name: str, wait_seconds: float) -> None:
    """End an agent at once, whatever else is under way."""
    _tell_act(terminal, client.kill(name, wait_seconds=wait_seconds))


@click.command
@click.argument("name")
@click.option("--status", "wanted", default="running", show_default=True, help="What to wait for.")
@click.option("--timeout", "timeout_seconds", default=60.0, show_default=True, metavar="SECONDS")
@remote
def wait(
    client: Client, terminal: Terminal, name: str, wanted: str, timeout_seconds: float
) -> None:
    """Wait until an agent has a status."""
    _tell_act(terminal, client.wait(name, status=wanted, timeout_seconds=timeout_seconds))


@click.command
@click.argument("name")
@click.option("--keep-data", is_flag=True, help="Leave the agent's data directory.")
@remote
def remove(client: Client, terminal: Terminal, name: str, keep_data: bool) -> None:  # noqa: FBT001 - as click hands it over
    """Stop an agent and delete it with all its releases."""
    client.remove(name, keep_data=keep_data)
    if terminal.as_json:
        terminal.document({"name": name, "removed": True})
    else:
        terminal.line(f"{name} is removed{', its data is kept' if keep_data else ''}")


def _tell_act(terminal: Terminal, agent: Agent | Connection) -> None:
    if terminal.as_json:
        terminal.document(agent.document)
        return
    terminal.line(f"{agent.name} is {agent.status}{f' at {agent.url}' if agent.url else ''}")


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


COMMANDS = (status, show, start, stop, restart, kill, wait, remove)
