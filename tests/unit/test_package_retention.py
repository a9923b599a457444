from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import MISSING, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from deployer.model import DeploymentStatus, Package, Strategy
from deployer.package_retention import PackageRetention
from deployer.parts import Parts
from deployer.releases import ReleaseFiles
from deployer.settings import Settings
from deployer.state_dir import StateDir
from deployer.store import Request, Store, now
from tests.stored_packages import PACKAGE


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    state = StateDir(tmp_path)
    state.packages.mkdir()
    with closing(Store(state.database)) as store:
        adapters: dict[str, Any] = {
            each.name: None for each in fields(Parts) if each.default_factory is MISSING
        }
        adapters |= {"settings": Settings(state_dir=tmp_path), "files": ReleaseFiles(state)}
        yield Parts(**{**adapters, "state": state, "store": store})


def received(parts: Parts, hours_ago: float) -> Package:
    """Keep a package, its archive and its signature, as an upload does."""
    package = replace(PACKAGE, received_at=now() - timedelta(hours=hours_ago))
    parts.store.packages.add(package)
    archive = parts.files.archive(package.sha256)
    archive.touch()
    archive.with_name(f"{archive.name}.minisig").touch()
    return package


def left(parts: Parts) -> set[str]:
    """Name what lies there, by its ending, and the row."""
    kinds = {path.suffix for path in parts.state.packages.iterdir()}
    return kinds | ({"row"} if parts.store.packages.find(PACKAGE.sha256) else set())


def test_a_package_that_nothing_refers_to_goes_after_a_day_with_its_signature(
    parts: Parts,
) -> None:
    received(parts, hours_ago=25)

    PackageRetention(parts).trim()

    assert left(parts) == set()


def test_a_package_stays_a_day_for_whoever_uploads_first_and_deploys_then(parts: Parts) -> None:
    received(parts, hours_ago=23)

    PackageRetention(parts).trim()

    assert left(parts) == {"row", ".zip", ".minisig"}


def test_a_package_that_is_uploaded_again_stays_from_then_on(parts: Parts) -> None:
    package = received(parts, hours_ago=25)
    parts.store.packages.touch(package.sha256)

    PackageRetention(parts).trim()

    assert "row" in left(parts)


def test_a_package_of_a_release_stays_for_as_long_as_that(parts: Parts) -> None:
    package = received(parts, hours_ago=1000)
    parts.store.agents.add(package.agent)
    release = parts.store.releases.add(package)
    PackageRetention(parts).trim()
    assert "row" in left(parts)

    parts.store.releases.remove(release)
    PackageRetention(parts).trim()

    assert left(parts) == set()


def test_a_package_that_a_deployment_waits_for_stays(parts: Parts) -> None:
    package = received(parts, hours_ago=1000)
    deployment = parts.store.deployments.submit(Request(package, Strategy.REPLACE))
    PackageRetention(parts).trim()
    assert "row" in left(parts)

    parts.store.deployments.end(deployment, DeploymentStatus.FAILED)
    PackageRetention(parts).trim()

    assert left(parts) == set()


def test_an_archive_without_a_row_is_swept(parts: Parts) -> None:
    received(parts, hours_ago=0)
    parts.files.archive("e" * 64).touch()

    PackageRetention(parts).remove_strays()

    assert [path.stem for path in parts.files.archives()] == [PACKAGE.sha256]
