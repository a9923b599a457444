"""Checks of many agents at once: those that hang, or whose ends take long, blind us for nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, cast

import pytest

from deployer import causes
from deployer.model import (
    Answer,
    HealthCheck,
    PortLease,
    Process,
    Release,
    RestartPolicy,
    State,
)
from deployer.monitor import Monitor
from deployer.parts import Parts
from deployer.settings import Settings
from deployer.state_dir import StateDir
from deployer.statuses import AgentView
from deployer.store import Store, now
from tests.servers import wait_until
from tests.stored_packages import PACKAGE

HUNG = [f"hung-{number}" for number in range(20)]
AGENTS = [*HUNG, "late"]
GOOD = Answer(healthy=True, detail="HTTP 200", seconds=0.001)
BAD = Answer(healthy=False, detail="timed out after 1 s", seconds=1.0)


class Quiet:
    """An adapter that finds nothing wrong with anything, and does nothing."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_arguments, **_options: None


class Processes(Quiet):
    """Every program runs."""

    def get(self, program: str) -> Process:
        return Process(program, State.RUNNING, pid=7, started_at=now())


class Diagnoses:
    """What was answered is all that is known."""

    def of_answer(self, _release: Release, answer: Answer, _pid: int, _port: int) -> causes.Cause:
        return causes.Cause(answer.detail)


class Runs:
    """Agents that answer, and end, as a test says."""

    def __init__(self) -> None:
        self.diagnoses = Diagnoses()
        self.ended: list[str] = []
        self.on_ask: Callable[[str], Answer] = lambda _name: GOOD
        self.on_end: Callable[[str], object] = lambda _name: None

    def is_up(self, _release: Release) -> bool:
        return True

    def health_check(self, _release: Release) -> HealthCheck:
        return HealthCheck(path="/health", interval_seconds=0.01, failures=2)

    def restart_policy(self, _release: Release) -> RestartPolicy:
        return RestartPolicy()

    def ask(self, release: Release, _port: int) -> Answer:
        return self.on_ask(release.agent)

    def end(self, release: Release, _pid: int) -> None:
        self.on_end(release.agent)
        self.ended.append(release.agent)


class Agents:
    """Agents that all run."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def standings(self) -> list[AgentView]:
        return [self.view(name) for name in AGENTS]

    def view(self, name: str) -> AgentView:
        release = self.parts.store.releases.get(name, 1)
        process = self.parts.processes.get(release.program)
        return AgentView(
            self.parts.store.agents.get(name),
            release,
            PortLease(8100, name, release.program, now()),
            process,
            self.parts.readings.of(process),
        )


@pytest.fixture
def parts(short_path: Path) -> Iterator[Parts]:
    state = StateDir(short_path)
    state.run.mkdir()
    with closing(Store(state.database)) as store:
        for name in AGENTS:
            store.agents.add(name)
            store.releases.add(replace(PACKAGE, agent=name))
        adapters: dict[str, Any] = {
            each.name: Quiet() for each in fields(Parts) if each.default_factory is MISSING
        }
        adapters |= {"settings": Settings(state_dir=short_path), "state": state}
        yield Parts(**{**adapters, "store": store, "processes": Processes()})


@pytest.fixture
def runs() -> Runs:
    return Runs()


@pytest.fixture
def over(parts: Parts, runs: Runs) -> Iterator[threading.Event]:
    """A monitor watches until the test is over."""
    monitor = Monitor(
        parts, cast("Any", runs), cast("Any", Agents(parts)), cast("Any", Quiet()), lambda: None
    )
    ended = threading.Event()
    monitor.start()
    yield ended
    ended.set()
    monitor.close()


def test_agents_that_hang_do_not_keep_another_from_being_asked(
    parts: Parts, runs: Runs, over: threading.Event
) -> None:
    asked: set[str] = set()

    def ask(name: str) -> Answer:
        asked.add(name)
        if name in HUNG:
            over.wait(60)
        was_well = parts.readings.of(parts.processes.get("late--1")) is not None
        return BAD if was_well and asked == set(AGENTS) else GOOD

    runs.on_ask = ask

    wait_until(lambda: "late" in runs.ended, 20, "the last agent was noticed")


def test_agents_whose_end_takes_long_do_not_keep_another_from_being_asked(
    parts: Parts, runs: Runs, over: threading.Event
) -> None:
    ending: set[str] = set()

    def end(name: str) -> None:
        ending.add(name)
        if name in HUNG:
            over.wait(60)

    def ask(name: str) -> Answer:
        if name == "late":
            return BAD if ending >= set(HUNG) else GOOD
        reading = parts.readings.of(parts.processes.get(f"{name}--1"))
        return GOOD if reading is None else BAD

    runs.on_end = end
    runs.on_ask = ask

    wait_until(lambda: "late" in runs.ended, 20, "the last agent was noticed")
    assert runs.ended == ["late"] * len(runs.ended)
