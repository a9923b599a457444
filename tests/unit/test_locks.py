from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deployer.environments.locks import Inputs, Lock, Pin, hold_to, parse_pins, read_lock
from deployer.errors import ResolutionError

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ONE, TWO = (f"sha256:{digit * 64}" for digit in "12")
INPUTS = Inputs(("six>=1",), "3.11.7", "cpython-311", ("https://pypi.org/simple",))
LOCK = Lock(INPUTS, NOON, (Pin("six==1.17.0", (ONE, TWO)),))


def fits(lock: Lock, inputs: Inputs = INPUTS, *, after: timedelta = timedelta(hours=1)) -> bool:
    return lock.is_fit(inputs, at=NOON + after, max_age_seconds=86400)


def test_a_lock_reads_back_as_it_was_written(tmp_path: Path) -> None:
    LOCK.write(tmp_path / "requirements.lock")
    assert read_lock(tmp_path / "requirements.lock") == LOCK


def test_a_lock_that_is_missing_is_no_lock(tmp_path: Path) -> None:
    assert read_lock(tmp_path / "requirements.lock") is None


@pytest.mark.parametrize("text", ["", "six==1.17.0\n", "# resolved_at: 5\n", "# resolved_at: ["])
def test_a_lock_without_its_whole_header_is_no_lock(tmp_path: Path, text: str) -> None:
    (tmp_path / "requirements.lock").write_text(text)
    assert read_lock(tmp_path / "requirements.lock") is None


def test_an_equal_resolution_is_repeated() -> None:
    assert fits(LOCK)


@pytest.mark.parametrize(
    "change",
    [
        {"requirements": ("six>=2",)},
        {"python": "3.12.0"},
        {"abi": "cpython-311t"},
        {"indexes": ("https://example.org/simple",)},
        {"find_links": ("/srv/wheels",)},
        {"exclude_newer": "2025-01-01"},
    ],
    ids=str,
)
def test_other_inputs_are_resolved_anew(change: dict[str, str]) -> None:
    assert not fits(LOCK, replace(INPUTS, **change))  # type: ignore[arg-type]  # one row a field


def test_a_lock_of_yesterday_is_too_old() -> None:
    assert not fits(LOCK, after=timedelta(hours=24))


def test_a_lock_from_the_future_is_not_trusted() -> None:
    assert not fits(LOCK, after=timedelta(hours=-1))


def test_uvs_output_is_read_as_pins() -> None:
    text = f"six==1.17.0 \\\n    --hash={ONE} \\\n    --hash={TWO}\nidna==3 --hash={ONE}\n"
    assert parse_pins(text) == (Pin("idna==3", (ONE,)), Pin("six==1.17.0", (ONE, TWO)))


def test_an_authors_hash_excludes_every_other_file() -> None:
    assert hold_to(LOCK.pins, [f"Six>=1 --hash={TWO}"]) == (Pin("six==1.17.0", (TWO,)),)


def test_an_authors_hash_says_nothing_of_other_packages() -> None:
    assert hold_to(LOCK.pins, [f"sixteen --hash={TWO}"]) == LOCK.pins


def test_an_authors_hash_that_no_file_has_cannot_be_resolved() -> None:
    with pytest.raises(ResolutionError, match=r"no file of six==1\.17\.0 has a hash"):
        hold_to(LOCK.pins, [f"six --hash=sha256:{'3' * 64}"])
