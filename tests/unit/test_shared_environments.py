from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest

from deployer.environment_retention import EnvironmentRetention
from deployer.environments.compilations import Compilations
from deployer.environments.interpreters import Interpreter
from deployer.environments.locks import Inputs, Pin
from deployer.environments.shared import SharedEnvironments, key_of
from deployer.errors import DeploymentCanceledError, InstallError
from deployer.parts import Parts
from deployer.releases import ReleaseFiles
from deployer.state_dir import StateDir

KEY = "0123456789abcdef"
PYTHON = Interpreter(
    path=Path(os.path.realpath(sys.executable)),
    version="3.11.7",
    implementation="cpython",
    abi="cpython-311-x86_64-linux-gnu",
    stdlib=Path("/usr/lib/python3.11"),
)
INPUTS = Inputs(("six",), "3.11.7", "cpython-311-x86_64-linux-gnu", ("default",))
PINS = (Pin("six==1.0", (f"sha256:{'0' * 64}",)),)


@pytest.fixture
def shared(tmp_path: Path) -> SharedEnvironments:
    (tmp_path / "environments").mkdir()
    return SharedEnvironments(tmp_path / "environments")


def furnish(path: Path) -> Path:
    """Make what an installer leaves, as far as anybody here looks at it."""
    site = path / "lib" / "python3.11" / "site-packages"
    (site / "six-1.0.dist-info").mkdir(parents=True)
    (site / "six-1.0.dist-info" / "RECORD").write_text("six.py,,\nsix-1.0.dist-info/RECORD,,\n")
    (site / "six.py").write_text("VERSION = 1")
    (path / "bin").mkdir()
    (path / "bin" / "python").symlink_to(sys.executable)
    (path / "pyvenv.cfg").write_text("home = /usr/bin\n")
    return path


def made(shared: SharedEnvironments, key: str = KEY) -> Path:
    path = furnish(shared.choose_path(key))
    shared.finish(path, (("six", "1.0"),))
    return path


def key(pins: tuple[Pin, ...] = PINS, installer: str = "uv 1", **changes: Any) -> str | None:
    of_python = {name: value for name, value in changes.items() if hasattr(PYTHON, name)}
    of_inputs = {name: value for name, value in changes.items() if hasattr(INPUTS, name)}
    return key_of(pins, replace(INPUTS, **of_inputs), replace(PYTHON, **of_python), installer)


def test_the_same_lock_has_the_same_key_whatever_it_was_asked_by() -> None:
    assert key() == key() == key(requirements=("six>=1",))


@pytest.mark.parametrize(
    "changes",
    [
        {"pins": ()},
        {"pins": (Pin("six==1.1", PINS[0].hashes),)},
        {"pins": (Pin("six==1.0", (f"sha256:{'1' * 64}",)),)},
        {"installer": "uv 2"},
        {"version": "3.11.8"},
        {"implementation": "pypy"},
        {"path": Path("/bin/sh")},
        {"find_links": ("/wheels",)},
        {"indexes": ("https://pypi.example/simple",)},
        {"builds": True},
    ],
)
def test_whatever_may_change_what_is_installed_changes_the_key(changes: dict[str, Any]) -> None:
    assert key(**changes) != key()


def test_what_is_not_held_to_a_hash_is_not_shared() -> None:
    assert key((Pin("six==1.0", ()),)) is None


def test_an_environment_counts_once_it_is_whole(shared: SharedEnvironments) -> None:
    path = furnish(shared.choose_path(KEY))
    assert shared.find(KEY) is None
    shared.finish(path, (("six", "1.0"),))
    found = shared.find(KEY)
    assert found is not None
    assert (found.path, found.packages) == (path, (("six", "1.0"),))
    assert shared.find(KEY[:-1]) is None


