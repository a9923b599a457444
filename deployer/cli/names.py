"""Agents' names as arguments, which a shell completes by asking the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS: Final = 1.0  # somebody waits with a finger on the key


def complete_names(context: click.Context, _parameter: click.Parameter, start: str) -> list[str]:
    """Find the agents whose names begin so; none, without a word, where that cannot be found out.

    It asks by http.client: requests takes longer to import than the answer to come.
    """
    try:
        given = {str(name) for value in context.params.values() for name in _texts(value)}
        return sorted(
            name for name in _ask(context) if name.startswith(start) and name not in given
        )
    except Exception:  # noqa: BLE001 - a shell would print it into the line that is being typed
        return []


def _texts(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else ()


def _ask(context: click.Context) -> list[str]:
    import http.client  # noqa: PLC0415 - for completion only
    import json  # noqa: PLC0415
    import socket  # noqa: PLC0415
    from urllib.parse import urlsplit  # noqa: PLC0415

    from deployer.cli.connections import find_server  # noqa: PLC0415 - it imports us

    told = context.params
    address = find_server(told.get("server"), told.get("token"), told.get("state_dir"))
    parts = urlsplit(address.url if "://" in address.url else f"http://{address.url}")
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname or "localhost", parts.port, timeout=_SECONDS)
    if parts.scheme == "unix":
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(_SECONDS)
        connection.sock.connect(parts.path)
    path = "" if parts.scheme == "unix" else parts.path.rstrip("/")
    headers = {"Authorization": f"Bearer {address.token}"} if address.token else {}
    try:
        connection.request("GET", f"{path}/v1/agents?limit=100", headers=headers)
        document = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return [each["name"] for each in document["agents"]]


def _argument(
    *declarations: str, nargs: int = 1, required: bool = True, metavar: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.argument(
        *declarations,
        nargs=nargs,
        required=required,
        metavar=metavar,
        shell_complete=complete_names,
    )


NAME: Final = _argument("name")
NAMES: Final = _argument("names", nargs=-1, required=False, metavar="[NAME]...")
OF_AGENT: Final = click.option(
    "--agent", metavar="NAME", help="What concerns this agent only.", shell_complete=complete_names
)
