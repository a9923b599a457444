from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from deployer.model import Agent, Answer, Desired, Process, State
from deployer.readings import Readings
from deployer.retries import Retry
from deployer.statuses import WIRE_WORDS, AgentStatus, AgentView

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def agent(**changes: object) -> Agent:
    fields: dict[str, object] = {
        "name": "greeter",
        "desired": Desired.RUNNING,
        "desired_at": NOON,
        "current": 1,
        "previous": None,
        "port": 8100,
        "created_at": NOON,
        **changes,
    }
    return Agent(**fields)  # type: ignore[arg-type]  # a test's own words


def process(state: State, **changes: object) -> Process:
    fields: dict[str, object] = {
        "program": "greeter--1",
        "state": state,
        "started_at": NOON,
        "pid": 7 if state.is_alive else None,
        **changes,
    }
    return Process(**fields)  # type: ignore[arg-type]  # a test's own words


def status(
    one: Agent, of: Process | None, *answers: Answer, retry: Retry | None = None
) -> AgentStatus:
    readings = Readings()
    for answer in answers:
        assert of is not None
        readings.record(of, answer, checked_at=NOON)
    return AgentView(one, None, None, of, readings.of(of), retry).status


GOOD = Answer(healthy=True, detail="HTTP 200", seconds=0.1)
BAD = Answer(healthy=False, detail="HTTP 500", seconds=0.1)
SICK = Answer(healthy=True, detail="HTTP 200", seconds=0.1, degraded=True)
LOOPING = Retry(1, NOON, is_crash_loop=True)


@pytest.mark.parametrize(
    ("one", "of", "answers", "expected"),
    [
        (agent(desired=Desired.STOPPED, port=None), None, (), "installed"),
        (agent(), process(State.STARTING), (), "starting"),
        (agent(), process(State.RUNNING), (), "starting"),
        (agent(), process(State.RUNNING), (BAD,), "starting"),
        (agent(), process(State.RUNNING), (GOOD,), "running"),
        (agent(), process(State.RUNNING), (GOOD, BAD), "degraded"),
        (agent(), process(State.RUNNING), (SICK,), "degraded"),
        (agent(), process(State.STOPPING), (), "stopping"),
        (agent(desired=Desired.STOPPED), process(State.STOPPED), (), "stopped"),
        (agent(last_error="died"), process(State.STOPPED), (), "failed"),
        (agent(), process(State.BACKOFF, next_try_at=NOON), (), "starting"),
        (agent(), process(State.EXITED), (), "failed"),
        (agent(), process(State.FATAL, restarts=3), (), "crash_looping"),
        (agent(), process(State.FATAL), (), "failed"),
        (agent(quarantine="no Python"), None, (), "quarantined"),
    ],
)
def test_one_word_says_how_an_agent_is(
    one: Agent, of: Process | None, answers: tuple[Answer, ...], expected: str
) -> None:
    assert status(one, of, *answers) == expected


def test_a_crash_loop_is_told_between_its_slow_retries() -> None:
    assert status(agent(last_error="died"), process(State.STOPPED), retry=LOOPING) == (
        "crash_looping"
    )


def test_the_retry_of_an_agent_that_lives_is_not_told() -> None:
    view = AgentView(agent(), None, None, process(State.RUNNING), None, LOOPING)
    assert view.next_try_at is None


def test_supervisords_own_retry_comes_before_the_slow_one() -> None:
    soon = NOON - timedelta(hours=1)
    view = AgentView(agent(), None, None, process(State.BACKOFF, next_try_at=soon), None, LOOPING)
    assert view.next_try_at == soon


def test_every_status_has_a_word_of_the_wire() -> None:
    assert set(WIRE_WORDS) == set(AgentStatus)
    assert set(WIRE_WORDS.values()) == {"discovered", "starting", "running", "stopped", "failed"}
