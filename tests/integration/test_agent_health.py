"""Health checks of running agents: what they change, what they say, what they leave alone."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime

import pytest
import requests

from deployer.client.nouns import Agent
from tests.package_zips import zip_package
from tests.servers import RunningServer, wait_until

HEALTH = """[health]
path = "/health"
start_seconds = 20
interval_seconds = {interval}
timeout_seconds = {timeout}
failures = {failures}
"""

MOODY = """
import os, time
import serving

DATA = os.environ["ATOLL_AGENT_DATA_DIR"]

def mood():
    try:
        return open(os.path.join(DATA, "mood")).read()
    except FileNotFoundError:
        return ""

def answer(path):
    now = mood()
    if now == "hanging":
        open(os.path.join(DATA, "hangs"), "w").close()
        time.sleep(60)
    if now == "broken":
        return 500, {"status": "broken"}
    return 200, {"status": now or "healthy"}

serving.serve(answer)
"""


def package(
    deployment: str = "",
    *,
    name: str = "moody",
    interval: float = 0.3,
    timeout: float = 10,
    failures: int = 2,
) -> bytes:
    """Make an agent that answers as the file ``mood`` in its data directory says.

    A machine that is busy must not look like an agent that hangs: so its timeout is long, but where
    it is to hang. It makes a file ``hangs`` as it does.
    """
    health = HEALTH.format(interval=interval, timeout=timeout, failures=failures)
    old = '[health]\npath = "/health"\nstart_seconds = 20\n'
    return zip_package(
        "stdlib_agent",
        name=name,
        extra_files={"main.py": MOODY},
        replace={old: f"[deployment]\n{deployment}\n{health}"},
    )


def set_mood(server: RunningServer, mood: str) -> None:
    (server.state.agent_data("moody") / "mood").write_text(mood)


def agent(server: RunningServer) -> Agent:
    return server.client.agent("moody")


def checked_at(server: RunningServer, name: str = "moody") -> datetime:
    health = server.client.agent(name).health
    assert health is not None
    return datetime.fromisoformat(str(health.checked_at))


def wait_for_checks(server: RunningServer, name: str = "moody", count: int = 2) -> None:
    """Wait until an agent has been asked so many times more."""
    for _ in range(count):
        before = checked_at(server, name)
        wait_until(lambda before=before: checked_at(server, name) != before)


def events_since(server: RunningServer, last: int) -> list[str]:
    return [event.kind for event in server.client.events(agent="moody", after=last)]


def last_event(server: RunningServer) -> int:
    return server.client.events(agent="moody")[-1].id


def test_a_hung_agent_is_restarted_and_serves_again(server: RunningServer) -> None:
    server.client.deploy(
        zip_package(
            "crashes_after",
            name="moody",
            replace={
                '[health]\npath = "/health"\nstart_seconds = 20\n': HEALTH.format(
                    interval=0.3, timeout=2, failures=2
                )
            },
        )
    )
    before, last = agent(server), last_event(server)
    with contextlib.suppress(requests.Timeout):
        requests.get(f"{before.url}/hang", timeout=0.1)
    wait_until(lambda: agent(server).pid not in {None, before.pid})
    wait_until(lambda: agent(server).status == "running")
    after = agent(server)
    assert (after.restarts, after.port, after.last_error) == (1, before.port, "")
    assert requests.get(f"{after.url}/health", timeout=20).json()["pid"] == after.pid
    kinds = events_since(server, last)
    assert kinds == ["agent.unhealthy", "process.died", "process.started", "agent.healthy"]


def test_an_agent_is_degraded_from_the_first_bad_answer_on(server: RunningServer) -> None:
    server.client.deploy(package(failures=1000))
    set_mood(server, "broken")
    wait_until(lambda: agent(server).status == "degraded")
    health = agent(server).health
    assert health is not None
    assert (health.healthy, health.detail) == (False, "HTTP 500")
    set_mood(server, "")
    wait_until(lambda: agent(server).status == "running")


def test_fewer_bad_answers_than_failures_restart_nothing(server: RunningServer) -> None:
    server.client.deploy(package(failures=1000))
    pid, last = agent(server).pid, last_event(server)
    set_mood(server, "broken")
    wait_until(lambda: agent(server).status == "degraded")
    wait_for_checks(server)
    assert (agent(server).pid, agent(server).restarts) == (pid, 0)
    assert events_since(server, last) == []


@pytest.mark.parametrize(
    ("mood", "timeout", "words"),
    [
        ("broken", 10, "fails its health check: HTTP 500 at /health"),
        ("hanging", 1, "does not answer its health check: timed out after 1 s at /health"),
    ],
)
def test_why_tells_what_is_wrong_with_a_degraded_agent(
    server: RunningServer, mood: str, timeout: float, words: str
) -> None:
    server.client.deploy(package(timeout=timeout, failures=1000))
    set_mood(server, mood)
    wait_until(lambda: agent(server).status == "degraded")
    why = server.client.why("moody")
    assert (why.status, why.cause) == ("degraded", words)
    assert why.hint
    assert server.request("GET", "/status/moody").json()["error_message"] == words


def test_an_agent_that_calls_itself_degraded_is_shown_so_and_left_alone(
    server: RunningServer,
) -> None:
    server.client.deploy(package(failures=1))
    pid = agent(server).pid
    last = last_event(server)
    set_mood(server, "degraded")
    wait_until(lambda: agent(server).status == "degraded")
    wait_for_checks(server)
    assert (agent(server).pid, agent(server).restarts) == (pid, 0)
    set_mood(server, "")
    wait_until(lambda: agent(server).status == "running")
    wait_until(lambda: events_since(server, last) == ["agent.degraded", "agent.healthy"])


def test_an_agent_that_stays_unhealthy_is_given_up_after_max_restarts(
    server: RunningServer,
) -> None:
    server.client.deploy(package("max_restarts = 0", failures=2))
    set_mood(server, "broken")
    wait_until(lambda: agent(server).pid is None)
    wait_until(lambda: agent(server).status == "failed")
    assert "moody is unhealthy: HTTP 500" in agent(server).last_error


def test_without_auto_restart_an_unhealthy_agent_is_only_told_of(server: RunningServer) -> None:
    server.client.deploy(package("auto_restart = false", failures=2))
    pid, last = agent(server).pid, last_event(server)
    set_mood(server, "broken")
    wait_until(lambda: agent(server).last_error)
    wait_for_checks(server)
    assert (agent(server).pid, agent(server).status) == (pid, "degraded")
    assert agent(server).last_error == "moody is unhealthy: HTTP 500"
    assert events_since(server, last) == ["agent.unhealthy"]


def test_a_stop_while_a_check_hangs_is_a_stop_and_no_failure(server: RunningServer) -> None:
    server.client.deploy(package(interval=0.2, failures=1))
    last = last_event(server)
    set_mood(server, "hanging")
    hangs = server.state.agent_data("moody") / "hangs"
    wait_until(hangs.exists)  # a check is under way now, whose answer will be bad
    server.client.stop("moody")
    time.sleep(1.5)  # the check's own wait for the lock is over: nothing else tells of that
    stopped = agent(server)
    assert (stopped.status, stopped.last_error, stopped.restarts) == ("stopped", "", 0)
    assert "agent.unhealthy" not in events_since(server, last)


def test_a_hung_agent_never_keeps_another_from_being_asked(server: RunningServer) -> None:
    server.client.deploy(package(timeout=100, failures=1000))
    server.client.deploy(
        zip_package(
            "stdlib_agent",
            name="lively",
            replace={"start_seconds = 20": "start_seconds = 20\ninterval_seconds = 0.2"},
        )
    )
    set_mood(server, "hanging")
    wait_until(lambda: _hangs(server, "moody"))
    wait_for_checks(server, "lively")
    assert _hangs(server, "moody")


def test_many_agents_that_hang_do_not_keep_another_from_being_mended(
    server: RunningServer,
) -> None:
    hung = [f"hung-{number}" for number in range(9)]
    for name in (*hung, "moody"):
        timeout = 1 if name == "moody" else 100
        server.client.deploy(package(name=name, timeout=timeout, failures=2))
    before, last = agent(server), last_event(server)
    for name in hung:
        (server.state.agent_data(name) / "mood").write_text("hanging")
    wait_until(lambda: all(_hangs(server, name) for name in hung))

    set_mood(server, "hanging")

    wait_until(lambda: "agent.unhealthy" in events_since(server, last))
    set_mood(server, "")
    wait_until(lambda: agent(server).pid not in {None, before.pid})
    assert all(_hangs(server, name) for name in hung)


def _hangs(server: RunningServer, name: str) -> bool:
    """Tell whether a check of an agent has gone on for several of its intervals."""
    return (datetime.now(UTC) - checked_at(server, name)).total_seconds() > 2
