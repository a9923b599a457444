"""Releases over ``/v1``: listed, gone back to, deleted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contracts import Api, Contract, problem
from tests.package_zips import zip_package
from tests.servers import RunningServer, wait_until

NAME = "released"
PATH = f"/v1/agents/{NAME}"


@pytest.fixture(scope="module")
def api(shared_server: RunningServer, contract: Contract) -> Iterator[Api]:
    """The API of a server where an agent has three releases: 2 failed, 3 is current."""
    api = Api(shared_server, contract)
    api.deploy(zip_package("stdlib_agent", name=NAME, version="1.0.0"), start="false")
    api.deploy(zip_package("stdlib_agent", name=NAME, version="2.0.0"), start="false")
    api.deploy(zip_package("stdlib_agent", name=NAME, version="3.0.0"), start="false")
    yield api
    api.request("DELETE", PATH)


def test_releases_are_listed_the_newest_first(api: Api) -> None:
    listed = api.get(f"{PATH}/releases").json()
    assert [each["version"] for each in listed["releases"]] == ["3.0.0", "2.0.0", "1.0.0"]
    assert [each["current"] for each in listed["releases"]] == [True, False, False]
    assert (listed["count"], listed["next"]) == (3, None)


def test_releases_come_a_page_at_a_time(api: Api) -> None:
    first = api.get(f"{PATH}/releases?limit=2").json()
    assert [each["number"] for each in first["releases"]] == [3, 2]
    second = api.get(f"{PATH}/releases?limit=2&cursor={first['next']}").json()
    assert [each["number"] for each in second["releases"]] == [1]
    assert second["next"] is None


def test_what_the_author_wrote_is_shown(api: Api) -> None:
    manifest = api.get(f"{PATH}/releases/3").json()["manifest"]
    assert manifest["agent"]["name"] == NAME
    assert "env" not in manifest


def test_a_release_is_shown(api: Api) -> None:
    listed = api.get(f"{PATH}/releases").json()["releases"]
    assert api.get(f"{PATH}/releases/3").json() == listed[0]


@pytest.mark.parametrize("number", ["4", "0", "999999999"])
def test_an_unknown_release_is_not_found(api: Api, number: str) -> None:
    problem(api.get(f"{PATH}/releases/{number}"), 404, "release-unknown")


@pytest.mark.parametrize("number", ["x", "-1", "1.0", "9999999999", "%D9%A1"])
def test_what_is_no_number_is_no_address(api: Api, number: str) -> None:
    problem(api.get(f"{PATH}/releases/{number}"), 404, "route-unknown")


def test_the_current_release_cannot_be_deleted(api: Api) -> None:
    problem(api.request("DELETE", f"{PATH}/releases/3"), 409, "release-in-use")


def test_a_release_that_nobody_needs_is_deleted(api: Api) -> None:
    previous = api.get(PATH).json()["previous_release"]
    number = next(each for each in (1, 2) if each != previous)
    answer = api.request("DELETE", f"{PATH}/releases/{number}")
    assert (answer.status_code, answer.content) == (204, b"")
    problem(api.get(f"{PATH}/releases/{number}"), 404, "release-unknown")
    assert not api.server.state.release(NAME, number).exists()


@pytest.mark.parametrize("to", [3, 9])
def test_a_rollback_goes_to_another_release_that_is_there(api: Api, to: int) -> None:
    code = (409, "release-in-use") if to == 3 else (404, "release-unknown")
    problem(api.post(f"{PATH}/rollback", json={"to": to}), *code)


@pytest.mark.parametrize("body", [{"to": 0}, {"to": -1}, {"to": 10**30}, {"to": "x"}, {"two": 2}])
def test_a_rollback_to_what_is_no_release_is_invalid(api: Api, body: dict[str, object]) -> None:
    problem(api.post(f"{PATH}/rollback", json=body), 422, "request-invalid")


def test_a_rollback_with_a_wait_that_is_no_number_does_nothing(api: Api) -> None:
    before = api.get("/v1/deployments", params={"limit": 1}).json()
    problem(api.post(f"{PATH}/rollback", params={"wait": "soon"}), 400, "bad-request")
    assert api.get("/v1/deployments", params={"limit": 1}).json() == before


def test_a_rollback_without_a_body_goes_to_the_release_before(
    shared_server: RunningServer, contract: Contract
) -> None:
    api = Api(shared_server, contract)
    api.deploy(zip_package("stdlib_agent", name="returning", version="1.0.0"))
    api.deploy(zip_package("stdlib_agent", name="returning", version="2.0.0"))
    answer = api.post("/v1/agents/returning/rollback", params={"wait": 60})
    assert answer.status_code == 200
    document = answer.json()
    assert (document["is_rollback"], document["release"]) == (True, 1)
    assert document["connection"]["version"] == "1.0.0"
    api.request("DELETE", "/v1/agents/returning")


def test_a_rollback_that_is_not_waited_for_has_an_address(
    shared_server: RunningServer, contract: Contract
) -> None:
    api = Api(shared_server, contract)
    api.deploy(zip_package("stdlib_agent", name="hurried", version="1.0.0"), start="false")
    api.deploy(zip_package("stdlib_agent", name="hurried", version="2.0.0"), start="false")
    answer = api.post("/v1/agents/hurried/rollback", json={"to": 1})
    assert answer.status_code == 202
    over = api.get(answer.headers["Location"], params={"wait": 60}).json()
    assert (over["status"], over["release"]) == ("succeeded", 1)
    api.request("DELETE", "/v1/agents/hurried")


def test_an_agent_with_one_release_has_none_to_go_back_to(
    shared_server: RunningServer, contract: Contract
) -> None:
    api = Api(shared_server, contract)
    api.deploy(zip_package("stdlib_agent", name="single"), start="false")
    document = problem(api.post("/v1/agents/single/rollback"), 400, "bad-request")
    assert document["cause"] == "no release to go back to"
    api.request("DELETE", "/v1/agents/single")


def test_a_deletion_that_is_not_waited_for_goes_on(api: Api) -> None:
    api.deploy(zip_package("stdlib_agent", name=NAME, version="4.0.0"), start="false")
    row = api.get(PATH).json()
    numbers = [each["number"] for each in api.get(f"{PATH}/releases").json()["releases"]]
    number = next(each for each in numbers if each not in {row["release"], row["previous_release"]})

    answer = api.request("DELETE", f"{PATH}/releases/{number}?wait=0")

    # 204 only if it was over before anybody could look
    assert (answer.status_code, answer.content) in {(202, b""), (204, b"")}
    wait_until(lambda: api.get(f"{PATH}/releases/{number}").status_code == 404)
