"""Agents that take their listening socket over: what clients notice of a restart, counted."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests

from deployer.client.nouns import Agent
from deployer.errors import DeployerError
from deployer.model import Release, ReleaseStatus
from deployer.sockets import PortTakenError, Sockets
from deployer.store import now
from tests.package_zips import zip_package
from tests.servers import RunningServer, wait_until
from tests.supervisord_process import SupervisordProcess

AGENT = "inherits_socket"
SOCKET = '[deployment]\nsocket = "inherit"'
CLIENTS = 6
LATE_SECONDS = 0.05
"""Of a client between its connecting and its asking; a process that ends is given twice as long."""


class Load:
    """Clients that ask one after the other, each time on a connection of its own.

    Attributes:
        answered: Whole answers.
        refused: Connections that nobody took.
        lost: Those that were taken and never answered, with what was said.
        dawdled: The same, but the client itself was held up before it had asked: a server that is
            told to end closes connections on which nothing has been said.
    """

    def __init__(self, port: int) -> None:
        self.answered = 0
        self.refused = 0
        self.lost: list[str] = []
        self.dawdled = 0
        self._port = port
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._clients = [threading.Thread(target=self._run) for _ in range(CLIENTS)]

    def start(self) -> None:
        for client in self._clients:
            client.start()
        self.wait_for_answers()

    def end(self) -> None:
        self._over.set()
        for client in self._clients:
            client.join()

    def wait_for_answers(self, count: int = 50) -> None:
        """Wait until so many more have been given."""
        enough = self.answered + count
        wait_until(lambda: self.answered >= enough)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                answer = ask(self._port)
            except ConnectionRefusedError:
                with self._lock:
                    self.refused += 1
            except DawdledError:
                with self._lock:
                    self.dawdled += 1
            except OSError as error:
                with self._lock:
                    self.lost.append(repr(error))
            else:
                with self._lock:
                    if answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"}"):
                        self.answered += 1
                    else:
                        self.lost.append(f"answered {answer!r}")
            time.sleep(0.002)


class DawdledError(Exception):
    """A client was held up between its connecting and its asking, and then not answered."""


def ask(port: int, path: str = "/health") -> bytes:
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    connecting = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        asked = None
        try:
            connection.sendall(request)
            asked = time.monotonic()
            blocks = []
            while block := connection.recv(65536):
                blocks.append(block)
        except OSError as error:
            if (asked or time.monotonic()) - connecting > LATE_SECONDS:
                raise DawdledError from error
            raise
        return b"".join(blocks)


@contextlib.contextmanager
def load_on(agent: Agent) -> Iterator[Load]:
    assert agent.port is not None
    load = Load(agent.port)
    load.start()
    try:
        yield load
        load.wait_for_answers()
    finally:
        load.end()


def package(version: str = "1.0.0", **changes: str) -> bytes:
    replace = {SOCKET: "\n".join([SOCKET, *(f"{key} = {value}" for key, value in changes.items())])}
    return zip_package(AGENT, version=version, replace=replace)


def deploy(server: RunningServer, package: bytes, strategy: str | None = None) -> Agent:
    server.client.deploy(package, strategy=strategy)
    return server.client.agent(AGENT)


def info(agent: Agent) -> dict[str, object]:
    seen: dict[str, object] = requests.get(f"{agent.url}/info", timeout=10).json()
    return seen


def activated(server: RunningServer) -> str:
    """Give what the latest deployment says of its activation."""
    steps = server.client.deployments(agent=AGENT)[0].steps
    return next(step.message for step in steps if step.name == "activate")


# Counted -----------------------------------------------------------------------------------------


def test_restarts_refuse_nobody_and_lose_nothing(server: RunningServer) -> None:
    agent = deploy(server, package())
    with load_on(agent) as load:
        for _ in range(3):
            server.client.restart(AGENT)
            load.wait_for_answers()
    assert (load.refused, load.lost) == (0, [])
    after = server.client.agent(AGENT)
    assert (after.port, after.pid != agent.pid) == (agent.port, True)


@pytest.mark.parametrize("strategy", ["rehearse", "replace"])
def test_an_update_and_a_rollback_refuse_nobody_and_lose_nothing(
    server: RunningServer, strategy: str
) -> None:
    agent = deploy(server, package())
    with load_on(agent) as load:
        assert deploy(server, package("2.0.0"), strategy).version == "2.0.0"
        load.wait_for_answers()
        server.client.rollback(AGENT)
    assert (load.refused, load.lost) == (0, [])
    after = server.client.agent(AGENT)
    assert (after.port, after.version) == (agent.port, "1.0.0")


def test_a_killed_agent_refuses_nobody(server: RunningServer) -> None:
    agent = deploy(server, package(restart_delay="0.2", max_restarts="10"))
    with load_on(agent) as load:
        for _ in range(3):
            pid = info(agent)["pid"]
            assert isinstance(pid, int)
            os.kill(pid, signal.SIGKILL)
            load.wait_for_answers()
    assert load.refused == 0
    assert len(load.lost) <= 3 * CLIENTS  # those that the killed processes were answering


def test_an_update_that_fails_where_it_serves_refuses_nobody(server: RunningServer) -> None:
    agent = deploy(server, package())
    picky = f"import os, runpy\nif os.environ['PORT'] == '{agent.port}': raise SystemExit(5)\n"
    broken = zip_package(
        AGENT,
        version="2.0.0",
        extra_files={"first.py": picky + "runpy.run_path('main.py')"},
        replace={
            "[agent]": '[agent]\nentrypoint = "first.py"',
            "start_seconds = 20": "start_seconds = 20\ntimeout_seconds = 20",
        },
    )
    with load_on(agent) as load:
        began = time.monotonic()
        with pytest.raises(DeployerError, match="exited with code 5"):
            server.client.deploy(broken)
        assert time.monotonic() - began < 15  # the question to the dead one is not waited for
    assert (load.refused, load.lost) == (0, [])
    assert (server.client.agent(AGENT).version, info(agent)["version"]) == ("1.0.0", "1.0.0")


def test_a_request_that_is_being_answered_is_answered_to_its_end(server: RunningServer) -> None:
    agent = deploy(server, package())
    assert agent.port is not None
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, agent.port, "/slow")
        wait_until((server.state.agent_data(AGENT) / "answering").exists)
        server.client.restart(AGENT)  # only now it is answered
        answer = slow.result(30)
    assert f'"pid": {agent.pid},' in answer.decode()
    assert info(server.client.agent(AGENT))["pid"] != agent.pid


# Told --------------------------------------------------------------------------------------------


def test_the_deployment_says_that_there_was_no_gap(server: RunningServer) -> None:
    agent = deploy(server, package())
    assert info(agent)["inherited"] is True
    deploy(server, package("2.0.0"))
    assert "no gap: its socket was held" in activated(server)


def test_an_agent_that_binds_the_port_itself_is_told_so(server: RunningServer) -> None:
    with pytest.raises(DeployerError) as raised:
        server.client.deploy(
            zip_package("stdlib_agent", replace={"[health]": f"{SOCKET}\n[health]"})
        )
    assert "asked for an inherited socket but binds the port itself" in raised.value.cause
    assert "descriptor 3" in raised.value.hint
    assert not server.client.ports().leases


@pytest.mark.parametrize("path", ['"/health"', '""'])
def test_an_agent_that_never_accepts_is_told_so(server: RunningServer, path: str) -> None:
    with pytest.raises(DeployerError) as raised:
        server.client.deploy(
            zip_package(
                "never_binds",
                replace={
                    'path = "/health"': f"path = {path}\ntimeout_seconds = 0.5",
                    "start_seconds = 20": "start_seconds = 3",
                    "[health]": f"{SOCKET}\n[health]",
                },
            )
        )
    assert "accepts no connection from the socket it inherits" in raised.value.cause


def test_a_port_being_asked_for_is_enough_when_no_path_is_given(server: RunningServer) -> None:
    agent = deploy(server, zip_package(AGENT, replace={'path = "/health"': 'path = ""'}))
    assert (agent.status, info(agent)["inherited"]) == ("running", True)


# Ports -------------------------------------------------------------------------------------------


def test_a_stopped_agent_refuses_at_once_and_its_port_is_free(server: RunningServer) -> None:
    agent = deploy(server, package())
    assert agent.port is not None
    server.client.stop(AGENT)
    with pytest.raises(ConnectionRefusedError):
        ask(agent.port)
    with socket.create_server(("127.0.0.1", agent.port)):
        pass
    server.client.start(AGENT)
    assert info(server.client.agent(AGENT))["port"] == agent.port


@pytest.mark.parametrize("act", ["kill", "remove"])
def test_an_agent_that_is_gone_refuses_at_once(server: RunningServer, act: str) -> None:
    agent = deploy(server, package())
    assert agent.port is not None
    getattr(server.client, act)(AGENT)
    with pytest.raises(ConnectionRefusedError):
        ask(agent.port)


def test_a_port_taken_meanwhile_is_left_to_its_holder(server: RunningServer) -> None:
    agent = deploy(server, package())
    assert agent.port is not None
    server.client.stop(AGENT)
    with socket.create_server(("127.0.0.1", agent.port)):
        server.client.start(AGENT)
        after = server.client.agent(AGENT)
    assert after.port != agent.port
    assert info(after)["inherited"] is True


def test_whoever_was_quicker_is_named(tmp_path: Path) -> None:
    manifest = f'{{"agent": {{"name": "{AGENT}"}}, "deployment": {{"socket": "inherit"}}}}'
    release = Release(
        AGENT, 1, ReleaseStatus.INSTALLED, "", "", "", manifest, "script main.py", "", now()
    )
    with SupervisordProcess(tmp_path) as plugin, socket.create_server(("127.0.0.1", 0)) as taken:
        settings = SimpleNamespace(bind_address="127.0.0.1")
        sockets = Sockets(
            SimpleNamespace(settings=settings, store=None, supervisord=plugin.supervisord)  # type: ignore[arg-type]  # as many parts as it needs
        )
        with pytest.raises(PortTakenError, match=f"held by pid {os.getpid()} .*in use"):
            sockets.hold(release, taken.getsockname()[1])
        plugin.supervisord.ping()


def test_a_release_that_binds_itself_may_follow_and_precede_one_that_inherits(
    server: RunningServer,
) -> None:
    agent = deploy(server, package())
    plain = zip_package(AGENT, version="2.0.0", replace={SOCKET: "[deployment]"})
    after = deploy(server, plain)
    assert (after.port, info(after)["inherited"]) == (agent.port, False)
    assert "without an answer" in activated(server)
    server.client.rollback(AGENT)
    assert (server.client.agent(AGENT).port, info(agent)["inherited"]) == (agent.port, True)


def test_parallel_lets_go_of_the_port_that_it_leaves(server: RunningServer) -> None:
    agent = deploy(server, package())
    assert agent.port is not None
    after = deploy(server, package("2.0.0"), "parallel")
    assert after.port != agent.port
    assert info(after)["inherited"] is True
    with pytest.raises(ConnectionRefusedError):
        ask(agent.port)


def test_an_operators_restart_refuses_nobody(server: RunningServer) -> None:
    agent = deploy(server, package())
    with load_on(agent) as load:
        for act in ("stop", "start"):
            server.ctl(act, f"{AGENT}--1")
    assert (load.refused, load.lost) == (0, [])
    wait_until(lambda: server.client.agent(AGENT).status == "running")
    assert info(agent)["pid"] != agent.pid


# Other ends --------------------------------------------------------------------------------------


def test_a_killed_api_changes_nothing_and_goes_on_without_a_gap(
    make_server: Callable[..., RunningServer],
) -> None:
    server = make_server()
    agent = deploy(server, package())
    with load_on(agent) as load:
        server.kill_api()
        wait_until(server.is_ready)
        server.client.restart(AGENT)
    assert (load.refused, load.lost) == (0, [])
    server.stop()
    server.start()
    wait_until(lambda: server.client.agent(AGENT).status == "running")
    back = server.client.agent(AGENT)
    assert (back.port, info(back)["inherited"]) == (agent.port, True)


def test_a_foreign_supervisord_leaves_the_agent_to_bind_and_says_so(
    tmp_path: Path, make_server: Callable[..., RunningServer]
) -> None:
    with SupervisordProcess(tmp_path / "f", has_plugin=False) as foreign:
        server = make_server(
            supervisor={
                "url": f"unix://{foreign.state.supervisor_socket}",
                "username": foreign.credentials.username,
                "password": foreign.credentials.password,
                "conf_d": str(foreign.state.root / "programs.d"),
            }
        )
        agent = deploy(server, package())
        assert info(agent)["inherited"] is False
        (start,) = (
            step for step in server.client.deployments(agent=AGENT)[0].steps if step.name == "start"
        )
        assert "this supervisord cannot hold a socket" in start.message
        server.client.restart(AGENT)
        server.client.remove(AGENT)


@pytest.mark.parametrize("spelling", ["uvicorn.run(app, fd=3)", "command line"])
def test_uvicorn_takes_its_socket_over(server: RunningServer, spelling: str) -> None:
    serve = (
        'uvicorn.run(app, host=os.environ.get("HOST", "127.0.0.1"), port=int(os.environ["PORT"]))'
    )
    by_hand = "uvicorn.main(['main:app', '--fd', os.environ['LISTEN_FDS'] and '3'])"
    replace = {
        "[health]": f"{SOCKET}\n[health]",
        serve: f"if __name__ == '__main__': {spelling if '(' in spelling else by_hand}",
    }
    agents = []
    for version in ("1.0.0", "2.0.0"):
        server.client.deploy(zip_package("fastapi_agent", version=version, replace=replace))
        agents.append(server.client.agent("fastapi_agent"))
    with load_on(agents[1]) as load:
        for _ in range(3):  # it closes what it has accepted and not read when it is told to end
            server.client.restart("fastapi_agent")
            load.wait_for_answers()
    assert (load.refused, load.lost) == (0, [])
    assert info(agents[1])["pid"] != agents[1].pid
    assert agents[0].port == agents[1].port


WSGI = """
import json, os, socket, sys


