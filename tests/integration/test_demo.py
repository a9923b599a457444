"""`make demo`: all of it works, and nothing of it is left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from deployer.ports import can_bind
from tests.free_ports import free_ports

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"
DEMO_SECONDS = 120.0


class Demo:
    """A demo on ports and in a temporary directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tmp"
        self.folder.mkdir()
        self.port = free_ports(101)
        self.output = folder / "output"
        self.children: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        ports = ("--api-port", self.port, "--agent-base-port", self.port + 1)
        with self.output.open("wb") as output:
            child = subprocess.Popen(
                [sys.executable, str(DEMO), *map(str, ports), *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TMPDIR": str(self.folder)},
            )
        self.children.append(child)
        return child

    def stop(self) -> None:
        """End what a test that failed left running."""
        for child in self.children:
            child.terminate()
            child.wait(timeout=90)

    def wait_for(self, text: str, child: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + DEMO_SECONDS
        while text not in self.said:
            assert child.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)

    @property
    def said(self) -> str:
        return self.output.read_text()

    def left_behind(self) -> list[str]:
        """Name what still is of the demo: files, processes, listeners."""
        left = [str(path) for path in self.folder.iterdir()]
        left += [
            f"process {each.pid} {each.info['cmdline']}"
            for each in psutil.process_iter(["cmdline"])
            if any(str(self.folder) in part for part in each.info["cmdline"] or ())
        ]
        return left + [f"port {p}" for p in range(self.port, self.port + 101) if not can_bind(p)]


@pytest.fixture
def demo() -> Iterator[Demo]:
    # Not tmp_path, whose name may be too long for a socket's.
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        Path(folder).chmod(0o711)
        demo = Demo(Path(folder))
        yield demo
        demo.stop()


def test_the_demo_deploys_an_agent_calls_it_and_leaves_nothing_behind(demo: Demo) -> None:
    child = demo.start("--once")
    assert child.wait(timeout=DEMO_SECONDS) == 0, demo.said
    assert "it answers:" in demo.said
    assert "Hello, Ada!" in demo.said
    assert demo.left_behind() == []


def test_ctrl_c_ends_the_demo_cleanly_and_a_second_one_does_not_disturb(demo: Demo) -> None:
    child = demo.start()
    demo.wait_for("Ctrl-C stops everything", child)
    said = demo.said
    url = said.split("agent ")[1].split()[0]
    assert requests.get(f"{url}/health", timeout=20).ok
    for page in ("/docs", "/openapi.json"):
        address = f"http://127.0.0.1:{demo.port}{page}"
        assert address in said
        headers = {"Authorization": f"Bearer {said.split('token ')[1].split()[0]}"}
        assert requests.get(address, headers=headers, timeout=20).ok
    child.send_signal(signal.SIGINT)
    demo.wait_for("stopping the server", child)
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=60) == 0, demo.said
    assert demo.left_behind() == []


def test_ctrl_c_while_the_server_starts_leaves_nothing_behind(demo: Demo) -> None:
    child = demo.start()
    demo.wait_for("starting a server", child)
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=60) == 0, demo.said
    assert demo.left_behind() == []


def test_a_taken_port_is_told_in_one_line_with_the_way_out(demo: Demo) -> None:
    with socket.create_server(("127.0.0.1", demo.port)):
        child = demo.start()
        assert child.wait(timeout=30) == 2
    (line,) = demo.said.splitlines()
    assert f"port {demo.port} is taken" in line
    assert 'make demo DEMO_ARGS="--api-port' in line


def test_a_server_that_cannot_start_is_heard(demo: Demo) -> None:
    # The API's own port lies within the agents': the settings refuse that.
    ports = ("--api-port", str(demo.port), "--agent-base-port", str(demo.port))
    child = demo.start(*ports)
    assert child.wait(timeout=60) == 1
    assert "cannot start the server" in demo.said
    assert "must not hold the API's own" in demo.said
    assert demo.left_behind() == []