@pytest.mark.parametrize(
    "name",
    ["lib/python3.11/site-packages/six.py", "pyvenv.cfg", "bin/python", ".whole.json"],
)
def test_one_that_lost_a_file_is_not_shared_and_left_to_whom_it_serves(
    shared: SharedEnvironments, name: str
) -> None:
    path = made(shared)
    (path / name).unlink()
    assert shared.find(KEY) is None
    successor = made(shared)
    assert successor != path
    found = shared.find(KEY)
    assert found is not None
    assert found.path == successor
    assert path.exists()


def test_one_to_which_something_was_added_is_not_shared(shared: SharedEnvironments) -> None:
    path = made(shared)
    site = path / "lib" / "python3.11" / "site-packages"
    (site / "__pycache__").mkdir()
    assert shared.find(KEY) is not None, "bytecode is nobody's damage"
    (site / "planted.pth").write_text("import os")
    assert shared.find(KEY) is None


def test_a_seal_that_says_nothing_is_none(shared: SharedEnvironments) -> None:
    path = made(shared)
    for text in ("", "[]", '{"packages": 1}', "\0"):
        (path / ".whole.json").write_text(text)
        assert shared.find(KEY) is None


def test_of_two_who_make_the_same_one_waits_for_the_other(shared: SharedEnvironments) -> None:
    is_held, may_end, order = threading.Event(), threading.Event(), []

    def make() -> None:
        with shared.hold(KEY, deadline=time.monotonic() + 60):
            is_held.set()
            may_end.wait(60)
            order.append("first")

    thread = threading.Thread(target=make)
    thread.start()
    is_held.wait(60)
    with shared.hold("another", deadline=time.monotonic()):
        pass
    with pytest.raises(InstallError), shared.hold(KEY, deadline=time.monotonic()):
        pass
    with (
        pytest.raises(DeploymentCanceledError),
        shared.hold(KEY, deadline=time.monotonic() + 60, canceled=lambda: True),
    ):
        pass
    may_end.set()
    with shared.hold(KEY, deadline=time.monotonic() + 60):
        order.append("second")
    thread.join(60)
    assert order == ["first", "second"]


@pytest.fixture
def parts(tmp_path: Path, shared: SharedEnvironments) -> Parts:
    adapters: dict[str, Any] = {
        each.name: None for each in fields(Parts) if each.default_factory is MISSING
    }
    state = StateDir(tmp_path)
    adapters |= {"state": state, "files": ReleaseFiles(state), "shared": shared}
    return Parts(**adapters, compilations=Compilations())


def share(parts: Parts, path: Path, number: int = 1) -> Path:
    venv = parts.state.venv("greeter", number)
    venv.parent.mkdir(parents=True)
    venv.symlink_to(path)
    return venv


def test_what_a_release_shares_stays_and_goes_with_the_last_one(parts: Parts) -> None:
    path = made(parts.shared)
    links = [share(parts, path, number) for number in (1, 2)]
    retention = EnvironmentRetention(parts, grace_seconds=0)
    for link in links:
        retention.trim()
        assert path.exists()
        link.unlink()
    retention.trim()
    assert not path.exists()


def test_what_nobody_shares_stays_for_its_grace(parts: Parts) -> None:
    path = made(parts.shared)
    retention = EnvironmentRetention(parts, grace_seconds=3600)
    retention.trim()
    retention.trim()
    assert path.exists()


def test_what_somebody_is_at_is_not_removed(parts: Parts) -> None:
    path = made(parts.shared)
    with parts.shared.hold(KEY, deadline=time.monotonic()):
        EnvironmentRetention(parts, grace_seconds=0).trim()
        EnvironmentRetention(parts).remove_halves()
    assert path.exists()


def test_halves_go_at_once_unless_a_release_needs_them(parts: Parts) -> None:
    half = furnish(parts.shared.choose_path(KEY))
    damaged = made(parts.shared)
    (damaged / ".whole.json").unlink()
    share(parts, damaged)
    whole = made(parts.shared, "another")
    EnvironmentRetention(parts).remove_halves()
    assert (half.exists(), damaged.exists(), whole.exists()) == (False, True, True)
