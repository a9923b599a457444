"""The bare things that ours is built of: Falcon on waitress, and supervisord as it comes."""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import bare_app
from tests.free_ports import free_ports
from tests.servers import wait_until
from tests.supervisord_process import SupervisordProcess


@dataclass(frozen=True, slots=True)
class BareServer:
    """A bare server that runs."""

    port: int
    pid: int


@contextlib.contextmanager
def falcon(root: Path, path: str, data: bytes) -> Iterator[BareServer]:
    """Serve the same bytes on one path while the block runs."""
    port = free_ports(1)
    file = root / "answer"
    file.write_bytes(data)
    command = [sys.executable, bare_app.__file__, str(port), f"{path}={file}"]
    with subprocess.Popen(command) as process:
        try:
            wait_until(lambda: _answers(port))
            yield BareServer(port, process.pid)
        finally:
            process.terminate()


@contextlib.contextmanager
def supervisord(root: Path) -> Iterator[int]:
    """Run a stock supervisord without programs while the block runs, and give its pid."""
    directory = root / "v"
    directory.mkdir()
    with SupervisordProcess(directory, has_plugin=False) as running:
        yield running.pid


def ask(port: int, times: int) -> None:
    """Ask a bare server so often."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        for _ in range(times):
            connection.request("GET", "/")
            connection.getresponse().read()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        ask(port, 1)
        return True
    return False
