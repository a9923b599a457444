"""What many clients do to a server for a while, and what must hold: `make load`.

Each of them looks at lists, checksums, states and logs, starts and stops agents, and puts new
releases live, in an order of its own. After it nothing may have been answered by a 5xx, every agent
is there and serves what was last put live, and the server holds no more memory and no more file
descriptors than after a first such while.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from deployer.client import Client
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server, wait_until

AGENTS = 20
CLIENTS = 32
MOST_GROWTH = 0.05
_WARM_UP_SECONDS = 15
_WARM_UPS = 6
_FILES_A_CONNECTION = 3
_SETTLE_SECONDS = 60
_HOLD_SECONDS = 25
_FINE = (200, 201, 202)
_BUSY = (409, 429)
"""Somebody else is at work on the same agent, or too many wait: what a client expects."""


@dataclass(slots=True)
class Tally:
    """What came of it.

    Attributes:
        answers: By what was done and the status of the answer.
        unexpected: What should not have been answered, the first few.
    """

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)

    def count(self, act: str, status: int, text: bytes) -> None:
        """Note an answer."""
        self.answers[act, status] += 1
        if status not in (*_FINE, *_BUSY):
            self.unexpected.append(f"{act}: {status} {text[:500]!r}")

    def __str__(self) -> str:
        """Give a line for each act."""
        acts = sorted({act for act, _ in self.answers})
        return "\n".join(
            f"  {act:8}"
            + ", ".join(
                f"{n} x {status}" for (a, status), n in sorted(self.answers.items()) if a == act
            )
            for act in acts
        )


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a server holds while nobody asks anything, by process.

    Attributes:
        memory: Bytes that nobody shares.
        descriptors: Open ones, but for those of the database: SQLite keeps one that it closed for
            the next connection, while others are open.
        connections: Descriptors of the database, three to a connection.
        threads: How many there are.
    """

    memory: dict[str, int]
    descriptors: dict[str, int]
    connections: int
    threads: int

    @classmethod
    def of(cls, server: RunningServer) -> Holdings:
        """Read them."""
        assert server.process is not None
        pids = {"API": server.api_pid(), "supervisord": server.process.pid}
        processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        files = {name: _open_files(pid) for name, pid in pids.items()}
        database = str(server.state.database)
        connections = sum(file.startswith(database) for file in files["API"])
        return cls(
            {name: process.memory_full_info().uss for name, process in processes.items()},
            {
                name: sum(not file.startswith(database) for file in open_files)
                for name, open_files in files.items()
            },
            connections,
            processes["API"].num_threads(),
        )


