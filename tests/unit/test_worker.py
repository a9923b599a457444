"""Deployments that break in ways nobody foresaw: each ends, and none holds up those behind it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, cast

import pytest

from deployer import worker as threads
from deployer.model import Deployment, DeploymentStatus, Strategy
from deployer.parts import Parts
from deployer.settings import Settings
from deployer.state_dir import StateDir
from deployer.store import Request, Store
from deployer.worker import Worker
from tests.servers import wait_until
from tests.stored_packages import PACKAGE

ANOTHER = replace(PACKAGE, md5="c" * 32, sha256="d" * 64)


class Deployments:
    """Sequences that break as often as they are told to, and end well after that."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.errors: list[Exception] = []
        self.reasons: list[str] = []

    def run(self, deployment: Deployment, **_options: object) -> None:
        self.store.deployments.begin(deployment)
        self._break()
        self.store.deployments.end(deployment, DeploymentStatus.SUCCEEDED)

    def abandon(self, deployment: Deployment, why: str) -> None:
        self.reasons.append(why)
        self._break()
        self.store.deployments.end(deployment, DeploymentStatus.ABANDONED)

    def _break(self) -> None:
        if self.errors:
            raise self.errors.pop(0)


@pytest.fixture
def deployments(tmp_path: Path) -> Iterator[Deployments]:
    store = Store(tmp_path / "state.db")
    store.packages.add(PACKAGE)
    store.packages.add(ANOTHER)
    yield Deployments(store)
    store.close()


@pytest.fixture
def worker(
    deployments: Deployments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Worker]:
    monkeypatch.setattr(threads, "_AGAIN_SECONDS", 0.01)
    adapters: dict[str, Any] = {
        each.name: cast("Any", Unasked())
        for each in fields(Parts)
        if each.default_factory is MISSING
    }
    adapters |= {"settings": Settings(state_dir=tmp_path), "state": StateDir(tmp_path)}
    parts = Parts(**{**adapters, "store": deployments.store})
    it = Worker(parts, cast("Any", deployments), cast("Any", Unasked()))
    yield it
    it.close()


class Unasked:
    """Whatever else a worker knows, and finds nothing wrong with."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_arguments, **_options: None


@pytest.mark.parametrize(
    "error",
    [
        OSError(16, "Device or resource busy"),
        RuntimeError("nobody foresaw this"),
        sqlite3.OperationalError("database or disk is full"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_deployment_that_breaks_is_undone_and_the_next_one_is_carried_out(
    deployments: Deployments, worker: Worker, error: Exception
) -> None:
    deployments.errors = [error, error, error]
    broken = worker.submit(Request(PACKAGE, Strategy.REPLACE))
    second = worker.submit(Request(ANOTHER, Strategy.REPLACE))

    wait_until(lambda: deployments.store.deployments.get(second.id).status.is_over)

    assert deployments.store.deployments.get(broken.id).status is DeploymentStatus.ABANDONED
    assert deployments.store.deployments.get(second.id).status is DeploymentStatus.SUCCEEDED
    assert str(error) in deployments.reasons[0]


def test_a_deployment_that_is_canceled_while_it_waits_is_told_in_the_timeline(
    deployments: Deployments, worker: Worker
) -> None:
    waiting = deployments.store.deployments.submit(Request(PACKAGE, Strategy.REPLACE))

    assert worker.cancel(waiting.id).status is DeploymentStatus.CANCELED
    worker.cancel(waiting.id)

    events = deployments.store.events.after(0, limit=10)
    assert [event.kind for event in events] == ["deployment.canceled"]
    assert events[0].agent == PACKAGE.agent
