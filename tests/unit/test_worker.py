"""Deployments that break in ways nobody foresaw: each ends, and none holds up those behind it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, cast

import pytest

from deployer import worker as threads
from deployer.errors import DeploymentUnknownError, ReleaseInUseError, SupervisordUnreachableError
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
        self.deleted: list[int] = []
        self.may_end = threading.Event()
        self.may_end.set()

    def run(self, deployment: Deployment, *, canceled: Callable[[], bool]) -> None:
        self.store.deployments.begin(deployment)
        assert self.may_end.wait(20)
        self._break()
        status = DeploymentStatus.CANCELED if canceled() else DeploymentStatus.SUCCEEDED
        self.store.deployments.end(deployment, status)

    def abandon(self, deployment: Deployment, why: str) -> None:
        self.reasons.append(why)
        self._break()
        self.store.deployments.end(deployment, DeploymentStatus.ABANDONED)

    def require_unneeded(self, _agent: str, _number: int) -> None:
        self._break()

    def delete_release(self, _agent: str, number: int) -> None:
        self.deleted.append(number)

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
    worker.resume()
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


def test_nothing_begins_before_the_recovery_is_over(
    deployments: Deployments, worker: Worker
) -> None:
    queued = worker.submit(Request(PACKAGE, Strategy.REPLACE))
    acted = worker.act(lambda: "done")
    with pytest.raises(TimeoutError):
        acted.result(0.2)
    assert deployments.store.deployments.get(queued.id).status is DeploymentStatus.QUEUED

    worker.resume()

    assert acted.result(20) == "done"
    wait_until(lambda: deployments.store.deployments.get(queued.id).status.is_over)


def test_whoever_deletes_a_release_need_not_wait_until_the_recovery_is_over(
    deployments: Deployments, worker: Worker
) -> None:
    deletion = worker.delete_release("greeter", 1)

    assert not deletion.done()
    worker.resume()
    deletion.result(20)
    assert deployments.deleted == [1]


def test_a_release_that_is_needed_takes_no_thread(deployments: Deployments, worker: Worker) -> None:
    deployments.errors = [ReleaseInUseError("cannot delete release 1 of greeter")]
    with pytest.raises(ReleaseInUseError):
        worker.delete_release("greeter", 1)


def test_what_waits_behind_a_half_done_deployment_is_carried_out_once_that_is_undone(
    deployments: Deployments, worker: Worker
) -> None:
    rows = deployments.store.deployments
    half_done = rows.submit(Request(PACKAGE, Strategy.REPLACE))
    rows.begin(half_done)  # by the process before, and supervisord did not answer at its undoing
    waiting = rows.submit(Request(ANOTHER, Strategy.REPLACE))
    deployments.errors = [SupervisordUnreachableError("cannot ask it")]

    worker.resume()

    wait_until(lambda: rows.get(waiting.id).status.is_over)
    assert rows.get(half_done.id).status is DeploymentStatus.ABANDONED
    assert rows.get(waiting.id).status is DeploymentStatus.SUCCEEDED
    assert deployments.reasons == ["the server ended"] * 2


def test_a_deployment_is_canceled_under_the_id_that_was_given_out(
    deployments: Deployments, worker: Worker
) -> None:
    worker.resume()
    deployments.may_end.clear()
    first = worker.submit(Request(PACKAGE, Strategy.REPLACE))

    for spelling in (f"0{first.id}", f"{first.id} ", "\u0661"):
        with pytest.raises(DeploymentUnknownError):
            worker.cancel(spelling)

    deployments.may_end.set()


def test_who_deploys_again_after_a_cancel_does_not_join_what_is_canceled(
    deployments: Deployments, worker: Worker
) -> None:
    rows = deployments.store.deployments
    worker.resume()
    deployments.may_end.clear()
    first = worker.submit(Request(PACKAGE, Strategy.REPLACE))
    wait_until(lambda: rows.get(first.id).status is DeploymentStatus.RUNNING)
    worker.cancel(first.id)

    again = worker.submit(Request(PACKAGE, Strategy.REPLACE))
    deployments.may_end.set()

    wait_until(lambda: rows.get(again.id).status.is_over)
    assert rows.get(first.id).status is DeploymentStatus.CANCELED
    assert rows.get(again.id).status is DeploymentStatus.SUCCEEDED