class Traffic:
    """Clients of one server, and its agents.

    Attributes:
        versions: What was last put live, by agent; only one client deploys any one agent.
    """

    def __init__(
        self, server: RunningServer, *, agents: int = AGENTS, clients: int = CLIENTS
    ) -> None:
        """Deploy the agents."""
        self._server = server
        self._clients = clients
        self._names = [f"busy-{number}" for number in range(agents)]
        self._checksums = []
        self.versions: dict[str, str] = {}
        self._seed = 0
        with server.client as client:
            for name in self._names:
                client.deploy(_package(name, "0.0.0"))
                self._checksums.append(client.agent(name).checksum)
                self.versions[name] = "0.0.0"

    def run(self, seconds: float) -> Tally:
        """Do it for so many seconds, each client over a connection of its own."""
        tally, guard = Tally(), threading.Lock()
        deadline = time.monotonic() + seconds
        errors: list[BaseException] = []

        def be_client(number: int) -> None:
            try:
                client = _Client(self._server, self._names, self._checksums, self.versions)
                client.run(number, self._clients, self._seed + number, deadline)
                with guard:
                    tally.answers.update(client.tally.answers)
                    tally.unexpected.extend(client.tally.unexpected)
            except BaseException as error:  # noqa: BLE001 - told below
                errors.append(error)

        threads = [
            threading.Thread(target=be_client, args=(number,)) for number in range(self._clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._seed += self._clients
        if errors:
            raise AssertionError(f"{len(errors)} clients failed: {errors[0]!r}") from errors[0]
        return tally

    def warm_up(self, seconds: float) -> Holdings:
        """Run so long, again and again, until every thread and cache is there that will be."""
        before = self.settled()
        for _ in range(_WARM_UPS):
            self.run(seconds)
            after = self.settled()
            growth = after.memory["API"] / before.memory["API"] - 1
            if growth < MOST_GROWTH / 2 and after.threads == before.threads:
                break
            before = after
        return after

    def settled(self) -> Holdings:
        """Start all agents, wait until they serve and nobody is connected, and read holdings."""
        with self._server.client as client:
            for name in self._names:
                wait_until(lambda name=name: _is_idle(client, name), _SETTLE_SECONDS, name)
                client.start(name)
        api = psutil.Process(self._server.api_pid())
        wait_until(lambda: not _clients_of(api, self._server.port), _SETTLE_SECONDS, "nobody left")
        time.sleep(2)
        return Holdings.of(self._server)

    def lost(self) -> list[str]:
        """Name agents that are not there, or do not run what was last put live."""
        with self._server.client as client:
            agents = {agent.name: agent for agent in client.agents()}
        return [
            f"{name}: {agents.get(name)}"
            for name, version in self.versions.items()
            if name not in agents
            or agents[name].status != "running"
            or agents[name].version != version
        ]


class _Client:
    """One of many: acts at random, and counts how it was answered."""

    def __init__(
        self,
        server: RunningServer,
        names: list[str],
        checksums: list[str],
        versions: dict[str, str],
    ) -> None:
        self._server = server
        self._names = names
        self._checksums = checksums
        self._versions = versions
        self._random = random.Random()  # noqa: S311 - nothing secret
        self._mine: list[str] = []
        self._made = 0
        self._headers = {"Authorization": f"Bearer {server.token}"}
        self.tally = Tally()

    def run(self, number: int, clients: int, seed: int, deadline: float) -> None:
        """Act until the deadline."""
        self._random.seed(seed)
        self._made = seed * 10_000
        self._mine = self._names[number::clients]
        acts: tuple[tuple[str, Callable[[str], tuple[Any, ...]], int], ...] = (
            ("list", lambda _: ("GET", self._one_of("/agents", "/v1/agents")), 25),
            ("check", lambda _: ("POST", f"/check?checksum={self._checksum()}"), 25),
            (
                "status",
                lambda name: ("GET", self._one_of(f"/status/{name}", f"/v1/agents/{name}")),
                25,
            ),
            ("logs", lambda name: ("GET", f"/v1/agents/{name}/logs?tail=20"), 15),
            ("start", lambda name: ("POST", f"/v1/agents/{name}/start?wait={_HOLD_SECONDS}"), 4),
            ("stop", lambda name: ("POST", f"/v1/agents/{name}/stop?wait={_HOLD_SECONDS}"), 3),
            ("deploy", self._deployment, 3 if self._mine else 0),
        )
        weights = [weight for _, _, weight in acts]
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=120)
        with contextlib.closing(connection):
            while time.monotonic() < deadline:
                ((act, question, _),) = self._random.choices(acts, weights)
                name = self._random.choice(self._mine if act == "deploy" else self._names)
                self._ask(connection, act, name, *question(name))

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        act: str,
        name: str,
        method: str,
        path: str,
        body: bytes | None = None,
    ) -> None:
        kind = {"Content-Type": "application/zip"} if body else {"Content-Length": "0"}
        connection.request(method, path, body, {**self._headers, **kind})
        response = connection.getresponse()
        text = response.read()
        self.tally.count(act, response.status, text)
        if act == "deploy" and response.status in _FINE:
            self._versions[name] = f"1.0.{self._made}"

    def _deployment(self, name: str) -> tuple[str, str, bytes]:
        self._made += 1
        strategy = self._one_of("replace", "rehearse")
        path = f"/v1/deployments?strategy={strategy}&wait=110"
        return "POST", path, _package(name, f"1.0.{self._made}")

    def _checksum(self) -> str:
        return self._random.choice([*self._checksums, "0" * 32])

    def _one_of(self, *words: str) -> str:
        return self._random.choice(words)


