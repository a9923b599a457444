from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deployer.errors import (
    AgentUnknownError,
    ChecksumConflictError,
    DeploymentUnknownError,
    PackageUnknownError,
    ReleaseUnknownError,
    ServeRefusedError,
)
from deployer.model import (
    DeploymentStatus,
    Desired,
    Failure,
    Outcome,
    ReleaseStatus,
    Strategy,
)
from deployer.store import Request, Store, copies
from deployer.store.copies import find_damage, forget_loss, restore
from tests.small_disks import fill_up
from tests.stored_packages import PACKAGE

REQUEST = Request(package=PACKAGE, strategy=Strategy.REPLACE)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    it = Store(tmp_path / "state.db")
    yield it
    it.close()


def test_what_was_written_is_there_after_the_store_is_opened_again(tmp_path: Path) -> None:
    first = Store(tmp_path / "state.db")
    first.agents.add("greeter")
    first.agents.set_desired("greeter", Desired.RUNNING)
    first.close()
    second = Store(tmp_path / "state.db")
    assert second.agents.get("greeter").desired is Desired.RUNNING
    second.close()


def test_what_is_unknown_is_an_error_of_its_own(store: Store) -> None:
    with pytest.raises(AgentUnknownError):
        store.agents.get("nobody")
    with pytest.raises(ReleaseUnknownError):
        store.releases.get("nobody", 1)
    with pytest.raises(PackageUnknownError):
        store.packages.get("0" * 32)
    for text in ("1", "nonsense", "-1", "9" * 40, "²"):
        with pytest.raises(DeploymentUnknownError):
            store.deployments.get(text)


def test_a_package_is_found_by_both_checksums(store: Store) -> None:
    assert store.packages.add(PACKAGE)
    assert not store.packages.add(PACKAGE)
    assert store.packages.get(PACKAGE.md5) == store.packages.get(PACKAGE.sha256) == PACKAGE


def test_two_packages_of_one_md5_are_never_taken_for_each_other(store: Store) -> None:
    store.packages.add(PACKAGE)
    with pytest.raises(ChecksumConflictError, match="c" * 64):
        store.packages.add(replace(PACKAGE, sha256="c" * 64))


def test_a_release_number_is_never_given_twice(store: Store) -> None:
    store.agents.add("greeter")
    first = store.releases.add(PACKAGE)
    store.releases.remove(first)
    assert store.releases.add(PACKAGE).number == 2


def test_only_one_of_many_gets_a_port(store: Store) -> None:
    store.agents.add("greeter")
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: store.leases.add(8100, "greeter", f"greeter--{n}"), range(8)))
    assert won.count(True) == 1


