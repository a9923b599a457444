"""`atoll-deployer serve`: what it becomes, how it ends, what it refuses, what it brings back."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import accumulate, chain
from pathlib import Path

import psutil
import pytest
import requests

from tests.free_ports import free_ports
from tests.package_zips import zip_package
from tests.servers import AGENT_PORTS, RunningServer, running_server, wait_gone, wait_until

MakeServer = Callable[..., RunningServer]
NOBODY = 65534
# Root without its rights over files: another uid may not be able to read this Python.
PLAIN_USER = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner")[
    : 2 * (os.geteuid() == 0)
]
unprivileged = pytest.mark.skipif(
    bool(PLAIN_USER) and shutil.which("setpriv") is None, reason="root can write everywhere"
)


def refuse(*arguments: object, through: Sequence[str] = ()) -> str:
    """Start a server that must not start; give what it says."""
    done = subprocess.run(
        [*through, sys.executable, "-m", "deployer.cli", "serve", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2, done
    assert done.stdout == ""
    return done.stderr


def ports_of(first: int) -> tuple[str, ...]:
    return (f"--api-port={first}", f"--agent-base-port={first + 1}", "--max-agents=5")


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


# How it runs and ends ----------------------------------------------------------------------------


def test_serve_becomes_supervisord_under_the_same_pid(shared_server: RunningServer) -> None:
    assert shared_server.process is not None
    itself = psutil.Process(shared_server.process.pid)
    assert "supervisor.supervisord" in itself.cmdline()
    assert psutil.Process(shared_server.api_pid()).ppid() == itself.pid


def test_supervisord_starts_the_api_without_waiting_for_its_next_turn(
    shared_server: RunningServer, make_server: MakeServer
) -> None:
    # a turn takes a second; a busy machine may hold one start up, but not each of three
    more = (make_server(name) for name in ("one", "two"))
    assert any(seconds_to_spawn(each) < 0.9 for each in chain([shared_server], more))


def seconds_to_spawn(server: RunningServer) -> float:
    """Tell how long supervisord ran before it started the API."""
    log = (server.state.logs / "supervisord.log").read_text()
    begun, spawned = (
        datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S,%f").astimezone()
        for sentence in ("supervisord started", "spawned: 'atoll-deployer'")
        if (found := re.search(rf"(?m)^(\S+ \S+) INFO {sentence}", log))
    )
    return (spawned - begun).total_seconds()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_every_agent_at_once_and_leaves_nothing(
    make_server: MakeServer, number: signal.Signals
) -> None:
    server = make_server()
    for name in ("one", "two", "three"):
        server.client.deploy(
            zip_package(
                "ignores_term",
                name=name,
                replace={"[health]": "[deployment]\nstop_seconds = 3\n[health]"},
            )
        )
    ports = [server.port, *(agent.port for agent in server.client.agents())]
    assert server.process is not None

    began = time.monotonic()
    server.process.send_signal(number)

    assert server.process.wait(20) == 0
    assert 2.9 < time.monotonic() - began < 8.9  # one stop time, not three
    assert wait_gone(server.state.root) == []
    assert not any(listens(port) for port in ports if port is not None)
    assert sorted(path.name for path in server.state.run.iterdir()) == ["lock"]


def test_a_restart_brings_back_what_ran_on_the_same_ports_and_nothing_else(
    make_server: MakeServer,
) -> None:
    server = make_server()
    for name in ("first", "second", "third"):
        server.client.deploy(zip_package("stdlib_agent", name=name))
    server.client.stop("first")
    before = {agent.name: agent.port for agent in server.client.agents()}
    assert server.stop() == 0
    (server.state.conf_d / "bad--1.conf").write_text("[program:bad--1]\ncommand=100%\n")

    server.start()

    wait_until(lambda: server.client.agent("third").status == "running")
    wait_until(lambda: server.client.agent("second").status == "running")
    assert {agent.name: agent.port for agent in server.client.agents()} == before
    assert server.client.agent("first").status == "stopped"
    assert "moved the damaged program config bad--1.conf" in server.output.read_text()
    assert (server.state.quarantine / "bad--1.conf").exists()


SLOW_TO_BEGIN = """
import os, time
import serving

diary = open(os.path.join(os.environ["ATOLL_AGENT_DATA_DIR"], "diary"), "a", buffering=1)
print("begin", time.time(), file=diary)
time.sleep(0.3)


def answer(path):
    print("asked", time.time(), file=diary)
    return serving.healthy(path)


