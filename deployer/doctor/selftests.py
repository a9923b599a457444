"""A server of its own, with an agent that is broken in five ways: does it do as it promises?"""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import psutil
import requests

from deployer.client import Agent, Client
from deployer.doctor.temporary_servers import TemporaryServer
from deployer.errors import DeployerError, StartError

_AGENT: Final = Path(__file__).with_name("agent")
_NAME: Final = "selftest"
_TRIAL_SECONDS: Final = 10.0
_TOTAL_SECONDS: Final = 55.0
_LOOK_SECONDS: Final = 0.05
_ANSWER_SECONDS: Final = 2.0

_Thing = TypeVar("_Thing")


@dataclass(frozen=True, slots=True)
class Trial:
    """One thing that was done to the agent, and whether the server did as it promises.

    Attributes:
        name: What was done.
        passed: Whether it did.
        seconds: How long it took.
        detail: What was seen.
    """

    name: str
    passed: bool
    seconds: float
    detail: str


class TrialError(Exception):
    """The server did not do as it promises."""


def selftest() -> Iterator[Trial]:
    """Deploy an agent on a server that nobody else uses, break it, and clear all away.

    No server that runs on this machine is touched. Each trial has 10 s, all together 55.

    Yields:
        How each trial ended, as soon as it is over.
    """
    deadline = time.monotonic() + _TOTAL_SECONDS
    with ExitStack() as undo:
        server = TemporaryServer()
        undo.callback(server.clear_away)
        bench = _Bench(server)
        trials: tuple[tuple[str, Callable[[], str]], ...] = (
            ("start a server", bench.start),
            ("deploy an agent", bench.deploy),
            ("crash at start", bench.crash_at_start),
            ("kill -9", bench.kill),
            ("hang in the health check", bench.hang),
            ("broken new release", bench.break_release),
            ("port stolen", bench.steal_port),
            ("stop the server", bench.stop),
        )
        for name, act in trials:
            trial = _try(name, act, bench, deadline)
            yield trial
            if not trial.passed and act in {bench.start, bench.deploy}:
                return  # nothing else could be tried


def _try(name: str, act: Callable[[], str], bench: _Bench, deadline: float) -> Trial:
    began = time.monotonic()
    bench.deadline = min(began + _TRIAL_SECONDS, deadline)
    if began >= deadline:
        return Trial(name, passed=False, seconds=0.0, detail="not tried: the time is over")
    try:
        detail, passed = act(), True
    except DeployerError as error:
        detail, passed = error.detail, False
    except (TrialError, OSError, requests.RequestException, psutil.Error) as error:
        detail, passed = str(error), False
    return Trial(name, passed, time.monotonic() - began, detail)