def _package(name: str, version: str) -> bytes:
    return zip_package("stdlib_agent", name=name, version=version)


def _open_files(pid: int) -> list[str]:
    """Name what a process has open."""
    names = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            names.append(str(descriptor.readlink()))
    return names


def _is_idle(client: Client, agent: str) -> bool:
    """Tell whether no deployment of an agent is under way."""
    unfinished = {"queued", "running"}
    return not any(each.status in unfinished for each in client.deployments(agent=agent, limit=5))


def _clients_of(api: psutil.Process, port: int) -> list[object]:
    return [
        each
        for each in api.net_connections("tcp")
        if each.laddr.port == port and each.status == psutil.CONN_ESTABLISHED
    ]


def breaches(
    traffic: Traffic,
    tally: Tally,
    before: Holdings,
    after: Holdings,
    most_growth: float = MOST_GROWTH,
) -> list[str]:
    """Say what of all that must hold does not."""
    found = [f"unexpected answer to {each}" for each in tally.unexpected[:20]]
    found += [f"lost agent {each}" for each in traffic.lost()]
    for name, memory in before.memory.items():
        growth = after.memory[name] / memory - 1
        if growth > most_growth:
            found.append(f"memory of {name} grew by {growth:.1%} of {memory / 1e6:.1f} MB")
    for name, count in before.descriptors.items():
        if after.descriptors[name] > count:
            found.append(f"{name} holds {after.descriptors[name]} descriptors, not {count}")
    if after.connections > _FILES_A_CONNECTION * after.threads:
        found.append(f"{after.connections} descriptors of the database, {after.threads} threads")
    return found


def main() -> int:
    """Do all that to a server of its own, and say what came of it; 1 if something does not hold."""
    parser = argparse.ArgumentParser(prog="make load LOAD_ARGS=...", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="after the warm-up [60]")
    parser.add_argument(
        "--warm-up", type=float, default=_WARM_UP_SECONDS, help="seconds at a time [15]"
    )
    parser.add_argument("--clients", type=int, default=CLIENTS, help=f"at once [{CLIENTS}]")
    parser.add_argument("--agents", type=int, default=AGENTS, help=f"that serve [{AGENTS}]")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="l-") as name, _server(Path(name), words) as server:
        traffic = Traffic(server, agents=words.agents, clients=words.clients)
        before = traffic.warm_up(words.warm_up)
        tally = traffic.run(words.seconds)
        after = traffic.settled()
        found = breaches(traffic, tally, before, after)
    answers = sum(tally.answers.values())
    sys.stdout.write(f"{answers} answers, {answers / words.seconds:.0f} a second\n{tally}\n")
    for process in before.memory:
        sys.stdout.write(
            f"  {process}: {before.memory[process] / 1e6:.1f} MB, then"
            f" {after.memory[process] / 1e6:.1f} MB; {before.descriptors[process]} descriptors,"
            f" then {after.descriptors[process]}\n"
        )
    sys.stdout.write(
        f"  {before.threads} threads with {before.connections} descriptors of the database,"
        f" then {after.threads} with {after.connections}\n"
    )
    sys.stdout.write("\n".join(found or ["all holds"]) + "\n")
    return 1 if found else 0


@contextlib.contextmanager
def _server(root: Path, words: argparse.Namespace) -> Iterator[RunningServer]:
    with running_server(root / "state", max_agents=words.agents + 10) as server:
        yield server


if __name__ == "__main__":
    sys.exit(main())
