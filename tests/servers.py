"""A real server for tests: `serve` as a user starts it, on free ports and its own directory."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import psutil
import requests

from deployer.client import Client
from deployer.http_sessions import http_url, open_session
from deployer.leftovers import find_leftovers
from deployer.limits.groups import remove_leftover_groups
from deployer.state_dir import StateDir
from deployer.supervisord import connect
from deployer.supervisord_confs import SERVICE, read_credentials
from tests.free_ports import free_ports, release_ports
from tests.ordinary_users import OrdinaryUser

AGENT_PORTS = 20
_START_SECONDS = 90
_STOP_SECONDS = 60


def wait_until(condition: Callable[[], object], seconds: float = 45.0, what: str = "") -> Any:
    """Wait for a condition and give what it gave."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not so after {seconds} s: {what or condition}")
        time.sleep(0.02)
    return result


class RunningServer:
    """A server started by the command line, with its own supervisord.

    Attributes:
        state: Its state directory.
        port: Of its API.
        base_port: The first of its agents' ports.
        settings: What its configuration file says beside these.
        user: Who runs it; None: whoever runs the tests.
        wrapper: A command that starts it, such as one that takes capabilities away.
        terminal: The one that it is started from, as a descriptor; None: none.
    """

    def __init__(self, root: Path, *, cache_dir: Path | None = None, **settings: Any) -> None:
        """Choose ports; nothing runs before `start`."""
        root.mkdir(parents=True, exist_ok=True)
        self.state = StateDir(root.resolve())
        first = free_ports(AGENT_PORTS + 1)
        self.port, self.base_port = first, first + 1
        self.settings = {
            "api_port": self.port,
            "agent_base_port": self.base_port,
            "max_agents": AGENT_PORTS,
            **({"cache_dir": str(cache_dir)} if cache_dir else {}),
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.user: OrdinaryUser | None = None
        self.wrapper: tuple[str, ...] = ()
        self.terminal: int | None = None
        self.output = root.with_name(f"{root.name}.out")

    @property
    def url(self) -> str:
        """The address of its API."""
        host = str(self.settings.get("host", ""))
        if host.startswith("unix:"):
            return f"unix://{host.removeprefix('unix:')}"
        return f"http://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        """Its token; empty when it asks for none."""
        return "" if self.settings.get("auth") == "none" else self.state.token.read_text().strip()

    @property
    def client(self) -> Client:
        """A client that knows the token."""
        return Client(self.url, self.token or None)

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request with the token."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers.update(options.pop("headers", {}))
        with open_session(self.url) as session:
            return session.request(
                method, f"{http_url(self.url)}{path}", headers=headers, timeout=130, **options
            )

    def start(self) -> Self:
        """Start it and wait until it is ready."""
        self.launch()
        wait_until(self.is_ready, _START_SECONDS, f"ready: {self.describe()}")
        return self

    def launch(self) -> subprocess.Popen[bytes]:
        """Start it without waiting for anything."""
        config = self.state.root.with_name(f"{self.state.root.name}.json")
        config.write_text(json.dumps({"deployment_server": self.settings}))
        python = sys.executable if self.user is None else str(self.user.python)
        command = [*self.wrapper, python, "-m", "deployer.cli", "serve", "--config", str(config)]
        terminal = self.terminal

        def take_terminal() -> None:
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [*command, "--state-dir", str(self.state.root)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=None if terminal is None else take_terminal,  # noqa: PLW1509 - nothing but one system call
                **({} if self.user is None else self.user.options),
            )
        return self.process

    def is_ready(self) -> bool:
        """Ask whether it takes work."""
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"serve ended: {self.describe()}")
        # a server that was killed may still accept and die within its answer, or never answer
        with contextlib.suppress(requests.RequestException), open_session(self.url) as session:
            return session.get(f"{http_url(self.url)}/readyz", timeout=10).status_code == 200
        return False

    def stop(self) -> int:
        """End it as an operator does; give its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_STOP_SECONDS)

    def end(self) -> None:
        """End it in any case, and fail if anything of it stays."""
        if self.process is not None and self.process.poll() is None:
            try:
                self.stop()
            finally:
                self.process.kill()
                self.process.wait(10)
        leaked = wait_gone(self.state.root)
        # what was killed, or served beside another supervisord, leaves that to its next start
        remove_leftover_groups(self.state)
        for process in leaked:
            with contextlib.suppress(psutil.Error):
                process.kill()
        release_ports(self.port)
        assert not leaked, f"left running: {leaked}"

    def api_pid(self) -> int:
        """Find the API's process."""
        assert self.process is not None
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):  # it may just be dying
                if "deployer.server" in child.cmdline():
                    return child.pid
        raise AssertionError("the API does not run")

    def kill_api(self) -> None:
        """Kill the API and wait until its process is gone; supervisord brings another one."""
        api = psutil.Process(self.api_pid())
        api.kill()
        api.wait(20)

    def start_api(self) -> None:
        """Have supervisord start the API now, if it is down: its own pace would slow tests down."""
        credentials = read_credentials(self.state)
        url = f"unix://{self.state.supervisor_socket}"
        connect(url, credentials.username, credentials.password).start(SERVICE)

    def ctl(self, *words: str) -> str:
        """Run supervisorctl, as an operator would, and give what it prints."""
        conf = str(self.state.supervisord_conf)
        command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", conf, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr

    def describe(self) -> str:
        """Give what it printed and logged, for a failed assertion."""
        texts = [self.output.read_text() if self.output.exists() else ""]
        with contextlib.suppress(OSError):
            texts.append((self.state.logs / "deployer.log").read_text()[-4000:])
        return "\n".join(texts)


def wait_gone(root: Path, seconds: float = 15.0) -> list[psutil.Process]:
    """Wait until no process of a state directory lives; give those that stay."""
    deadline = time.monotonic() + seconds
    while (left := find_leftovers(root)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


@contextlib.contextmanager
def running_server(
    root: Path,
    *,
    cache_dir: Path | None = None,
    user: OrdinaryUser | None = None,
    wrapper: tuple[str, ...] = (),
    terminal: int | None = None,
    **settings: Any,
) -> Iterator[RunningServer]:
    """Run a server while the block runs, and make sure that nothing of it stays."""
    server = RunningServer(root, cache_dir=cache_dir, **settings)
    server.user, server.wrapper, server.terminal = user, wrapper, terminal
    if user is not None:
        os.chown(root, user.uid, user.uid)
    try:
        yield server.start()
    finally:
        server.end()
