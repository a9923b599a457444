"""Ports of agents through a real server: kept, refused, stolen, used up."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import psutil
import pytest
import requests

from deployer.client import Agent
from tests.package_zips import zip_package
from tests.refusals import send, unharmed
from tests.servers import RunningServer, wait_until

LATE_LISTENER = """
import os, time
import serving

deadline = time.monotonic() + 10
go = os.path.join(os.environ["ATOLL_AGENT_DATA_DIR"], "go")
while not os.path.exists(go) and time.monotonic() < deadline:
    time.sleep(0.02)
serving.serve(serving.healthy)
"""

STRANGER = """
import socket, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words):
        pass

server = HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer)
print("listening", flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def listener(port: int) -> Iterator[None]:
    """Listen on a port in this very process."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", port))
        holder.listen()
        yield


@contextlib.contextmanager
def stranger(port: int) -> Iterator[int]:
    """Run a program that answers every health check on a port; gives its pid."""
    command = [sys.executable, "-c", STRANGER, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"listening\n"
            yield child.pid
        finally:
            child.kill()


def late_listener(name: str = "reef") -> bytes:
    """Make an agent that binds only once the file ``go`` is in its data directory."""
    return zip_package(
        "stdlib_agent",
        name=name,
        extra_files={"main.py": LATE_LISTENER},
        replace={"start_seconds = 20": "start_seconds = 20\ntimeout_seconds = 0.3"},
    )


def test_a_port_that_somebody_else_holds_is_passed_over(server: RunningServer) -> None:
    with listener(server.base_port):
        server.client.deploy(zip_package("stdlib_agent"))
        assert server.client.agent("stdlib_agent").port == server.base_port + 1


def test_a_port_held_on_ipv6_alone_is_passed_over_too(server: RunningServer) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with socket.socket(socket.AF_INET6) as holder:
        try:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            holder.bind(("::", server.base_port))
        except OSError as error:
            pytest.skip(f"no IPv6 here: {error}")
        holder.listen()
        server.client.deploy(zip_package("stdlib_agent"))
        assert server.client.agent("stdlib_agent").port == server.base_port + 1


def test_the_foreign_holder_of_a_port_is_named(server: RunningServer) -> None:
    with stranger(server.base_port + 3) as pid:
        foreign = {each.port: each.holder for each in server.client.ports().foreign}
        assert foreign == {server.base_port + 3: f"pid {pid} {psutil.Process(pid).name()}"}


def test_leases_say_who_holds_which_port(server: RunningServer) -> None:
    server.client.deploy(zip_package("stdlib_agent"))
    agent, ports = server.client.agent("stdlib_agent"), server.client.ports()
    leases = [(each.port, each.agent) for each in ports.leases]
    assert leases == [(agent.port, "stdlib_agent")]
    assert ports.free == ports.last - ports.first


def test_agents_deployed_at_once_get_ports_of_their_own(server: RunningServer) -> None:
    names = [f"reef{number}" for number in range(5)]
    threads = [
        threading.Thread(
            target=lambda name=name: server.client.deploy(zip_package("stdlib_agent", name=name))
        )
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    ports = {server.client.agent(name).port for name in names}
    assert len(ports) == 5
    assert None not in ports


def test_an_agent_keeps_its_number_though_a_lower_one_is_free_now(server: RunningServer) -> None:
    with listener(server.base_port):
        server.client.deploy(zip_package("stdlib_agent"))
    port = server.client.agent("stdlib_agent").port
    server.client.stop("stdlib_agent")
    server.client.start("stdlib_agent")
    server.client.restart("stdlib_agent")
    server.client.deploy(zip_package("stdlib_agent", version="2.0.0"))
    assert server.client.agent("stdlib_agent").port == port == server.base_port + 1


def test_an_agent_whose_number_was_taken_while_it_was_stopped_gets_another(
    server: RunningServer,
) -> None:
    server.client.deploy(zip_package("stdlib_agent"))
    port = server.client.agent("stdlib_agent").port
    assert port is not None
    server.client.stop("stdlib_agent")
    with listener(port):
        server.client.start("stdlib_agent")
        moved = server.client.agent("stdlib_agent")
        assert (moved.status, moved.port) == ("running", port + 1)
        assert requests.get(f"{moved.url}/info", timeout=20).json()["port"] == port + 1


def test_an_agent_gets_the_port_that_its_manifest_asks_for(server: RunningServer) -> None:
    wished = server.base_port + 7
    table = f"[deployment]\nport = {wished}\n\n[health]"
    server.client.deploy(zip_package("stdlib_agent", replace={"[health]": table}))
    assert server.client.agent("stdlib_agent").port == wished


@pytest.mark.parametrize("thief", [listener, stranger], ids=["silent", "answering"])
def test_a_port_stolen_between_lease_and_bind_is_noticed_and_the_next_one_tried(
    server: RunningServer, thief: Callable[[int], contextlib.AbstractContextManager[object]]
) -> None:
    deploying = threading.Thread(target=lambda: server.client.deploy(late_listener()))
    deploying.start()
    try:
        lease = wait_until(lambda: server.client.ports().leases)[0]
        data = wait_until(lambda: server.state.agent_data("reef").is_dir())
        with thief(lease.port):
            (server.state.agent_data("reef") / "go").touch()
            deploying.join(30)
            assert data
            agent = server.client.agent("reef")
            assert (agent.status, agent.port) == ("running", lease.port + 1)
    finally:
        deploying.join(30)
    deployment = server.client.deployments(agent="reef")[0]
    steps = [(step.name, step.outcome) for step in deployment.steps]
    assert ("health_check", "failed") in steps or ("start", "failed") in steps
    failed = next(step for step in deployment.steps if step.outcome == "failed")
    assert f"port {lease.port} is held by pid " in failed.message


@pytest.mark.parametrize("thief", [listener, stranger], ids=["silent", "answering"])
def test_an_agent_whose_port_is_stolen_while_it_is_restarted_moves_at_once(
    server: RunningServer, thief: Callable[[int], contextlib.AbstractContextManager[object]]
) -> None:
    go = server.state.agent_data("reef") / "go"
    deploying = threading.Thread(target=lambda: server.client.deploy(late_listener()))
    deploying.start()
    wait_until(go.parent.is_dir)
    go.touch()
    deploying.join(30)
    agent = server.client.agent("reef")
    assert agent.port is not None
    assert agent.pid is not None
    go.unlink()
    os.kill(agent.pid, signal.SIGKILL)
    wait_until(lambda: server.client.agent("reef").pid not in {None, agent.pid})
    with thief(agent.port):
        go.touch()
        moved = wait_until(lambda: _running_elsewhere(server, agent.port))
        assert requests.get(f"{moved.url}/health", timeout=20).ok
    kinds = [event.kind for event in server.client.events(agent="reef")]
    assert "agent.moving" in kinds
    assert "agent.reconciled" not in kinds, "it waited for its turn among the failed"


def _running_elsewhere(server: RunningServer, port: int | None) -> Agent | None:
    agent = server.client.agent("reef")
    return agent if agent.status == "running" and agent.port != port else None


def test_no_port_left_is_503_and_leaves_nothing(make_server: Callable[..., RunningServer]) -> None:
    server = make_server(max_agents=2)
    server.client.deploy(zip_package("stdlib_agent"))
    with listener(server.base_port + 1), unharmed(server):
        response = send(
            server, zip_package("stdlib_agent", name="late"), "/v1/deployments", wait=30
        )
    problem = response.json()
    assert response.headers["Content-Type"] == "application/problem+json"
    assert (response.status_code, problem["code"]) == (503, "no-free-port")
    assert "of the 2 ports" in problem["detail"]
    assert server.client.agent("stdlib_agent").status == "running"


def test_more_agents_than_the_settings_allow_is_503(
    make_server: Callable[..., RunningServer],
) -> None:
    server = make_server(max_agents=1)
    server.client.deploy(zip_package("stdlib_agent"))
    with unharmed(server):
        response = send(
            server, zip_package("stdlib_agent", name="late"), "/v1/deployments", wait=30
        )
    assert (response.status_code, response.json()["code"]) == (503, "too-many-agents")
