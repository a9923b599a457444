"""The copy of the database, kept in the background."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deployer.copyists import Copyist
from deployer.store import Store
from tests.servers import wait_until


def test_a_copy_that_could_not_be_made_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "later" / "state.db.copy"
    with closing(Store(tmp_path / "state.db")) as store:
        parts: Any = SimpleNamespace(store=store, state=SimpleNamespace(database_copy=copy))
        store.agents.add("greeter")
        with closing(Copyist(parts)) as copyist:
            copyist.start()
            wait_until(lambda: bool(caplog.records), 30)

            copy.parent.mkdir()
            store.events.add("test", "greeter", "wakes, and changes nothing that is meant")

            wait_until(copy.exists, 30)


def test_why_there_is_no_copy_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "later" / "state.db.copy"
    with closing(Store(tmp_path / "state.db")) as store:
        assert [store.keep_copy(copy) for _ in range(3)] == [False] * 3
        assert len(caplog.records) == 1
        copy.parent.mkdir()
        assert store.keep_copy(copy)


def agents_in(copy: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{copy}?immutable=1", uri=True)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM agents ORDER BY name")]


def test_a_copy_that_somebody_else_made_in_between_is_followed_by_another(tmp_path: Path) -> None:
    copy = tmp_path / "state.db.copy"
    with closing(Store(tmp_path / "state.db")) as store:
        parts: Any = SimpleNamespace(store=store, state=SimpleNamespace(database_copy=copy))
        store.agents.add("one")
        with closing(Copyist(parts)) as copyist:
            copyist.start()
            wait_until(copy.exists)

            # As a deployment does at its end, and then the agent goes at once:
            store.agents.add("two")
            store.keep_copy(copy)
            store.agents.remove("two")

            wait_until(lambda: agents_in(copy) == ["one"])
