"""Packages whose MD5 is the same: real ones, and a store that tells them apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deployer.api.problems import STATUSES
from deployer.errors import ChecksumConflictError
from deployer.model import Package
from deployer.store import Store

# Wang, Feng, Lai, Yu: "Collisions for Hash Functions MD4, MD5, HAVAL-128 and RIPEMD" (2004). No ZIP
# begins like this, and packages must begin with their first entry: so only the store sees them.
ONE = bytes.fromhex(
    "d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f89"
    "55ad340609f4b30283e488832571415a085125e8f7cdc99fd91dbdf280373c5b"
    "d8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0"
    "e99f33420f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70"
)
DIFFERENT_BYTES = (19, 45, 59, 83, 109, 123)
OTHER = bytes(byte ^ (0x80 * (i in DIFFERENT_BYTES)) for i, byte in enumerate(ONE))


def package(data: bytes) -> Package:
    return Package(
        md5=hashlib.md5(data).hexdigest(),  # noqa: S324 - the protocol's name for a package
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        agent="one",
        version="1",
        received_at=datetime.now(UTC),
        manifest="{}",
        requirements=(),
        entry_point="script main.py",
        unpacked_bytes=len(data),
        entries=1,
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "state.db")
    yield store
    store.close()


def test_other_bytes_of_a_known_md5_are_a_conflict(store: Store) -> None:
    one, other = package(ONE), package(OTHER)
    assert (one.md5 == other.md5, one.sha256 == other.sha256) == (True, False)
    assert store.packages.add(one)
    with pytest.raises(ChecksumConflictError) as raised:
        store.packages.add(other)
    assert one.sha256 in raised.value.detail
    assert other.sha256 in raised.value.detail


def test_a_conflict_leaves_the_known_package_as_it_was(store: Store) -> None:
    one, other = package(ONE), package(OTHER)
    store.packages.add(one)
    with pytest.raises(ChecksumConflictError):
        store.packages.add(other)
    assert store.packages.find(one.md5) == one
    assert store.packages.find(other.sha256) is None


def test_a_conflict_answers_409() -> None:
    assert STATUSES[ChecksumConflictError.kind] == 409
