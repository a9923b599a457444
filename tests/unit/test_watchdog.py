"""Limits are kept for our own programs, whoever else is called like one of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from deployer.limits.allowances import Allowance
from deployer.limits.usages import Usage
from deployer.model import Process, Release, State
from deployer.store import Store, now
from deployer.watchdog import Watchdog
from tests.stored_packages import PACKAGE


class Unasked:
    """Whatever else a watchdog asks, and is told nothing."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_arguments, **_options: None


def test_a_strangers_program_does_not_blind_it_for_ours(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.db")
    store.agents.add(PACKAGE.agent)
    ours = store.releases.add(PACKAGE).program
    programs = {name: Process(name, State.RUNNING, pid=9) for name in ("theirs--2", ours)}
    asked = []

    def allowance(release: Release) -> Allowance:
        asked.append(release.program)
        return Allowance()

    def measure(mains: Mapping[str, int], _grouped: object) -> dict[str, Usage]:
        return {name: Usage(pid, None, 0.0, 0, 1, 1, (), now()) for name, pid in mains.items()}

    parts = SimpleNamespace(
        store=store,
        processes=SimpleNamespace(all=lambda: programs),
        usages=SimpleNamespace(measure=measure),
        limiter=Unasked(),
        verdicts=None,
    )
    Watchdog(cast("Any", parts), cast("Any", SimpleNamespace(allowance=allowance))).look()

    assert asked == [ours]
    store.close()
