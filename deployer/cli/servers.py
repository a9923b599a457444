"""Commands about a server as a whole: start one, see its ports, talk to its supervisord."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deployer.cli.connections import remote
from deployer.cli.durations import age
from deployer.cli.terminals import Terminal
from deployer.errors import ServerUnreachableError
from deployer.state_dir import StateDir, default_state_dir

if TYPE_CHECKING:
    from deployer.client import Client


@click.command
@click.option("--state-dir", metavar="DIR", help="Where everything lies.")
@click.option("--host", metavar="ADDRESS", help="What the API binds, or unix:PATH.  [127.0.0.1]")
@click.option("--api-port", metavar="PORT", help="The port of the API.  [8080]")
@click.option("--agent-base-port", metavar="PORT", help="The first port for agents.  [8100]")
@click.option("--max-agents", metavar="COUNT", help="How many agents, and ports.  [100]")
@click.option("--auth", metavar="token|none", help="Whether clients need the token.  [token]")
@click.option("--log-format", metavar="text|json", help="Of the server's own log.  [text]")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.  [info]")
@click.option(
    "--config",
    envvar="ATOLL_DEPLOYER_CONFIG",
    type=click.Path(path_type=Path),
    help="Settings in JSON with comments, or TOML.",
)
def serve(config: Path | None, **overrides: str | None) -> None:
    """Start a server, in the foreground, until Ctrl-C.

    Options beat ATOLL_DEPLOYER_* variables, and those beat the file. When something is wrong,
    every problem is listed, nothing is started, and the exit code is 2.
    """
    # Values travel as text: the settings check them with all others and list every problem.
    from deployer.settings import load_settings  # noqa: PLC0415 - it brings pydantic

    with Terminal().telling():
        settings = load_settings(config, os.environ, overrides)
        if settings.supervisor.url is None:
            from deployer import startup  # noqa: PLC0415 - it brings Jinja2

            startup.serve(settings)
        else:
            from deployer import server  # noqa: PLC0415 - all there is

            server.serve_beside(settings)


@click.command
@remote
def ports(client: Client, terminal: Terminal) -> None:
    """Show the agents' range of ports: what they hold, and what others do."""
    found = client.ports()
    if terminal.as_json:
        terminal.document(found.document)
        return
    free = "" if found.free is None else f", {found.free} free"
    terminal.line(f"ports {found.first}-{found.last}{free}")
    held = [(each.port, each.agent, age(each.leased_at)) for each in found.leases]
    held += [(each.port, f"({each.holder})", None) for each in found.foreign]
    if held:
        terminal.table(("PORT", "HELD BY", "SINCE"), sorted(held))


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--state-dir",
    envvar="ATOLL_DEPLOYER_STATE_DIR",
    type=click.Path(path_type=Path),
    help="Of a server on this machine.",
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[ACTION [ARGUMENTS]...]")
def supervisorctl(state_dir: Path | None, words: tuple[str, ...]) -> None:
    """Talk to the server's supervisord, by the supervisorctl that belongs to it.

    Beside its own actions it knows `agents`, `releases`, `rollback`, `why` and `push`. Without an
    action it asks for one after another.
    """
    state = StateDir(state_dir or default_state_dir())
    with Terminal().telling():
        if not os.access(state.supervisord_conf, os.R_OK):
            raise ServerUnreachableError(
                f"cannot find {state.supervisord_conf}, or may not read it",
                cause="no supervisord of this user's has run there",
                hint="name the server's directory with --state-dir, or, where a supervisord of the"
                " machine's own runs it, use that one's supervisorctl",
            )
    command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(state.supervisord_conf)]
    os.execv(sys.executable, [*command, *words])  # noqa: S606 - ours
