"""Idempotency-Key: what is asked twice is done once, and answered as the first time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import falcon
import falcon.testing
import pytest

from deployer.api.idempotency import HEADER, REPLAYED, fingerprint_of
from deployer.store import Store, now
from deployer.store.idempotency import MOST, IdempotencyRows
from tests.wired_apps import TEXT, wired_app

REPEATED = "8e03978e-40d5-43dd-bc93-6894a57f9324"
WANTED = {"name": "ci", "scope": "deploy"}

App = falcon.App[Any, Any]


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[tuple[App, Store]]:
    with wired_app(tmp_path) as it:
        yield it


@pytest.fixture
def app(wired: tuple[App, Store]) -> App:
    return wired[0]


@pytest.fixture
def store(wired: tuple[App, Store]) -> Store:
    return wired[1]


def make_key(
    app: App, wanted: Any = WANTED, key: str = REPEATED, token: str = TEXT, **options: Any
) -> falcon.testing.Result:
    headers = {"Authorization": f"Bearer {token}", HEADER: key}
    return falcon.testing.TestClient(app).simulate_post(
        "/v1/keys", json=wanted, headers=headers, **options
    )


def made(store: Store) -> list[str]:
    return [key.name for key in store.keys.all() if not key.is_local]


def test_the_same_request_is_done_once_and_answered_alike(app: App, store: Store) -> None:
    first, second = make_key(app), make_key(app)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json == second.json
    assert made(store) == ["ci"]
    assert REPLAYED not in first.headers
    assert second.headers[REPLAYED] == "true"
    for name in ("Location", "Content-Type", "Cache-Control"):
        assert first.headers[name] == second.headers[name]


def test_an_answer_outlives_the_server(tmp_path: Path) -> None:
    with wired_app(tmp_path) as (app, _):
        first = make_key(app)
    with wired_app(tmp_path) as (app, store):
        assert make_key(app).json == first.json
        assert made(store) == ["ci"]


def test_without_a_key_each_request_is_another(app: App, store: Store) -> None:
    client = falcon.testing.TestClient(app, headers={"Authorization": f"Bearer {TEXT}"})
    for _ in range(2):
        assert client.simulate_post("/v1/keys", json=WANTED).status_code == 201
    assert made(store) == ["ci", "ci"]


def test_a_key_that_comes_with_another_request_is_refused(app: App, store: Store) -> None:
    make_key(app)
    answer = make_key(app, {**WANTED, "scope": "admin"})
    assert (answer.status_code, answer.json["code"]) == (422, "idempotency-key-reused")
    assert made(store) == ["ci"]
    assert make_key(app).status_code == 201  # the first answer is still there


def test_how_long_a_request_is_held_makes_it_no_other(app: App, store: Store) -> None:
    assert make_key(app, query_string="wait=1").json == make_key(app, query_string="wait=9").json
    assert make_key(app, query_string="other=1").status_code == 422
    assert made(store) == ["ci"]


def test_a_key_in_quotes_is_the_same_as_without(app: App, store: Store) -> None:
    assert make_key(app).json == make_key(app, key=f'"{REPEATED}"').json
    assert made(store) == ["ci"]


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "a\tb", 'a"b', "a\\b"])
def test_what_cannot_be_a_key_is_refused(app: App, store: Store, key: str) -> None:
    answer = make_key(app, key=key)
    assert (answer.status_code, answer.json["code"]) == (400, "bad-request")
    assert made(store) == []


def test_a_refused_request_leaves_its_key_free(app: App, store: Store) -> None:
    answer = make_key(app, {**WANTED, "scope": "everything"})
    assert (answer.status_code, answer.json["code"]) == (422, "request-invalid")
    assert make_key(app).status_code == 201
    assert made(store) == ["ci"]


def test_each_caller_has_keys_of_their_own(app: App, store: Store) -> None:
    other = make_key(app, {"name": "other", "scope": "admin"}, key="first").json["key"]
    mine, theirs = make_key(app), make_key(app, token=other)
    assert mine.json["id"] != theirs.json["id"]
    assert sorted(made(store)) == ["ci", "ci", "other"]


def test_a_kept_answer_is_for_nobody_without_the_right_to_ask(app: App) -> None:
    make_key(app)
    assert make_key(app, token="wrong").status_code == 401


def test_the_database_does_not_hold_the_text_of_a_key(app: App, tmp_path: Path) -> None:
    text = make_key(app).json["key"].encode()
    for file in tmp_path.iterdir():
        if file.name.startswith("state.db"):
            assert text not in file.read_bytes(), file
            assert REPEATED.encode() not in file.read_bytes(), file


def test_a_repeated_request_is_no_second_act_in_the_audit(app: App, store: Store) -> None:
    make_key(app)
    make_key(app)
    acts = store.audit.before(None, limit=10)
    assert [each.operation for each in acts] == ["POST /v1/keys"]


def test_a_damaged_answer_is_as_good_as_none(app: App, store: Store) -> None:
    make_key(app)
    with store.transaction() as connection:
        connection.execute("UPDATE idempotency_keys SET answer = x'00'")
    assert make_key(app).status_code == 201
    assert made(store) == ["ci", "ci"]


def form(boundary: str, content: str) -> falcon.Request:
    body = f"--{boundary}\r\n\r\n{content}\r\n--{boundary}--\r\n"
    headers = {"Content-Type": f'multipart/form-data; boundary="{boundary}"'}
    environ = falcon.testing.create_environ("/v1/deployments", "", headers=headers, body=body)
    return falcon.Request(environ)


def test_a_form_is_the_same_whatever_its_boundary() -> None:
    # longer than what is read at once, so that a boundary is read in two
    contents = ["P" * (1024 * 1024 - length) for length in (8, 12, 16)]
    for content in ["PK", *contents]:
        one, other = form("one", content), form("another", content)
        assert fingerprint_of(one) == fingerprint_of(other)
        assert one.stream.read(5) == b"--one"  # whoever takes the form finds all of it
    assert len({fingerprint_of(form("one", content)) for content in contents}) == len(contents)


# Rows --------------------------------------------------------------------------------------------


@pytest.fixture
def rows(store: Store) -> IdempotencyRows:
    return store.idempotency


def test_what_is_older_than_a_day_is_not_known(rows: IdempotencyRows, store: Store) -> None:
    rows.begin("a", "key:1", "f")
    assert rows.find("a") is not None
    with store.transaction() as connection:
        yesterday = (now() - timedelta(hours=25)).isoformat()
        connection.execute("UPDATE idempotency_keys SET made_at = ?", (yesterday,))
    assert rows.find("a") is None
    rows.begin("b", "key:2", "f")
    with store.transaction() as connection:
        assert connection.execute("SELECT id FROM idempotency_keys").fetchall()[0]["id"] == "b"


def test_one_caller_keeps_only_so_many_and_takes_nobody_elses(
    rows: IdempotencyRows, store: Store
) -> None:
    rows.begin("other", "key:2", "f")
    with store.transaction():
        for number in range(MOST + 5):
            rows.begin(f"{number}", "key:1", "f")
    assert rows.find("4") is None
    assert rows.find("5") is not None
    assert rows.find("other") is not None


def test_a_key_of_a_begun_deployment_is_not_forgotten(rows: IdempotencyRows, store: Store) -> None:
    for name, deployment in (("free", None), ("taken", 7)):
        rows.begin(name, "key:1", hashlib.sha256(b"f").hexdigest())
        with store.transaction() as connection:
            connection.execute(
                "UPDATE idempotency_keys SET deployment = ? WHERE id = ?", (deployment, name)
            )
        rows.forget(name)
    assert rows.find("free") is None
    kept = rows.find("taken")
    assert kept is not None
    assert kept.deployment == "7"