def test_the_same_request_joins_the_deployment_that_waits(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = {each.id for each in pool.map(lambda _: store.deployments.submit(REQUEST), range(8))}
    assert len(ids) == 1


def test_a_request_with_force_joins_no_deployment_without_it(store: Store) -> None:
    first = store.deployments.submit(REQUEST)
    assert store.deployments.submit(replace(REQUEST, force=True)).id != first.id


def test_an_agent_has_one_running_deployment(store: Store) -> None:
    first = store.deployments.submit(REQUEST)
    second = store.deployments.submit(replace(REQUEST, start=False))
    store.deployments.begin(first)
    with pytest.raises(sqlite3.IntegrityError):
        store.deployments.begin(second)


def test_what_was_canceled_while_it_waited_is_never_begun(store: Store) -> None:
    deployment = store.deployments.submit(REQUEST)
    assert store.deployments.cancel_queued(deployment)
    assert not store.deployments.begin(deployment)
    store.deployments.end(deployment, DeploymentStatus.FAILED)
    assert store.deployments.get(deployment.id).status is DeploymentStatus.CANCELED


def test_what_has_begun_is_no_longer_canceled_in_the_queue(store: Store) -> None:
    deployment = store.deployments.submit(REQUEST)
    assert store.deployments.begin(deployment)
    assert not store.deployments.cancel_queued(deployment)
    assert store.deployments.get(deployment.id).status is DeploymentStatus.RUNNING


def test_a_deployment_tells_its_steps_and_why_it_failed(store: Store) -> None:
    deployment = store.deployments.submit(REQUEST)
    store.deployments.begin(deployment)
    for name in ("unpack", "install"):
        position = store.deployments.begin_step(deployment, name)
        store.deployments.end_step(deployment, position, Outcome.DONE, f"{name} went well")
    failure = Failure("unresolvable", "cannot install: x", "x", "do y", ("last line",))
    store.deployments.end(deployment, DeploymentStatus.FAILED, failure)
    read = store.deployments.get(deployment.id)
    assert [(step.name, step.message) for step in read.steps] == [
        ("unpack", "unpack went well"),
        ("install", "install went well"),
    ]
    assert read.failure == failure
    assert read.status.is_over


def test_a_transaction_that_fails_leaves_nothing(store: Store) -> None:
    def fail_half_way() -> None:
        with store.transaction():
            store.agents.add("greeter")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert store.agents.find("greeter") is None


def test_whoever_waits_is_woken_by_a_commit(store: Store) -> None:
    generation = store.generation
    writer = threading.Timer(0.02, store.agents.add, ["greeter"])
    writer.start()
    assert store.wait_for_commit(generation, 5) != generation
    writer.join()


def test_whoever_watches_a_deployment_is_woken_by_what_changes_it(store: Store) -> None:
    mine = store.deployments.submit(REQUEST)
    other = store.deployments.submit(replace(REQUEST, package=replace(PACKAGE, agent="other")))

    with store.deployments.watching(mine.id) as news:
        store.deployments.begin_step(other, "unpack")
        assert not news.is_set()
        with store.transaction():
            store.deployments.begin_step(mine, "unpack")
            assert not news.is_set()
        assert news.is_set()


def test_a_damaged_row_stands_for_an_agent_in_quarantine(store: Store, tmp_path: Path) -> None:
    store.agents.add("greeter")
    store.agents.add("other")
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute("UPDATE agents SET desired = 'nonsense' WHERE name = 'greeter'")
    connection.close()
    bad, good = store.agents.all()
    assert "damaged" in bad.quarantine
    assert good.quarantine == ""


def test_the_timeline_knows_its_span_also_when_all_of_it_went(store: Store) -> None:
    assert store.events.span() == (1, 0)
    for number in range(3):
        store.events.add("x", "greeter", str(number))
    store.events.trim(kept=2, before=datetime(2000, 1, 1, tzinfo=UTC))
    assert store.events.span() == (2, 3)
    store.events.trim(kept=2, before=datetime(3000, 1, 1, tzinfo=UTC))
    assert store.events.span() == (4, 3)


def test_the_latest_events_come_first_and_only_those_that_somebody_may_see(store: Store) -> None:
    for number, agent in enumerate(("web-1", "api", "web-2", "")):
        store.events.add("test", agent, f"event {number}")

    assert [each.message for each in store.events.latest(limit=2)] == ["event 3", "event 2"]
    seen = store.events.latest(limit=9, patterns=("web-*",))
    assert [each.agent for each in seen] == ["web-2", "web-1"]
    assert [each.agent for each in store.events.latest(limit=9, agent="api")] == ["api"]


def test_events_are_read_on_from_a_cursor(store: Store) -> None:
    for number in range(5):
        store.events.add("test", "greeter" if number % 2 else "", f"event {number}")
    first = store.events.after(0, limit=2)
    rest = store.events.after(first[-1].id, limit=10)
    assert [event.message for event in (*first, *rest)] == [f"event {n}" for n in range(5)]
    assert len(store.events.after(0, limit=10, agent="greeter")) == 2


def test_the_latest_lines_of_the_timeline_are_kept(store: Store) -> None:
    for number in range(10):
        store.events.add("test", "greeter", f"event {number}")
    assert store.events.trim(kept=3, before=datetime(2000, 1, 1, tzinfo=UTC)) == 7
    left = store.events.after(0, limit=10)
    assert [event.message for event in left] == ["event 7", "event 8", "event 9"]
    assert store.events.trim(kept=3, before=datetime(2000, 1, 1, tzinfo=UTC)) == 0


def test_lines_of_the_timeline_go_when_they_are_old(store: Store, tmp_path: Path) -> None:
    for number in range(4):
        store.events.add("test", "greeter", f"event {number}")
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute("UPDATE events SET at = '2020-01-01T00:00:00+00:00' WHERE id < 3")
    connection.close()
    assert store.events.trim(kept=100, before=datetime(2020, 1, 2, tzinfo=UTC)) == 2
    left = store.events.after(0, limit=10)
    assert [event.message for event in left] == ["event 2", "event 3"]


def test_a_cursor_of_the_timeline_holds_after_all_lines_went(store: Store) -> None:
    store.events.add("test", "greeter", "before")
    last = store.events.after(0, limit=1)[-1].id
    store.events.trim(kept=10, before=datetime(9000, 1, 1, tzinfo=UTC))
    store.events.add("test", "greeter", "after")
    assert [event.message for event in store.events.after(last, limit=10)] == ["after"]


def test_releases_of_an_installed_package_are_found_while_current(store: Store) -> None:
    store.agents.add("greeter")
    release = store.releases.add(PACKAGE)
    assert store.releases.current_of_package(PACKAGE.sha256) is None
    store.agents.activate("greeter", release.number, None)
    found = store.releases.current_of_package(PACKAGE.sha256)
    assert found is not None
    assert found.status is ReleaseStatus.INSTALLING


@pytest.mark.parametrize("size", [0, 100, 3000, 5000])
def test_a_truncated_database_is_restored_from_its_copy(tmp_path: Path, size: int) -> None:
    path, copy = tmp_path / "state.db", tmp_path / "state.db.copy"
    store = Store(path)
    store.agents.add("greeter")
    store.keep_copy(copy)
    store.close()
    path.write_bytes(path.read_bytes()[:size])
    assert find_damage(path)
    assert "restored" in restore(path, copy)
    again = Store(path)
    assert again.agents.find("greeter") is not None
    again.close()


def test_a_damaged_database_without_a_copy_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"no database" * 1000)
    assert "made anew" in restore(path, tmp_path / "none")
    assert (tmp_path / "state.db.damaged").exists()


