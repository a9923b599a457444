"""Scopes, patterns, keys, and the rows that they leave."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from deployer import keys, local_keys
from deployer.audits import Entry
from deployer.errors import KeyUnknownError, ServeRefusedError
from deployer.keys import Caller, Key, Scope, digest_of, id_of, new_text
from deployer.state_dir import StateDir
from deployer.store import Store, audit, now


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path)


@pytest.fixture
def store(state: StateDir) -> Iterator[Store]:
    store = Store(state.database)
    yield store
    store.close()


def key(text: str, name: str = "ci", *, is_local: bool = False) -> Key:
    return Key(
        id=id_of(text),
        name=name,
        scope=Scope.DEPLOY,
        agents=("web-*",),
        digest=digest_of(text),
        created_at=now(),
        is_local=is_local,
    )


@pytest.mark.parametrize("scope", list(Scope))
@pytest.mark.parametrize("other", list(Scope))
def test_a_scope_includes_itself_and_those_before_it(scope: Scope, other: Scope) -> None:
    order = ["read", "operate", "deploy", "admin"]
    assert scope.includes(other) == (order.index(scope) >= order.index(other))


@pytest.mark.parametrize(
    ("patterns", "agent", "sees"),
    [
        (("*",), "anything", True),
        (("web-*",), "web-1", True),
        (("web-*",), "Web-1", False),
        (("web-*",), "api", False),
        (("web-?",), "web-12", False),
        (("a", "b"), "b", True),
        (("web",), "web\n", False),
        (("web-*",), "", False),
    ],
)
def test_patterns_say_which_agents_are_a_callers_own(
    patterns: tuple[str, ...], agent: str, *, sees: bool
) -> None:
    assert Caller(who="key:x", scope=Scope.READ, agents=patterns).sees(agent) is sees


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("web-*", "web-1"), ("w?b", "web"), ("*", "x"), ("Web", "web"), ("a.b", "axb"), ("a_", "ab")],
)
def test_the_database_understands_patterns_as_we_do(store: Store, pattern: str, name: str) -> None:
    store.events.add("x", name, "")
    found = bool(store.events.after(0, limit=1, patterns=(pattern,)))
    assert found is Caller(who="", scope=Scope.READ, agents=(pattern,)).sees(name)


def test_a_keys_id_stands_in_its_text() -> None:
    text = new_text()
    assert text.startswith(f"atoll_{id_of(text)}_")
    assert len(text.removeprefix(f"atoll_{id_of(text)}_")) == 43  # 256 bits


def test_nothing_in_the_database_leads_back_to_a_key(store: Store, state: StateDir) -> None:
    text = new_text()
    store.keys.add(key(text))
    store.close()
    kept = b"".join(path.read_bytes() for path in state.root.iterdir())
    assert id_of(text).encode() in kept
    assert text.rsplit("_", 1)[1].encode() not in kept


def test_a_key_is_found_by_its_whole_text_only(store: Store) -> None:
    text = new_text()
    store.keys.add(key(text))
    assert store.keys.find(digest_of(text)) == store.keys.get(id_of(text))
    assert store.keys.find(digest_of(text[:-1])) is None
    assert store.keys.find(digest_of("")) is None


def test_a_revoked_key_is_none(store: Store) -> None:
    text = new_text()
    store.keys.add(key(text))
    store.keys.remove(id_of(text))
    assert store.keys.find(digest_of(text)) is None
    with pytest.raises(KeyUnknownError):
        store.keys.get(id_of(text))


# The key in the state directory -------------------------------------------------------------------


def test_the_first_key_is_made_once_and_may_do_everything(state: StateDir, store: Store) -> None:
    local_keys.remember(state, store)
    local_keys.remember(state, store)
    (only,) = store.keys.all()
    assert (only.scope, only.agents, only.is_local) == (Scope.ADMIN, ("*",), True)
    assert only.digest == digest_of(local_keys.read_text(state))
    assert state.token.stat().st_mode & 0o777 == 0o600


def test_a_file_that_was_deleted_is_made_anew_and_the_former_key_is_none(
    state: StateDir, store: Store
) -> None:
    local_keys.remember(state, store)
    before = local_keys.read_text(state)
    state.token.unlink()
    local_keys.remember(state, store)
    assert store.keys.find(digest_of(before)) is None
    assert store.keys.find(digest_of(local_keys.read_text(state))) is not None


def test_a_lost_database_does_not_lock_its_owner_out(state: StateDir, tmp_path: Path) -> None:
    text = local_keys.read_text(state)
    fresh = Store(tmp_path / "fresh.db")
    local_keys.remember(state, fresh)
    assert fresh.keys.find(digest_of(text)) is not None
    fresh.close()


@pytest.mark.parametrize("text", ["", "\n", "short", "x" * (keys.SHORTEST_TEXT - 1), "ü" * 40])
def test_a_file_that_holds_no_secret_is_refused(state: StateDir, text: str) -> None:
    state.token.write_text(text)
    with pytest.raises(ServeRefusedError, match="cannot use the key in"):
        local_keys.read_text(state)


def test_a_secret_that_somebody_chose_themselves_is_taken(state: StateDir, store: Store) -> None:
    state.token.write_text("f" * 64)
    local_keys.remember(state, store)
    assert store.keys.find(digest_of("f" * 64)) is not None


# The audit ----------------------------------------------------------------------------------------


def write(store: Store, count: int = 3) -> None:
    for number in range(count):
        entry = Entry(who="key:1", operation="POST /x", source="::1", status=200 + number)
        store.audit.add(entry)


REST = "name, source, operation, agent, target, status, request_id, times"


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE audit SET who = 'nobody'",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE id = 3",
        f"INSERT OR REPLACE INTO audit SELECT 2, at, '', {REST} FROM audit",  # noqa: S608 - ours
        f"INSERT OR IGNORE INTO audit SELECT 2, at, '', {REST} FROM audit",  # noqa: S608 - ours
        "UPDATE OR REPLACE audit SET id = 2 WHERE id = 1",
    ],
)
def test_what_the_audit_holds_can_neither_be_changed_nor_deleted(store: Store, attack: str) -> None:
    write(store)
    before = store.audit.before(None, limit=10)
    with (
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
        store.transaction() as connection,
    ):
        connection.execute(attack)
    assert store.audit.before(None, limit=10) == before


def test_old_entries_go_only_with_an_entry_that_says_so(store: Store) -> None:
    write(store)
    assert store.audit.trim(now() - timedelta(days=1)) == 0
    assert len(store.audit.before(None, limit=10)) == 3
    assert store.audit.trim(now()) == 3
    (left,) = store.audit.before(None, limit=10)
    assert (left.who, left.operation, left.times) == ("server", "trim the audit", 3)
    assert left.id == 4


def test_an_entry_of_a_clock_that_was_wrong_takes_none_with_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store)
    with monkeypatch.context() as patch:
        patch.setattr(audit, "now", lambda: now() - timedelta(days=20_000))
        write(store)
    assert store.audit.trim(now() - timedelta(days=365)) == 0
    write(store)
    assert store.audit.trim(now()) == 9


def test_the_audit_is_read_page_by_page(store: Store) -> None:
    write(store, 5)
    first = store.audit.before(None, limit=3)
    assert [entry.id for entry in first] == [5, 4, 3]
    assert [entry.id for entry in store.audit.before(3, limit=3)] == [2, 1]
