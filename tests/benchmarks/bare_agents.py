"""An agent without a server: what nobody can do without, from Popen to the first answer."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deployer import health
from deployer.model import HealthCheck
from tests.free_ports import free_ports
from tests.package_zips import PACKAGES

_QUESTION = HealthCheck(path="/health", timeout_seconds=5)
_LONGEST_SECONDS = 60


@dataclass(frozen=True, slots=True)
class BareAgent:
    """A process that serves.

    Attributes:
        process: Leads a group of its own.
        seconds: From Popen to its first answer.
    """

    process: subprocess.Popen[bytes]
    seconds: float


def copy_code(folder: Path, package: str = "stdlib_agent") -> Path:
    """Put a test package's files into a new folder, and give it."""
    folder.mkdir(parents=True)
    for path in (PACKAGES / package).iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


def start(python: Path | str, code: Path, port: int = 0) -> BareAgent:
    """Start an agent's main.py, and ask until it answers.

    Args:
        python: Runs it.
        code: Where main.py is.
        port: To serve on; 0: any.
    """
    port = port or free_ports(1)
    environment = {**os.environ, "PORT": str(port), "HOST": "127.0.0.1"}
    began = time.perf_counter()
    process = subprocess.Popen([str(python), "main.py"], cwd=code, env=environment, process_group=0)
    answer = health.wait_until_healthy(
        lambda: health.check("127.0.0.1", port, _QUESTION),
        still_alive=lambda: process.poll() is None,
        deadline=time.monotonic() + _LONGEST_SECONDS,
    )
    seconds = time.perf_counter() - began
    if not answer.healthy:
        process.kill()
        process.wait(60)
        raise AssertionError(answer)
    return BareAgent(process, seconds)


@contextlib.contextmanager
def started(python: Path | str, code: Path, port: int = 0) -> Iterator[BareAgent]:
    """Start an agent for as long as the block runs."""
    agent = start(python, code, port)
    try:
        yield agent
    finally:
        agent.process.kill()
        agent.process.wait(60)
