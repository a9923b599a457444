"""What goes with a release, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deployer.releases import ReleaseFiles
from deployer.state_dir import StateDir


@pytest.mark.parametrize(
    "delete",
    [lambda files: files.delete("foo", 1), lambda files: files.delete_agent("foo")],
    ids=["release", "agent"],
)
def test_logs_of_an_agent_whose_name_begins_alike_stay(
    tmp_path: Path, delete: Callable[[ReleaseFiles], None]
) -> None:
    state = StateDir(tmp_path)
    state.logs.mkdir()
    state.agent("foo").mkdir(parents=True)
    gone = [state.stdout_log("foo--1"), state.install_log("foo", 1)]
    gone += [log.with_name(f"{log.name}.3") for log in gone[:1]]
    stay = [state.stdout_log("foo--1.x--7"), state.install_log("foo--1.x", 7)]
    for path in (*gone, *stay):
        path.touch()

    delete(ReleaseFiles(state))

    assert sorted(state.logs.iterdir()) == sorted(stay)