serving.serve(answer)
"""


def test_agents_are_brought_back_twice_as_many_at_a_time_as_there_are_cores(
    make_server: MakeServer,
) -> None:
    server = make_server()
    names = [f"agent-{number}" for number in range(4 * (os.cpu_count() or 1) + 1)][:AGENT_PORTS]
    for name in names:
        package = zip_package("stdlib_agent", name=name, extra_files={"main.py": SLOW_TO_BEGIN})
        server.client.deploy(package, strategy="replace")
    server.stop()
    diaries = [server.state.agent_data(name) / "diary" for name in names]
    for diary in diaries:
        diary.write_text("")  # the agent's own file: it goes on in it
    server.start()
    wait_until(lambda: all(agent.status == "running" for agent in server.client.agents()))
    moments: list[tuple[float, int]] = []
    for diary in diaries:
        lines = [line.split() for line in diary.read_text().splitlines()]
        begun, asked = (
            next(float(at) for word, at in lines if word == w) for w in ("begin", "asked")
        )
        moments += [(begun, 1), (asked, -1)]
    at_once = list(accumulate(step for _, step in sorted(moments)))
    assert 1 < max(at_once) <= 2 * (os.cpu_count() or 1)


def test_what_a_killed_server_left_does_not_matter(make_server: MakeServer) -> None:
    server = make_server()
    server.client.deploy(zip_package("stdlib_agent"))
    port = server.client.agent("stdlib_agent").port
    assert server.process is not None
    server.process.kill()
    server.process.wait(30)
    assert server.state.supervisor_socket.exists()
    (server.state.run / "supervisord.pid").write_text(f"{os.getpid()}\n")

    server.start()

    wait_until(lambda: server.client.agent("stdlib_agent").status == "running")
    assert server.client.agent("stdlib_agent").port == port


# What it refuses, in one line --------------------------------------------------------------------


def test_a_taken_port_is_told_with_its_holder(tmp_path: Path) -> None:
    first = free_ports(6)
    with socket.create_server(("127.0.0.1", first)):
        (line,) = refuse("--state-dir", tmp_path / "s", *ports_of(first)).splitlines()
    assert f"port {first} is held by pid {os.getpid()}" in line
    assert "--api-port" in line


def test_an_address_of_another_machine_is_told(tmp_path: Path) -> None:
    arguments = ("--state-dir", tmp_path / "s", "--host", "192.0.2.1", *ports_of(free_ports(6)))
    (line,) = refuse(*arguments).splitlines()
    assert "http://192.0.2.1:" in line


def test_a_second_server_on_the_same_directory_is_told_who_has_it(
    shared_server: RunningServer,
) -> None:
    root = shared_server.state.root
    (line,) = refuse("--state-dir", root, *ports_of(free_ports(6))).splitlines()
    assert shared_server.process is not None
    assert f"pid {shared_server.process.pid}, {shared_server.url}" in line
    assert shared_server.is_ready()


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "s").touch()
    (line,) = refuse("--state-dir", tmp_path / "s", *ports_of(free_ports(6))).splitlines()
    assert str(tmp_path / "s") in line
    assert "--state-dir" in line


@unprivileged
def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    root = tmp_path / "s"
    arguments = ("--state-dir", root, *ports_of(free_ports(6)))
    (line,) = refuse(*arguments, through=PLAIN_USER).splitlines()
    assert f"cannot use the state directory {root}: Permission denied" in line


@unprivileged
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else_is_told(tmp_path: Path) -> None:
    root = tmp_path / "s"
    root.mkdir(mode=0o755)
    os.chown(root, NOBODY, NOBODY)
    arguments = ("--state-dir", root, *ports_of(free_ports(6)))
    (line,) = refuse(*arguments, through=PLAIN_USER).splitlines()
    assert f"cannot use the state directory {root}: " in line
    assert "ermi" in line  # permission denied, or operation not permitted


def test_a_path_too_long_for_a_socket_is_told(tmp_path: Path) -> None:
    root = tmp_path / ("x" * 100)
    (line,) = refuse("--state-dir", root, *ports_of(free_ports(6))).splitlines()
    assert "bytes" in line
    assert "--state-dir" in line


def test_every_bad_setting_is_told_at_once(tmp_path: Path) -> None:
    config = tmp_path / "c.json"
    config.write_text(json.dumps({"deployment_server": {"api_port": "x", "colour": 1}}))
    said = refuse("--config", config, "--max-agents", "0", "--state-dir", tmp_path / "s")
    for word in ("api_port", "colour", "--max-agents"):
        assert word in said
    assert not (tmp_path / "s").exists()


# Where and with what it starts -------------------------------------------------------------------


def test_the_configuration_file_of_atoll_starts_it(tmp_path: Path) -> None:
    server = RunningServer(tmp_path / "state")
    config = {
        "deployment_server": {
            "host": "127.0.0.1",
            "api_port": server.port,
            "agent_base_port": server.base_port,
            "max_agents": 10,
            "health_check_interval": 30,
            "restart_on_failure": True,
            "max_restarts": 3,
        },
        "agents": [
            {
                "name": "stdlib_agent",
                "port": server.base_port + 7,
                "config_path": "agents/stdlib_agent/agent.toml",
                "auto_start": True,
            }
        ],
    }
    path = tmp_path / "deployment.json"
    path.write_text(json.dumps(config))
    command = [sys.executable, "-m", "deployer.cli", "serve", "--config", str(path)]
    with (tmp_path / "out").open("wb") as output:
        server.process = subprocess.Popen(
            [*command, "--state-dir", str(server.state.root)], stdout=output, stderr=output
        )
    try:
        wait_until(server.is_ready)
        assert server.client.agents() == []
        server.client.deploy(zip_package("stdlib_agent"))
        assert server.client.agent("stdlib_agent").port == server.base_port + 7
    finally:
        server.end()


def test_a_path_with_spaces_and_percent_signs_will_do(short_path: Path) -> None:
    with running_server(short_path / "50% of 'it'") as server:
        server.client.deploy(zip_package("stdlib_agent"))
        assert server.client.agent("stdlib_agent").status == "running"
        assert server.stop() == 0


def test_an_ipv6_address_will_do(tmp_path: Path) -> None:
    with contextlib.closing(socket.socket(socket.AF_INET6)) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
    server = RunningServer(tmp_path / "state", host="::1")
    url = f"http://[::1]:{server.port}"
    server.launch()

    def is_ready() -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"{url}/readyz", timeout=10).ok
        return False

    try:
        wait_until(is_ready, what=server.describe())
        headers = {"Authorization": f"Bearer {server.token}"}
        response = requests.post(
            f"{url}/v1/deployments?wait=60",
            headers={**headers, "Content-Type": "application/zip"},
            data=zip_package("stdlib_agent"),
            timeout=70,
        )
        assert response.ok, response.text
        agent = requests.get(f"{url}/v1/agents/stdlib_agent", headers=headers, timeout=10).json()
        assert agent["url"] == f"http://[::1]:{agent['port']}"
    finally:
        server.end()