def app(environ, start_response):
    body = json.dumps({"pid": os.getpid(), "status": "healthy"}).encode()
    head = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response("200 OK", head)
    return [body]


if __name__ == "__main__":
"""

ASGI = """
import asyncio, json, os


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = json.dumps({"pid": os.getpid(), "status": "healthy"}).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
"""

SERVERS = {
    "gunicorn": f"""{WSGI}
    from gunicorn.app.wsgiapp import run

    sys.argv = ["gunicorn", "main:app"]  # it looks for LISTEN_FDS by itself
    run()
""",
    "hypercorn": f"""{ASGI}
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    asyncio.run(serve(app, Config.from_mapping(bind=["fd://3"])))
""",
    "waitress": f"""{WSGI}
    import waitress

    waitress.serve(app, sockets=[socket.socket(fileno=3)])
""",
}


@pytest.mark.parametrize("name", SERVERS)
def test_other_servers_take_their_socket_over(server: RunningServer, name: str) -> None:
    """waitress ends at once on SIGTERM, and with it whatever it has accepted."""
    package = zip_package(
        "stdlib_agent",
        name=name,
        replace={"[health]": f"{SOCKET}\n[health]"},
        extra_files={"main.py": SERVERS[name], "requirements.txt": f"{name}\n"},
    )
    server.client.deploy(package)
    agent = server.client.agent(name)
    with load_on(agent) as load:
        for _ in range(3):
            server.client.restart(name)
            load.wait_for_answers()
    assert load.refused == 0
    assert len(load.lost) <= (3 * CLIENTS if name == "waitress" else 0), load.lost
    assert server.client.agent(name).port == agent.port
