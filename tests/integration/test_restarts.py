"""Agents that die by themselves: how often, how fast and by whom they are started again."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import pytest
import requests

from deployer.client.nouns import Agent, Event, Why
from deployer.processes import is_running
from deployer.supervisord_confs import SERVICE
from tests.package_zips import zip_package
from tests.servers import RunningServer, wait_until

HEALTH = "[health]"
STDERR = "crashing as asked"
DELAY = 3


def crasher(name: str = "crasher", *, seconds: str = "", **deployment: object) -> bytes:
    """Make an agent that exits with code 3 after so many seconds, or when told to."""
    lines = [f"{key} = {str(value).lower()}" for key, value in deployment.items()]
    table = "\n".join(["[deployment]", *lines, "", HEALTH])
    return zip_package(
        "crashes_after",
        name=name,
        replace={HEALTH: table, 'CRASH_AFTER_SECONDS = ""': f'CRASH_AFTER_SECONDS = "{seconds}"'},
    )


def crash(server: RunningServer, name: str = "crasher") -> None:
    """Have an agent die by its own hand."""
    url = server.client.agent(name).url
    with contextlib.suppress(requests.ConnectionError):
        requests.get(f"{url}/crash", timeout=20)


def status(server: RunningServer, name: str = "crasher") -> str:
    return server.client.agent(name).status


@dataclass(frozen=True)
class Loop:
    """What was seen of an agent that dies 1.4 s after each start.

    Attributes:
        end: The agent, once nobody starts it any more.
        why: What the server says to that.
        events: The timeline of the agent.
    """

    end: Agent
    why: Why
    events: tuple[Event, ...]

    def times_of(self, kind: str) -> list[float]:
        """Tell when events of a kind were, in seconds."""
        return [each.at.timestamp() for each in self.events if each.kind == kind and each.at]


@pytest.fixture(scope="module")
def loop(shared_server: RunningServer) -> Loop:
    """An agent that lives longer than supervisord's startsecs before each crash."""
    client = shared_server.client
    client.deploy(crasher("looper", seconds="1.4", max_restarts=2, restart_delay=DELAY))
    wait_until(lambda: client.agent("looper").status == "crash_looping")
    wait_until(lambda: client.events(agent="looper")[-1].kind == "agent.given_up")
    found = Loop(
        client.agent("looper"),
        client.why("looper"),
        tuple(client.events(agent="looper")),
    )
    client.remove("looper")
    return found


def test_an_agent_that_dies_again_and_again_is_left_alone_after_max_restarts(loop: Loop) -> None:
    assert len(loop.times_of("process.started")) == 3
    assert (loop.end.status, loop.end.restarts, loop.end.pid) == ("crash_looping", 2, None)


def test_the_first_restart_is_at_once_and_the_next_waits_restart_delay(loop: Loop) -> None:
    deaths, starts = loop.times_of("process.died"), loop.times_of("process.started")
    first, second = (start - death for death, start in zip(deaths[:2], starts[1:], strict=True))
    assert first < DELAY / 2 < second


def test_a_crash_loop_is_explained_with_its_cause_and_its_end(loop: Loop) -> None:
    assert f"exited with code 3: {STDERR}" in loop.end.last_error
    assert "gave up after 2 restarts" in loop.end.last_error


def test_why_shows_the_lines_that_the_agent_wrote_last(loop: Loop) -> None:
    assert loop.why.status == "crash_looping"
    assert loop.why.cause == loop.end.last_error
    assert STDERR in loop.why.evidence
    assert loop.why.hint == "mend what its last line says, and push it again"


def test_each_death_is_one_line_of_the_timeline(loop: Loop) -> None:
    deaths = [event for event in loop.events if event.kind == "process.died"]
    assert len(deaths) == 3
    assert [event.kind for event in loop.events][-2:] == ["process.died", "agent.given_up"]


def test_the_wire_calls_a_crash_loop_failed_and_tells_why(server: RunningServer) -> None:
    server.client.deploy(crasher(max_restarts=0))
    crash(server)
    wait_until(lambda: server.client.agent("crasher").last_error)
    told = server.request("GET", "/status/crasher").json()
    assert told["status"] == "failed"
    assert STDERR in told["error_message"]
    diagnostics = server.request("GET", "/agents/crasher/diagnostics").json()
    assert diagnostics["exit_code"] == 3
    assert STDERR in diagnostics["stderr"]


def test_without_auto_restart_a_dead_agent_stays_dead(server: RunningServer) -> None:
    server.client.deploy(crasher(auto_restart=False))
    crash(server)
    wait_until(lambda: status(server) == "failed")
    told = server.ctl("status", "crasher--1")
    assert {"EXITED", "FATAL"} & set(told.split()), told  # not BACKOFF: nobody will start it
    agent = server.client.agent("crasher")
    assert (agent.status, agent.restarts, agent.desired) == ("failed", 0, "running")
    assert f"exited with code 3: {STDERR}" in agent.last_error


def test_an_agent_killed_by_a_signal_is_said_to_be_so(server: RunningServer) -> None:
    server.client.deploy(crasher(auto_restart=False))
    pid = server.client.agent("crasher").pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: server.client.agent("crasher").last_error)
    assert "killed by SIGKILL" in server.client.agent("crasher").last_error


def test_a_start_by_hand_after_a_crash_loop_begins_anew(server: RunningServer) -> None:
    server.client.deploy(crasher(max_restarts=0))
    crash(server)
    wait_until(lambda: status(server) == "failed" and server.client.agent("crasher").last_error)
    server.client.start("crasher")
    agent = server.client.agent("crasher")
    assert (agent.status, agent.restarts, agent.last_error) == ("running", 0, "")


