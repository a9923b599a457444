from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from deployer.model import DeploymentStatus, Strategy
from deployer.store import Request, Store
from tests.stored_packages import PACKAGE


class DamagedStore:
    """A store whose rows somebody else changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.store = Store(path)

    def damage(self, statement: str) -> None:
        with closing(sqlite3.connect(self._path)) as connection:
            connection.execute(statement)
            connection.commit()


@pytest.fixture
def damaged(tmp_path: Path) -> Iterator[DamagedStore]:
    it = DamagedStore(tmp_path / "state.db")
    it.store.packages.add(PACKAGE)
    yield it
    it.store.close()


@pytest.mark.parametrize(
    "change",
    [
        "strategy = 'nonsense'",
        "created_at = 'yesterday'",
        "failure = '{'",
        "failure = '[]'",
        "failure = '{\"code\": 1}'",
        "ended_at = 'nonsense'",
    ],
)
def test_a_deployment_is_read_as_far_as_it_can_be_and_says_what_is_damaged(
    damaged: DamagedStore, change: str
) -> None:
    deployment = damaged.store.deployments.submit(Request(PACKAGE, Strategy.REPLACE))
    damaged.damage(f"UPDATE deployments SET {change}")  # noqa: S608 - our own words

    (read,) = damaged.store.deployments.unfinished()

    assert (read.id, read.agent) == (deployment.id, PACKAGE.agent)
    assert read.failure is not None
    assert f"damaged: {change.partition(' ')[0]}: " in read.failure.detail


def test_garbage_in_a_report_of_a_scanner_does_not_hide_its_deployment(
    damaged: DamagedStore,
) -> None:
    damaged.store.deployments.submit(Request(PACKAGE, Strategy.REPLACE))
    damaged.damage("INSERT INTO scans VALUES (1, 1, '{}')")

    (read,) = damaged.store.deployments.before(None, limit=1)

    assert read.scans == ()
    assert read.failure is not None


def test_what_cannot_be_read_of_how_it_stands_counts_as_failed(damaged: DamagedStore) -> None:
    damaged.store.deployments.submit(Request(PACKAGE, Strategy.REPLACE))
    damaged.damage("UPDATE deployments SET status = 'nonsense'")

    assert damaged.store.deployments.count_by_status() == {DeploymentStatus.FAILED: 1}


def test_a_damaged_deployment_that_has_not_ended_can_be_ended(damaged: DamagedStore) -> None:
    deployment = damaged.store.deployments.submit(Request(PACKAGE, Strategy.REPLACE))
    damaged.damage("UPDATE deployments SET status = 'nonsense'")

    damaged.store.deployments.reopen_damaged()
    (reopened,) = damaged.store.deployments.unfinished()
    damaged.store.deployments.end(reopened, DeploymentStatus.ABANDONED)

    assert damaged.store.deployments.get(deployment.id).status is DeploymentStatus.ABANDONED
    assert damaged.store.deployments.unfinished() == ()


def test_a_line_of_the_timeline_without_a_time_is_told_and_passed(damaged: DamagedStore) -> None:
    for number in range(3):
        damaged.store.events.add("test", "greeter", f"event {number}")
    damaged.damage("UPDATE events SET at = 'nonsense' WHERE id = 1")

    bad, good = damaged.store.events.after(0, limit=2)

    assert (bad.id, good.message) == (1, "event 1")
    assert "damaged" in bad.message


def test_an_agent_whose_current_release_is_not_there_is_in_quarantine(
    damaged: DamagedStore,
) -> None:
    damaged.store.agents.add("greeter")
    damaged.damage("UPDATE agents SET current = 77")

    (agent,) = damaged.store.agents.all()

    assert agent.quarantine == "its current release 77 is not in state.db"
