"""Who floods a log is stopped, and nobody who takes its place."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from deployer.errors import AgentBusyError
from deployer.floods import Floods
from deployer.model import Process, State
from deployer.settings import LimitSettings, Settings
from tests.servers import wait_until

FLOODING = Process("web--2", State.RUNNING, pid=42, throttled_at=datetime.now(UTC))
QUIET = Process("web--1", State.RUNNING, pid=41)


class Agents:
    """Busy at first; keeps whom it was to stop."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, int | None]] = []

    def stop_over_limit(self, name: str, _sentence: str, *, run: tuple[str, int | None]) -> None:
        self.runs.append(run)
        if len(self.runs) == 1:
            raise AgentBusyError(f"cannot stop {name}: a deployment is under way")


def test_the_run_that_floods_is_to_be_stopped_until_it_can_be(tmp_path: Path) -> None:
    agents = Agents()
    parts = SimpleNamespace(
        settings=Settings(state_dir=tmp_path, limits=LimitSettings(log_flood="stop")),
        state=None,
        store=None,
        processes=SimpleNamespace(all=lambda: {"web--2": FLOODING, "web--1": QUIET}),
    )
    floods = Floods(cast("Any", parts), cast("Any", agents))

    def is_tried_again() -> bool:
        floods.look()
        return len(agents.runs) > 1

    wait_until(is_tried_again)
    floods.close()

    assert set(agents.runs) == {("web--2", 42)}
