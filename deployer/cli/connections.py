"""How a command finds its server: by options, by variables, or in the local state directory."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Final

import click

from deployer.cli.terminals import Terminal
from deployer.errors import AuthenticationRequiredError
from deployer.state_dir import StateDir, default_state_dir

if TYPE_CHECKING:
    from deployer.client import Client

DEFAULT_URL: Final = "http://127.0.0.1:8080"
"""Where a server listens whose settings say nothing else."""

_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - what others bind


@dataclass(frozen=True, slots=True)
class Address:
    """A server, and what it asks for; the token never shows in a repr."""

    url: str
    token: str | None

    def __repr__(self) -> str:
        """Name the server only."""
        return f"Address({self.url!r})"


def find_server(server: str | None, token: str | None, state_dir: Path | None) -> Address:
    """Find out which server to talk to.

    The token of a state directory goes to its own server only, unless both are named: any user of
    this machine may listen on some port and wait for it.

    Args:
        server: An address; None: that of the state directory's server.
        token: A token; None: that of the state directory, where it may be sent.
        state_dir: A state directory; None: the default one.

    Raises:
        AuthenticationRequiredError: The token is there and may not be read.
    """
    state = StateDir(state_dir or default_state_dir())
    local_url = _local_url(state)
    url = server or local_url
    is_local = url.rstrip("/") == local_url or state_dir is not None
    return Address(url, token or (_local_token(state) if is_local else None))


def _local_url(state: StateDir) -> str:
    """Read where the state directory's server listens."""
    try:
        settings = json.loads(state.settings.read_text())
        host, port = str(settings["host"]), int(settings["api_port"])
    except (OSError, ValueError, KeyError, TypeError):
        return DEFAULT_URL  # no server was started there, or its files are not for this user
    if host.startswith("unix:"):
        return f"unix://{host.removeprefix('unix:')}"
    host = _EVERYWHERE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _local_token(state: StateDir) -> str | None:
    try:
        return state.token.read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise AuthenticationRequiredError(
            f"cannot read {state.token}: it belongs to the user who runs the server",
            cause="the token may not be read",
            hint="run this as that user, or give a token with --token",
        ) from error


def remote(
    function: Callable[Concatenate[Client, Terminal, ...], None],
) -> Callable[..., None]:
    """Give a command the options that lead to a server, and call it with a client and a terminal.

    Errors end the command in words and with an exit code.
    """

    @click.option("--server", metavar="URL", envvar="ATOLL_DEPLOYER_SERVER", help="The server.")
    @click.option("--token", envvar="ATOLL_DEPLOYER_TOKEN", help="What the server asks for.")
    @click.option(
        "--state-dir",
        envvar="ATOLL_DEPLOYER_STATE_DIR",
        type=click.Path(path_type=Path),
        help="Of a server on this machine: its address and token are found there.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print documents for machines.")
    @functools.wraps(function)
    def command(
        *,
        server: str | None,
        token: str | None,
        state_dir: Path | None,
        as_json: bool,
        **options: Any,
    ) -> None:
        from deployer.client import Client  # noqa: PLC0415 - it brings requests

        terminal = Terminal(as_json=as_json)
        with terminal.telling():
            address = find_server(server, token, state_dir)
            with Client(address.url, address.token) as client:
                function(client, terminal, **options)

    return command