class _Bench:
    """The server under test, its client, and the clock that runs.

    Attributes:
        deadline: When the present trial must be over, on the monotonic clock.
    """

    def __init__(self, server: TemporaryServer) -> None:
        self._server = server
        self._client: Client | None = None
        self.deadline = 0.0

    @property
    def client(self) -> Client:
        if self._client is None:
            self._client = Client(self._server.url, self._server.token(), timeout_seconds=10)
        return self._client

    @property
    def left(self) -> float:
        return max(0.1, self.deadline - time.monotonic())

    def start(self) -> str:
        """Start the server and wait until it takes work."""
        self._server.start()
        self._wait(self._server.is_ready, "the server is not ready")
        return f"{self._server.url}, isolation {self.client.server()['isolation']['level']}"

    def deploy(self) -> str:
        """Deploy the bundled agent and call it."""
        self.client.deploy(self._package(_NAME), wait_seconds=self.left)
        agent = self._serving()
        return f"release {agent.release} serves on port {agent.port}, pid {agent.pid}"

    def crash_at_start(self) -> str:
        """Deploy an agent that dies at once: refused with its cause, and nothing stays."""
        package = self._package("crasher", mode="crash")
        try:
            self.client.deploy(package, wait_seconds=self.left)
        except StartError as error:
            if "told to crash at start" not in error.detail:
                raise TrialError(f"refused, but not with its cause: {error.detail}") from error
        else:
            raise TrialError("an agent that dies at once was said to serve")
        names = [agent.name for agent in self.client.agents()]
        if names != [_NAME]:
            raise TrialError(f"it left something behind: {', '.join(names)}")
        return f"refused, with its cause: {self.client.why('crasher').cause}"

    def kill(self) -> str:
        """Kill the agent: another process of it serves soon."""
        pid = self._pid(self._serving())
        psutil.Process(pid).kill()
        agent = self._wait(lambda: self._is_another(pid), "it was not started again")
        return f"pid {pid} killed; pid {agent.pid} serves"

    def hang(self) -> str:
        """Let the agent hang: the health check notices, and it is started again."""
        agent = self._serving()
        pid = self._pid(agent)
        requests.get(f"{agent.url}/hang", timeout=_ANSWER_SECONDS)
        another = self._wait(lambda: self._is_another(pid), "it was not started again")
        return f"pid {pid} hung; pid {another.pid} serves"

    def break_release(self) -> str:
        """Push a release that never becomes healthy: the old one serves on."""
        before = self._serving()
        package = self._package(_NAME, mode="bad", start_seconds=1)
        try:
            self.client.deploy(package, wait_seconds=self.left)
        except StartError as error:
            cause = error.cause
        else:
            raise TrialError("a release that answers 500 was said to serve")
        after = self._serving()
        if (after.pid, after.release) != (before.pid, before.release):
            raise TrialError(f"pid {before.pid} served, and now it is pid {after.pid}")
        status = self.client.deployments(agent=_NAME)[0].status
        return f"{status}: {cause}; pid {after.pid} serves on"

    def steal_port(self) -> str:
        """Take the agent's port while it is stopped: it serves on another one."""
        port = self._serving().port
        self.client.stop(_NAME, wait_seconds=self.left)
        with socket.create_server(("127.0.0.1", port or 0)):
            self.client.start(_NAME, wait_seconds=self.left)
            agent = self._serving()
        if agent.port == port:
            raise TrialError(f"it is said to serve on port {port}, which is ours")
        return f"port {port} taken; it serves on port {agent.port}"

    def stop(self) -> str:
        """Stop the server: nothing of it lives on."""
        self._server.stop(self.left)
        return "it ended, with every process of it"

    def _package(self, name: str, *, mode: str = "well", start_seconds: int = 5) -> Path:
        """Make a package of the bundled agent, changed as a trial wants it."""
        folder = self._server.root / "packages" / f"{name}-{mode}"
        shutil.copytree(_AGENT, folder, ignore=shutil.ignore_patterns("__pycache__"))
        manifest = folder / "agent.toml"
        text = manifest.read_text(encoding="utf-8")
        for old, new in (
            (f'name = "{_NAME}"', f'name = "{name}"'),
            ('SELFTEST_MODE = "well"', f'SELFTEST_MODE = "{mode}"'),
            ("start_seconds = 5", f"start_seconds = {start_seconds}"),
        ):
            text = text.replace(old, new)
        manifest.write_text(text, encoding="utf-8")
        return folder

    def _serving(self) -> Agent:
        return self._wait(lambda: self._is_another(None), "the agent does not serve")

    def _is_another(self, pid: int | None) -> Agent | None:
        """Give the agent if it serves with another process, and answers."""
        agent = self.client.agent(_NAME)
        if agent.status != "running" or agent.pid in {None, pid}:
            return None
        try:
            answer = requests.get(f"{agent.url}/", timeout=_ANSWER_SECONDS)
        except requests.RequestException:
            return None
        return agent if answer.text == str(agent.pid) else None

    @staticmethod
    def _pid(agent: Agent) -> int:
        if agent.pid is None:
            raise TrialError("the agent has no process")
        return agent.pid

    def _wait(self, look: Callable[[], _Thing | None], otherwise: str) -> _Thing:
        while not (found := look()):
            if time.monotonic() > self.deadline:
                raise TrialError(f"{otherwise} in time; the server said: {self._server.said()}")
            time.sleep(_LOOK_SECONDS)
        return found
