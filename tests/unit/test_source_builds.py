"""Building source where another build is under way, or no time is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deployer.environments import Site, SourceBuilds
from deployer.environments.indexes import Sources
from deployer.environments.installers import Uv
from deployer.environments.interpreters import Interpreter
from deployer.environments.locks import Inputs, Pin
from deployer.errors import DeploymentCanceledError, InstallError
from deployer.launch_policies import ResourceLimits, Sandbox

PYTHON = Interpreter(Path("/usr/bin/python3"), "3.11.7", "cpython", "x", Path("/usr/lib"))
INPUTS = Inputs(("alpha",), "3.11.7", "x", ())


@pytest.fixture
def builds(tmp_path: Path) -> SourceBuilds:
    return SourceBuilds(
        site=Site(tmp_path / "site"),
        kept=tmp_path / "kept",
        confine=lambda _site, _reach: Sandbox(),
        marker={},
        resources=ResourceLimits(),
        end_processes=lambda _uid: None,
        guard=threading.Lock(),
    )


def resolve(
    builds: SourceBuilds, *, deadline: float, canceled: Callable[[], bool] = lambda: False
) -> tuple[Pin, ...]:
    folder = builds.kept.parent
    uv = Uv(folder / "uv", folder / "cache", Sources())
    uv.binary.touch()
    return builds.resolve(
        INPUTS, PYTHON, uv, log=folder / "log", deadline=deadline, canceled=canceled
    )


def test_who_waits_for_another_build_can_be_canceled(builds: SourceBuilds) -> None:
    with builds.guard, pytest.raises(DeploymentCanceledError, match="canceled"):
        resolve(builds, deadline=time.monotonic() + 1000, canceled=lambda: True)


def test_who_waits_for_another_build_waits_no_longer_than_its_time(builds: SourceBuilds) -> None:
    with builds.guard, pytest.raises(InstallError, match="another deployment was building"):
        resolve(builds, deadline=time.monotonic())


def test_without_time_nothing_is_built_and_nothing_stays(builds: SourceBuilds) -> None:
    with pytest.raises(InstallError, match="out of time"):
        resolve(builds, deadline=time.monotonic() - 1234)

    assert not builds.site.root.exists()
    assert not builds.guard.locked()
