"""How well agents can be kept apart here, found out by a canary, with and without privileges."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployer.isolation import find_isolation
from deployer.isolation_levels import IsolationLevel
from deployer.landlock import find_abi
from deployer.settings.isolation import IsolationSettings
from deployer.state_dir import StateDir

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="tries levels that only root can offer"),
    pytest.mark.skipif(find_abi() < 6, reason="needs Landlock ABI 6, Linux 6.12"),
]

WITHOUT_MOUNTS = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
REPORT = """\
import json, sys
from pathlib import Path
from deployer.isolation import find_isolation
from deployer.settings.isolation import IsolationSettings
from deployer.state_dir import StateDir
isolation = find_isolation(StateDir(Path(sys.argv[1])), IsolationSettings(use=None))
json.dump([isolation.level, {fact.name: fact.detail for fact in isolation.facts}], sys.stdout)
"""


def make_state(root: Path) -> StateDir:
    state = StateDir(root.resolve())
    for directory in (state.agents, state.run, state.tmp):
        directory.mkdir(parents=True)
    for directory in (state.root, state.agents):
        directory.chmod(0o711)
    return state


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDir]:
    state = make_state(tmp_path / "state")
    yield state
    left = [path for path in state.root.rglob("*") if path.parent != state.root]
    assert not left, "the canary left something behind"


def find_without_mounts(root: Path) -> tuple[str, dict[str, str]]:
    done = subprocess.run(
        [*WITHOUT_MOUNTS, sys.executable, "-c", REPORT, str(root)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    level, facts = json.loads(done.stdout)
    return level, facts


def test_root_gets_everything(state: StateDir) -> None:
    isolation = find_isolation(state, IsolationSettings(use=None))

    assert isolation.level is IsolationLevel.FULL
    assert all(fact.holds for fact in isolation.facts)


@pytest.mark.parametrize("level", list(IsolationLevel))
def test_a_level_can_be_asked_for(state: StateDir, level: IsolationLevel) -> None:
    assert find_isolation(state, IsolationSettings(use=level)).level is level


def test_what_is_open_is_said(state: StateDir) -> None:
    isolation = find_isolation(state, IsolationSettings(use=IsolationLevel.UID))

    facts = {fact.name: fact.detail for fact in isolation.facts if not fact.holds}
    assert facts == {
        "landlock": "left out by the setting isolation.use",
        "abstract-sockets": "open",
        "ports": "open",
    }


def test_own_uids_need_no_mounts_where_everybody_can_pass() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        state = make_state(Path(name) / "state")

        level, facts = find_without_mounts(state.root)

    refusal = "cannot take namespaces of its own: Operation not permitted"
    assert (level, facts["namespaces"]) == ("full", refusal)


def test_without_mounts_a_closed_directory_above_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    state = make_state(closed / "state")
    first = next(path for path in reversed(state.root.parents) if not path.stat().st_mode & 1)

    level, facts = find_without_mounts(state.root)

    assert level == "landlock"
    assert facts["own-uids"].startswith(f"{first} is closed to users of agents (mode 0700)")


def test_the_supervisord_socket_of_another_level_is_no_secret(state: StateDir) -> None:
    isolation = find_isolation(state, IsolationSettings(use=IsolationLevel.LANDLOCK))

    assert {fact.name for fact in isolation.facts if not fact.holds} >= {"control-socket", "names"}
