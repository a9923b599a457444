"""A process that goes through all that an agent goes through, and then tries to get out.

Run as ``python -I -S canary.py PORT POLICY DIRECTORY SECRET SOCKET CLOSED_PORT``, by `probes`. It
prints a line for each thing that it tried: a word, and ``open`` or why it was refused.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable

if __name__ == "__main__":
    _package = type(sys)("deployer")
    _package.__path__ = [os.path.dirname(os.path.dirname(__file__))]  # noqa: PTH120 - as the launcher does it
    sys.modules["deployer"] = _package

from deployer.launcher import LaunchError, confine, read_policy


def main(arguments: list[str]) -> None:
    """Apply a launch policy, and try what it should refuse."""
    port, policy, directory, secret, control, closed_port = arguments
    parent = os.getppid()
    with open(policy, "rb") as file:  # noqa: PTH123 - as the launcher does it
        data = file.read()
    try:
        confine(read_policy(data), port.encode(), parent)
    except LaunchError as error:
        sys.exit(str(error))
    attempts: dict[str, Callable[[], object]] = {
        "own-data": lambda: _write(f"{directory}/data/own"),
        "files": lambda: os.close(os.open(secret, os.O_RDONLY)),
        "names": lambda: os.stat(secret),  # noqa: PTH116 - the same
        "code": lambda: _write(f"{directory}/code/planted"),
        "control-socket": lambda: _connect(control),
        "abstract-sockets": lambda: _connect(f"\0{control}"),
        "signals": lambda: os.kill(parent, 0),
        "ports": lambda: _bind(int(closed_port)),
    }
    for name, attempt in attempts.items():
        try:
            attempt()
        except OSError as error:
            print(name, error.strerror)  # noqa: T201 - its one way to speak
        else:
            print(name, "open")  # noqa: T201 - the same


def _write(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def _connect(address: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)


def _bind(port: int) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))


if __name__ == "__main__":
    main(sys.argv[1:])
