"""Idempotency-Key on a real server, and across its death."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from deployer.api.idempotency import HEADER, REPLAYED
from tests.contracts import ZIP, Api, Contract, problem
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server, wait_until

Headers = dict[str, str]


@pytest.fixture(scope="module")
def own_server(
    tmp_path_factory: pytest.TempPathFactory, installer_cache: Path
) -> Iterator[RunningServer]:
    """A server whose API may be killed."""
    root = tmp_path_factory.mktemp("i") / "state"
    with running_server(root, cache_dir=installer_cache) as server:
        yield server


@pytest.fixture
def own(own_server: RunningServer, contract: Contract) -> Iterator[Api]:
    yield Api(own_server, contract)
    for agent in own_server.client.agents():
        own_server.client.remove(agent.name)


@pytest.fixture
def key() -> Headers:
    return {HEADER: f'"{uuid.uuid4()}"'}


def replace_api(server: RunningServer) -> None:
    server.kill_api()
    server.start_api()
    wait_until(server.is_ready)


def deployments(api: Api) -> list[str]:
    return [each["id"] for each in api.get("/v1/deployments").json()["deployments"]]


def restarts(api: Api, agent: str) -> int:
    entries = api.get("/v1/audit", params={"agent": agent}).json()["entries"]
    return sum(each["operation"].endswith("/restart") for each in entries)


def test_a_deployment_is_made_once_and_its_answer_outlives_the_api(own: Api, key: Headers) -> None:
    package = zip_package("stdlib_agent", name="kept")
    options = {"data": package, "headers": ZIP | key}
    first = own.post("/v1/deployments", params={"force": 1, "wait": 60}, **options)
    assert first.status_code == 200
    replace_api(own.server)
    again = own.post("/v1/deployments", params={"force": 1, "wait": 0}, **options)
    assert (again.status_code, again.headers[REPLAYED]) == (200, "true")
    assert again.json() == first.json()
    assert deployments(own).count(first.json()["id"]) == 1
    assert len(own.get("/v1/agents/kept/releases").json()["releases"]) == 1


def test_a_deployment_whose_answer_was_lost_with_the_api_is_the_one_that_is_told_later(
    own: Api, key: Headers
) -> None:
    package = zip_package("slow_start", name="lost")
    own.upload(package)
    known = deployments(own)
    options = {"data": package, "headers": ZIP | key}
    with ThreadPoolExecutor(1) as pool:
        ask = lambda: own.post("/v1/deployments", params={"wait": 60}, **options)  # noqa: E731
        lost = pool.submit(ask)
        begun = wait_until(lambda: set(deployments(own)) - set(known))
        replace_api(own.server)
        with pytest.raises(requests.ConnectionError):
            lost.result(60)
    answer = ask()
    # what ran was undone, as with every death of the API
    document = answer.json().get("deployment") or answer.json()
    assert {document["id"]} == begun
    assert set(deployments(own)) - set(known) == begun
    assert answer.status_code in {200, 503}
    assert ask().json() == answer.json()


def test_an_agent_is_restarted_once_however_often_it_is_asked_for(own: Api, key: Headers) -> None:
    own.deploy(zip_package("stdlib_agent", name="again"))
    first = own.post("/v1/agents/again/restart", headers=key)
    replace_api(own.server)
    second = own.post("/v1/agents/again/restart", headers=key)
    assert first.json() == second.json()
    assert own.get("/v1/agents/again").json()["pid"] == first.json()["pid"]
    assert restarts(own, "again") == 1
    third = own.post("/v1/agents/again/restart", headers={HEADER: "another"})
    assert third.json()["pid"] != first.json()["pid"]


def test_a_key_that_names_another_request_already_is_refused(api: Api, key: Headers) -> None:
    api.deploy(zip_package("stdlib_agent", name="reused"))
    assert api.post("/v1/agents/reused/stop", headers=key).status_code == 200
    answer = api.post("/v1/agents/reused/restart", headers=key)
    problem(answer, 422, "idempotency-key-reused")
    assert api.get("/v1/agents/reused").json()["status"] == "stopped"


def test_while_the_first_is_being_answered_the_second_is_told_to_wait(
    api: Api, key: Headers
) -> None:
    package = zip_package("slow_start", name="slow")

    def ask() -> requests.Response:
        params = {"wait": 60}
        return api.post("/v1/deployments", params=params, data=package, headers=ZIP | key)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask)
        wait_until(lambda: api.get("/v1/deployments", params={"agent": "slow"}).json()["count"])
        second = ask()
        if REPLAYED not in second.headers:  # else the first was over before
            problem(second, 409, "idempotency-key-in-use")
            assert int(second.headers["Retry-After"]) >= 1
        assert first.result(60).status_code == 200
    assert ask().json() == first.result().json()


def test_a_rollback_is_done_once(api: Api, key: Headers) -> None:
    for version in ("1.0.0", "2.0.0"):
        api.deploy(zip_package("stdlib_agent", name="back", version=version))
    ask: Callable[[], requests.Response] = lambda: api.post(  # noqa: E731
        "/v1/agents/back/rollback", params={"wait": 60}, headers=key
    )
    first = ask()
    assert first.status_code == 200
    assert ask().json() == first.json()  # a second one would go forward again
    assert api.get("/v1/agents/back").json()["release"] == 1


def test_a_package_that_is_unknown_leaves_the_key_free(api: Api, key: Headers) -> None:
    package = zip_package("stdlib_agent", name="late", version="3.1.4")
    headers = key | {"Content-Type": "application/json"}
    wanted = {"package": md5_of(package)}
    answer = api.post("/v1/deployments", json=wanted, headers=headers)
    problem(answer, 404, "package-unknown")
    api.upload(package)
    answer = api.post("/v1/deployments", json=wanted, headers=headers, params={"wait": 60})
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")


def md5_of(package: bytes) -> str:
    return hashlib.md5(package).hexdigest()  # noqa: S324 - the protocol's name


def test_an_act_that_failed_after_it_was_begun_is_not_done_again(api: Api, key: Headers) -> None:
    name = "dies-at-once"
    problem(api.post(f"/v1/agents/{name}/start", headers=key), 404, "agent-unknown")
    api.deploy(zip_package("exits_at_once", name=name), start="false")

    first = api.post(f"/v1/agents/{name}/start", headers=key)
    second = api.post(f"/v1/agents/{name}/start", headers=key)

    problem(first, 422, "agent-not-healthy")
    assert second.json() == first.json()
    assert second.headers[REPLAYED] == "true"
