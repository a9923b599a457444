"""The copy of the database, kept in the background."""

from __future__ import annotations

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