def test_an_agent_that_came_back_has_no_error_any_more(server: RunningServer) -> None:
    server.client.deploy(crasher())
    crash(server)
    wait_until(lambda: server.client.agent("crasher").restarts == 1)
    wait_until(lambda: status(server) == "running")
    wait_until(lambda: not server.client.agent("crasher").last_error)
    kinds = [event.kind for event in server.client.events(agent="crasher")]
    assert kinds[-3:] == ["process.died", "process.started", "agent.healthy"]


def test_a_release_that_mends_a_crash_loop_gets_its_port(server: RunningServer) -> None:
    server.client.deploy(crasher(max_restarts=0))
    port = server.client.agent("crasher").port
    crash(server)
    wait_until(lambda: status(server) == "failed" and server.client.agent("crasher").last_error)
    mended = zip_package("stdlib_agent", name="crasher", version="2.0.0")
    planned = server.request(
        "POST", "/v1/agents/crasher/plan", json={"package": server.client.upload(mended).md5}
    ).json()
    server.client.deploy(mended)
    assert server.client.agent("crasher").port == planned["port"]["number"] == port


def test_a_release_takes_over_from_one_that_waits_to_be_restarted(server: RunningServer) -> None:
    server.client.deploy(crasher(restart_delay=30))
    port = server.client.agent("crasher").port
    for restarts in (0, 1):
        wait_until(lambda: status(server) == "running")
        assert server.client.agent("crasher").restarts == restarts
        crash(server)
        wait_until(lambda: status(server) != "running")
    wait_until(lambda: server.client.agent("crasher").document["next_try_at"])
    server.client.deploy(zip_package("stdlib_agent", name="crasher", version="2.0.0"))
    agent = server.client.agent("crasher")
    assert (agent.port, agent.version, agent.status) == (port, "2.0.0", "running")


def test_a_deliberate_stop_is_no_death(server: RunningServer) -> None:
    server.client.deploy(crasher())
    before = server.client.events(agent="crasher")[-1].id
    server.client.stop("crasher")
    server.client.start("crasher")
    server.client.restart("crasher")
    agent = server.client.agent("crasher")
    assert (agent.status, agent.restarts, agent.last_error) == ("running", 0, "")
    kinds = {event.kind for event in server.client.events(agent="crasher", after=before)}
    assert "process.died" not in kinds


def test_a_main_process_that_dies_takes_its_children_along_and_comes_back(
    server: RunningServer,
) -> None:
    server.client.deploy(
        zip_package(
            "forks_and_dies",
            replace={'DIE_AFTER_SECONDS = "0"': 'DIE_AFTER_SECONDS = "600"'},
        )
    )
    agent = server.client.agent("forks_and_dies")
    before = requests.get(str(agent.url), timeout=20).json()
    assert before["main"] == agent.pid
    assert before["pid"] != agent.pid
    with contextlib.suppress(requests.ConnectionError):
        requests.get(f"{agent.url}/die", timeout=20)

    def served_anew() -> bool:
        now = server.client.agent("forks_and_dies")
        return now.status == "running" and now.pid not in {None, agent.pid}

    wait_until(served_anew)
    assert not is_running(before["pid"])
    assert requests.get(str(agent.url), timeout=20).json()["main"] != before["main"]


# While the API is down ----------------------------------------------------------------------------


def agent_pid(server: RunningServer) -> int | None:
    """Find the one agent's process among supervisord's children, without asking the API."""
    assert server.process is not None
    for child in psutil.Process(server.process.pid).children():
        with contextlib.suppress(psutil.Error):
            if "main.py" in child.cmdline():
                return child.pid
    return None


def kill_agent(server: RunningServer) -> None:
    """Kill the one agent, once it is more than its launcher."""
    pid = wait_until(lambda: agent_pid(server))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: agent_pid(server) != pid)


@pytest.fixture
def own_server(make_server: Callable[..., RunningServer]) -> RunningServer:
    return make_server()


def test_a_killed_api_comes_back_and_its_agent_never_noticed(own_server: RunningServer) -> None:
    own_server.client.deploy(crasher())
    before = own_server.client.agent("crasher")
    own_server.kill_api()
    wait_until(own_server.is_ready)
    after = own_server.client.agent("crasher")
    assert (after.pid, after.started_at) == (before.pid, before.started_at)
    wait_until(lambda: status(own_server) == "running")


def test_deaths_are_counted_and_limited_while_the_api_is_down(own_server: RunningServer) -> None:
    own_server.client.deploy(crasher(max_restarts=2, restart_delay=0.1))
    assert "stopped" in own_server.ctl("stop", SERVICE)
    for _ in range(3):
        kill_agent(own_server)
    wait_until(lambda: "FATAL" in own_server.ctl("status", "crasher--1"))
    assert "started" in own_server.ctl("start", SERVICE)
    wait_until(own_server.is_ready)
    wait_until(lambda: own_server.client.agent("crasher").last_error)
    agent = own_server.client.agent("crasher")
    assert (agent.status, agent.restarts, agent.pid) == ("crash_looping", 2, None)
    assert "killed by SIGKILL" in agent.last_error
    assert "gave up after 2 restarts" in agent.last_error


def test_a_restart_that_is_due_later_is_left_to_the_policy_by_a_new_api(
    own_server: RunningServer,
) -> None:
    own_server.client.deploy(crasher(restart_delay=600))
    kill_agent(own_server)
    kill_agent(own_server)
    wait_until(lambda: own_server.client.agent("crasher").restarts == 1)
    due_at = own_server.client.agent("crasher").document["next_try_at"]
    own_server.kill_api()
    wait_until(own_server.is_ready)
    after = own_server.client.agent("crasher")
    assert due_at is not None
    assert (after.document["next_try_at"], after.restarts, after.pid) == (due_at, 1, None)
    assert agent_pid(own_server) is None
