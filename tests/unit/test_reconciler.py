"""When an agent that is down is tried again, and when its failures are forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from deployer.model import (
    Agent,
    Answer,
    DeploymentStatus,
    Desired,
    Process,
    Release,
    RestartPolicy,
    State,
    Strategy,
)
from deployer.parts import Parts
from deployer.readings import Reading
from deployer.reconciler import Reconciler
from deployer.retries import Retries
from deployer.state_dir import StateDir
from deployer.statuses import AgentView
from deployer.store import Request, Store
from tests.servers import wait_until
from tests.stored_packages import PACKAGE

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Quiet:
    """An adapter that finds nothing wrong with anything, and does nothing."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_arguments, **_options: None


class Runs:
    """Releases that are restarted by their policy."""

    def restart_policy(self, _release: Release) -> RestartPolicy:
        return RestartPolicy()


class World:
    """One agent, a clock that a test moves, and what the reconciler does with the agent."""

    def __init__(self, root: Path) -> None:
        self.seconds = 0.0
        self.store = Store(root / "state.db")
        self.store.packages.add(PACKAGE)
        self.store.agents.add("greeter")
        self.release = self.store.releases.add(PACKAGE)
        self.store.agents.activate("greeter", 1, None)
        self.store.agents.set_desired("greeter", Desired.RUNNING)
        self.agent: Agent = self.store.agents.get("greeter")
        self.process: Process | None = None
        self.reading: Reading | None = None
        self.brought_back = 0
        self.stop_count = 0
        adapters: dict[str, Any] = {
            each.name: Quiet() for each in fields(Parts) if each.default_factory is MISSING
        }
        adapters |= {"state": StateDir(root), "retries": Retries(jitter=lambda: 0.5)}
        self.parts = Parts(**{**adapters, "store": self.store})
        self.reconciler = Reconciler(
            self.parts,
            cast("Any", Runs()),
            cast("Any", self),
            cast("Any", Quiet()),
            clock=lambda: self.seconds,
            now=self.now,
        )

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds)

    def views(self) -> tuple[AgentView, ...]:
        retry = self.parts.retries.of("greeter")
        return (AgentView(self.agent, self.release, None, self.process, self.reading, retry),)

    def bring_back(self, _name: str) -> None:
        self.brought_back += 1

    def stop_as_desired(self, _name: str) -> None:
        self.stop_count += 1

    def look_after(self, seconds: float) -> int:
        """Look twice, as far apart as it takes to be sure, and tell how often it was tried."""
        self.seconds += seconds
        for pause in (0.0, 1.0):
            self.seconds += pause
            self.reconciler.look()
        wait_until(lambda: "greeter" not in self.parts.starts)
        return self.brought_back


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    it = World(tmp_path)
    yield it
    it.reconciler.close()
    it.store.close()


def given_up(restarts: int) -> Process:
    return Process("greeter--1", State.FATAL, restarts=restarts)


def test_what_looks_wrong_for_less_than_a_second_is_left_alone(world: World) -> None:
    world.reconciler.look()
    world.seconds += 0.9

    world.reconciler.look()

    assert world.brought_back == 0
    assert "greeter" not in world.parts.starts


def test_what_is_down_for_longer_is_brought_back(world: World) -> None:
    assert world.look_after(0) == 1


def test_an_agent_that_is_down_while_it_is_deployed_is_left_alone(world: World) -> None:
    deployment = world.store.deployments.submit(Request(PACKAGE, Strategy.REPLACE))
    while_it_waits = world.look_after(0)
    assert world.store.deployments.begin(deployment)
    while_it_runs = world.look_after(60)
    world.store.deployments.end(deployment, DeploymentStatus.FAILED, None)

    assert (while_it_waits, while_it_runs, world.look_after(0)) == (0, 0, 1)


def test_an_agent_that_somebody_is_at_work_on_is_left_alone(world: World) -> None:
    with world.parts.locks.hold("greeter", "a stop", timeout_seconds=1):
        assert world.look_after(60) == 0

    assert world.look_after(0) == 1


def test_what_runs_and_is_to_be_stopped_is_stopped_and_not_started(world: World) -> None:
    world.agent = replace(world.agent, desired=Desired.STOPPED)
    world.process = Process("greeter--1", State.RUNNING, pid=7, started_at=NOON)

    assert world.look_after(0) == 0
    assert world.stop_count == 1


def test_an_agent_that_loops_is_tried_again_only_when_its_time_has_come(world: World) -> None:
    world.process = given_up(restarts=3)

    tries = [world.look_after(0), world.look_after(10), world.look_after(5)]

    assert tries == [0, 0, 1]


def test_when_an_agent_that_loops_is_tried_again_is_told(world: World) -> None:
    world.process = given_up(restarts=3)

    world.look_after(0)

    (view,) = world.views()
    assert view.status == "crash_looping"
    assert view.next_try_at == NOON + timedelta(seconds=15)


def test_each_failure_of_an_agent_that_loops_makes_the_next_try_later(world: World) -> None:
    world.process = given_up(restarts=3)
    world.look_after(0)
    world.parts.retries.record_failure("greeter", world.now())

    tries = [world.look_after(20), world.look_after(10)]

    assert tries == [0, 1]


@pytest.mark.parametrize(("seconds", "is_forgiven"), [(59, False), (61, True)])
def test_failures_are_forgotten_after_a_quiet_minute(
    world: World,
    seconds: int,
    is_forgiven: bool,  # noqa: FBT001 - parametrized
) -> None:
    world.parts.retries.record_failure("greeter", NOON, is_crash_loop=True)
    world.process = Process("greeter--1", State.RUNNING, pid=7, started_at=NOON)
    well = Answer(healthy=True, detail="HTTP 200", seconds=0.001)
    world.reading = Reading(7, well, NOON, bad_answers=0, was_healthy=True)
    world.seconds = seconds

    world.reconciler.look()

    assert (world.parts.retries.of("greeter") is None) == is_forgiven


def test_an_agent_that_is_up_and_not_well_is_forgiven_nothing(world: World) -> None:
    world.parts.retries.record_failure("greeter", NOON)
    world.process = Process("greeter--1", State.RUNNING, pid=7, started_at=NOON)
    world.seconds = 1000

    world.reconciler.look()

    assert world.parts.retries.of("greeter") is not None


def test_an_agent_in_quarantine_is_left_alone(world: World) -> None:
    world.agent = replace(world.agent, quarantine="its Python is missing")

    assert world.look_after(0) == 0
