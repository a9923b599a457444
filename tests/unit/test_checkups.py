"""When agents are asked, whatever becomes of the clock."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from deployer import checkups
from deployer.checkups import Checkups
from deployer.model import Answer, HealthCheck, Process, State
from deployer.readings import Readings
from deployer.settings import Settings
from deployer.store import now

PROCESS = Process("web--1", State.RUNNING, pid=7)
VIEW: Any = SimpleNamespace(agent=SimpleNamespace(name="web"), release=object(), process=PROCESS)


def test_a_clock_that_is_set_back_puts_no_question_off(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = Readings()
    readings.record(PROCESS, Answer(healthy=True, detail="", seconds=0.0), checked_at=now())
    quiet: Any = SimpleNamespace()
    locks = SimpleNamespace(holder=lambda _name: None)
    parts = SimpleNamespace(
        store=None,
        processes=None,
        readings=readings,
        locks=locks,
        verdicts=None,
        settings=Settings(),
    )
    runs = SimpleNamespace(health_check=lambda _release: HealthCheck(interval_seconds=30))
    it = Checkups(cast("Any", parts), cast("Any", runs), quiet, lambda _program: False)
    monkeypatch.setattr(checkups, "now", lambda: now() - timedelta(hours=1))
    monkeypatch.setattr(checkups.time, "monotonic", lambda: 1000.0)

    assert not it._is_due(VIEW)

    assert it._due[PROCESS.program] == (7, 1030.0)
    it.close()
