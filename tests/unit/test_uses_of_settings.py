"""What an operator sets is what counts: settings come to where they are used."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import falcon.testing
import pytest

from deployer.api.packages import PackageReceiver
from deployer.environments import InstallerSettings
from deployer.errors import PackageInvalidError
from deployer.keys import Caller, Scope
from deployer.releases import ReleaseFiles
from deployer.server import installer_settings
from deployer.settings import Settings
from deployer.state_dir import StateDir
from deployer.store import Store
from tests.package_zips import zip_package

WHEN = "2026-01-01T00:00:00Z"
ANYBODY = Caller(who="none", scope=Scope.ADMIN)
INSTALLING = {
    "cache_dir": "/cache",
    "index_url": "https://one.example/simple",
    "extra_index_urls": ["https://two.example/simple"],
    "find_links": ["https://three.example/wheels"],
    "exclude_newer": WHEN,
    "install": {"require_hashes": True},
    "lock_max_age_seconds": 5,
    "limits": {"install_seconds": 7},
    "python": {"search": ["/pythons"], "downloads": True},
}


def test_every_setting_about_installing_comes_to_the_installer(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    settings = Settings(state_dir=tmp_path, **cast("Any", INSTALLING))
    given = installer_settings(settings)
    assert given == InstallerSettings(
        cache_dir=Path("/cache"),
        tmp=state.tmp,
        index_url="https://one.example/simple",
        extra_index_urls=("https://two.example/simple",),
        find_links=("https://three.example/wheels",),
        exclude_newer=WHEN,
        require_hashes=True,
        lock_max_age_seconds=5,
        install_seconds=7,
        python_search=(Path("/pythons"),),
        python_downloads=True,
        pythons=state.pythons,
    )
    # else what nobody passes on would be equal as well
    untouched = {it.name for it in fields(given) if getattr(given, it.name) == it.default}
    assert untouched == {"installer"}  # pip cannot be had with all the others


def test_the_installer_is_the_one_that_is_set(tmp_path: Path) -> None:
    assert installer_settings(Settings(state_dir=tmp_path, installer="pip")).installer == "pip"


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"entries": 2}, "entries, more than 2"),
        ({"file_bytes": 99}, "bytes, more than 99"),
        ({"total_bytes": 100}, "bytes, more than 100"),
        ({"ratio": 2}, "more than 2"),
        ({"depth": 1}, "more than 1"),
    ],
)
def test_an_upload_is_held_to_the_limits_that_are_set(
    tmp_path: Path, limits: dict[str, int], told: str
) -> None:
    state = StateDir(tmp_path)
    sparse = os.urandom(300_000) + bytes(11 * 1024**2)  # packed, a 35th of it
    package = zip_package("stdlib_agent", extra_files={"a/b/c": sparse})
    state.tmp.mkdir()
    state.packages.mkdir()
    with closing(Store(state.database)) as store:

        def receive(settings: Settings) -> None:
            trust = SimpleNamespace(is_required=False, require_vouched=lambda *_: None)
            parts = SimpleNamespace(
                settings=settings, state=state, store=store, files=ReleaseFiles(state), trust=trust
            )
            services = cast("Any", SimpleNamespace(parts=parts))
            request = falcon.testing.create_req(
                method="POST", body=package, headers={"Content-Type": "application/zip"}
            )
            request.context.caller = ANYBODY
            PackageReceiver(services).receive(request)

        with pytest.raises(PackageInvalidError, match=told):
            receive(Settings(state_dir=tmp_path, limits=cast("Any", limits)))
        receive(Settings(state_dir=tmp_path))