def test_a_sound_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    Store(path).close()
    assert restore(path, tmp_path / "none") == ""


def test_a_full_disk_is_no_damage(small_disk: Path) -> None:
    path, copy = small_disk / "state.db", small_disk / "state.db.copy"
    with closing(Store(path)) as store:
        store.agents.add("greeter")
        store.keep_copy(copy)
        store.agents.add("late")
    before = path.read_bytes()
    fill_up(small_disk / "filler")

    for _ in range(3):
        with pytest.raises(ServeRefusedError, match=r"state\.db cannot be used: .*\(0 bytes"):
            restore(path, copy, is_missed=True)
        with pytest.raises(ServeRefusedError, match=r"state\.db cannot be used"):
            Store(path)

    assert path.read_bytes() == before
    assert not list(small_disk.glob("*.damaged*"))
    (small_disk / "filler").unlink()
    assert restore(path, copy, is_missed=True) == ""
    with closing(Store(path)) as store:
        assert {agent.name for agent in store.agents.all()} == {"greeter", "late"}


def test_a_damaged_database_waits_for_room_to_be_restored(small_disk: Path) -> None:
    path, copy = small_disk / "state.db", small_disk / "state.db.copy"
    with closing(Store(path)) as store:
        store.agents.add("greeter")
        store.keep_copy(copy)
    damaged = b"no database" * 1000
    path.write_bytes(damaged)
    fill_up(small_disk / "filler")

    with pytest.raises(ServeRefusedError, match="cannot serve"):
        restore(path, copy)

    assert path.read_bytes() == damaged
    (small_disk / "filler").unlink()
    assert "restored" in restore(path, copy)
    assert {each.name for each in small_disk.iterdir()} == {
        "state.db",
        "state.db.copy",
        "state.db.damaged",
        "state.db.lost",
    }
    with closing(Store(path)) as store:
        assert store.agents.find("greeter") is not None


def test_a_database_that_somebody_holds_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "_CHECK_SECONDS", 0.0)
    path = tmp_path / "state.db"
    Store(path).close()
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ServeRefusedError, match="database is locked"):
            restore(path, tmp_path / "none")
    assert restore(path, tmp_path / "none") == ""


def test_what_is_moved_aside_replaces_nothing_and_does_not_pile_up(tmp_path: Path) -> None:
    path, copy = tmp_path / "state.db", tmp_path / "state.db.copy"
    with closing(Store(path)) as store:
        store.keep_copy(copy)
    for number in range(1, 9):
        path.write_bytes(b"no database %d" % number * 1000)
        assert "restored" in restore(path, copy)
    kept = {each.name: each.read_bytes()[12:13] for each in tmp_path.glob("*.damaged*")}
    assert kept == {
        "state.db.damaged": b"1",
        **{f"state.db.damaged.{number}": b"%d" % number for number in (5, 6, 7, 8)},
    }


def test_an_empty_file_is_not_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.touch()  # as a first start leaves it that finds the disk full
    assert "made anew" in restore(path, tmp_path / "none")
    assert {each.name for each in tmp_path.iterdir()} == {"state.db.lost"}


def test_copies_that_are_kept_at_once_do_not_spoil_each_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "state.db.copy"
    with closing(Store(tmp_path / "state.db")) as store, ThreadPoolExecutor(8) as pool:
        store.agents.add("kept")
        list(pool.map(lambda _: store.keep_copy(copy), range(32)))
    assert caplog.records == []
    assert find_damage(copy) == ""


def test_a_loss_is_told_at_each_start_until_it_is_made_good(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    told = restore(path, tmp_path / "none", is_missed=True)
    Store(path).close()
    assert "made anew" in told
    assert restore(path, tmp_path / "none") == told

    forget_loss(path)

    assert restore(path, tmp_path / "none") == ""


def test_nobody_else_reads_a_restored_database(tmp_path: Path) -> None:
    path, copy = tmp_path / "state.db", tmp_path / "copy"
    with closing(Store(path)) as store:
        store.keep_copy(copy)
    path.unlink()

    restore(path, copy)

    assert path.stat().st_mode & 0o777 == 0o600


def test_nobody_else_reads_the_database_or_its_copy(tmp_path: Path) -> None:
    database, copy = tmp_path / "state.db", tmp_path / "copy"
    database.touch(mode=0o644)  # as an older version left it

    store = Store(database)
    store.agents.add("greeter")
    store.keep_copy(copy)

    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert set(modes) >= {"state.db", "state.db-wal", "copy"}
    assert set(modes.values()) == {0o600}
    store.close()


def test_a_uid_is_recorded_once_and_counted_for_ever(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.db")
    assert store.uids.add("ada", 70_000)
    assert not store.uids.add("bob", 70_000)
    assert store.uids.add("bob", 70_001)

    store.uids.remove("ada")

    assert (store.uids.find("ada"), store.uids.all()) == (None, {"bob": 70_001})
    assert store.uids.given() >= 2
    store.close()
