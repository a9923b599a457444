"""Times of keys, as they are listed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from deployer.cli.keys import _local_time


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "CET-1")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_berlin")
def test_a_key_that_never_ends_is_listed_as_any_other() -> None:
    assert _local_time(datetime(2026, 1, 1, 12, tzinfo=UTC)) == "2026-01-01 13:00:00"
    assert _local_time(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)) == "9999-12-31 23:59:59"
