"""Whatever a ZIP says, the way of every upload takes it whole or refuses it in words."""

from __future__ import annotations

import io
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings

from deployer.errors import DeployerError
from deployer.packages import Inspected, inspect, receive, unpack
from deployer.settings import LimitSettings
from tests.zip_mutations import SPOILS, mutated_zips

LIMITS: Final = LimitSettings()
CPU_SECONDS: Final = 1.0  # of one archive of a few KB: usually 2 ms


def go_the_way_of_an_upload(data: bytes, root: Path) -> Inspected:
    """Receive, judge and unpack, into ``code``."""
    spool, target = root / "tmp", root / "code"
    received = receive(io.BytesIO(data), spool, max_bytes=LIMITS.upload_bytes)
    try:
        inspected = inspect(received.path, LIMITS, has_runtime=False)
        unpack(received.path, target, LIMITS)
    finally:
        received.path.unlink()
    return inspected


def seen_by_zipfile(data: bytes) -> dict[str, bytes] | None:
    """Read an archive as Python's own reader does; None when that refuses it, and is not fooled."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = (each for each in archive.namelist() if not each.endswith("/"))
            return {each: archive.read(each) for each in files}
    except (NotImplementedError, zipfile.BadZipFile):
        return None


def judge(data: bytes) -> bool:
    """Check everything that must hold of one upload; tells whether it was taken."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "tmp").mkdir()
        return judge_in(Path(directory), data)


def judge_in(root: Path, data: bytes) -> bool:
    began = time.process_time()
    try:
        inspected = go_the_way_of_an_upload(data, root)
    except DeployerError as error:
        assert error.detail.startswith("cannot take the package: ")  # noqa: PT017  # either end is fine
        inspected = None
    assert time.process_time() - began < CPU_SECONDS
    assert not Path(SPOILS).exists()
    left = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    target = root / "code"
    if inspected is None:
        assert left == set()
        assert not target.exists()
        return False
    unpacked = {
        path.relative_to(target).as_posix(): path.read_bytes()
        for path in target.rglob("*")
        if path.is_file()
    }
    assert left == {f"code/{name}" for name in unpacked}
    assert inspected.unpacked_bytes == sum(map(len, unpacked.values()))  # what limits are held to
    assert not [name for name in unpacked if not name.isprintable() or set(name) & set("\\:")]
    # Two readers that differ are how an archive smuggles something past whoever looked into it.
    if all(name.isascii() for name in unpacked):  # it reads others as code page 437
        assert seen_by_zipfile(data) in (unpacked, None)
    return True


@given(data=mutated_zips())
@settings(
    deadline=None,
    derandomize=True,
    max_examples=1500,
)
def test_no_lie_in_an_archive_gets_through(data: bytes) -> None:
    judge(data)


@pytest.mark.parametrize("wanted", [True, False])
def test_the_generator_makes_archives_of_both_kinds(*, wanted: bool) -> None:
    found = []

    @given(data=mutated_zips())
    @settings(deadline=None, derandomize=True, max_examples=100, database=None)
    def collect(data: bytes) -> None:
        found.append(judge(data))

    collect()
    assert found.count(wanted) > 15
