"""Deployments over ``/v1``: asked for, held, watched, listed, canceled, and what they answer."""

from __future__ import annotations

import http.client
import select
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.contracts import ZIP, Api, Contract, problem
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server, wait_until

SLOW = {'START_SECONDS = "2"': 'START_SECONDS = "1.5"'}


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def slow(version: str = "1.0.0") -> bytes:
    return zip_package("slow_start", version=version, replace=SLOW)


def ask(api: Api, package: str, query: str = "", **options: Any) -> requests.Response:
    return api.post(f"/v1/deployments{query}", json={"package": package, **options})


def is_running(api: Api, deployment_id: str) -> bool:
    status: str = api.get(f"/v1/deployments/{deployment_id}").json()["status"]
    return status == "running"


# How to ask ---------------------------------------------------------------------------------------


def test_a_deployment_is_queued_and_has_an_address(api: Api) -> None:
    package = api.upload(zip_package("stdlib_agent"))
    answer = ask(api, package["md5"])
    assert answer.status_code == 202
    document = answer.json()
    assert answer.headers["Location"] == f"/v1/deployments/{document['id']}"
    assert (document["agent"], document["package"]) == ("stdlib_agent", package["md5"])
    over = api.get(answer.headers["Location"], params={"wait": 60}).json()
    assert over["status"] == "succeeded"
    assert {step["outcome"] for step in over["steps"]} == {"done"}
    assert over["connection"]["url"].startswith("http://127.0.0.1:")
    assert requests.get(f"{over['connection']['url']}/health", timeout=20).status_code == 200


@pytest.mark.parametrize("checksum", ["md5", "sha256"])
def test_a_held_deployment_answers_when_it_is_over(api: Api, checksum: str) -> None:
    package = api.upload(zip_package("stdlib_agent"))
    answer = ask(api, package[checksum].upper(), "?wait=60")
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")


def test_a_preference_holds_a_deployment_too(api: Api) -> None:
    package = api.upload(zip_package("stdlib_agent"))
    answer = api.post(
        "/v1/deployments",
        json={"package": package["md5"]},
        headers={"Prefer": "respond-async, wait=60"},
    )
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")


def test_a_package_that_runs_already_answers_where_it_is(api: Api) -> None:
    deployment = api.deploy(zip_package("stdlib_agent"))
    answer = ask(api, deployment["package"])
    assert (answer.status_code, answer.json()) == (200, deployment["connection"])


def test_a_package_that_is_stopped_is_started(api: Api) -> None:
    deployment = api.deploy(zip_package("stdlib_agent"))
    api.post("/v1/agents/stdlib_agent/stop")
    answer = ask(api, deployment["package"])
    assert (answer.status_code, answer.json()["status"]) == (200, "running")
    assert answer.json()["release"] == 1


def test_a_package_is_installed_without_a_start(api: Api) -> None:
    package = api.upload(zip_package("stdlib_agent"))
    assert ask(api, package["md5"], "?wait=60", start=False).status_code == 200
    agent = api.get("/v1/agents/stdlib_agent").json()
    assert (agent["status"], agent["desired"], agent["pid"]) == ("installed", "stopped", None)


def test_force_makes_a_new_release_of_the_same_package(api: Api) -> None:
    deployment = api.deploy(zip_package("stdlib_agent"))
    answer = ask(api, deployment["package"], "?wait=60", force=True)
    assert (answer.status_code, answer.json()["release"]) == (200, 2)


def test_the_package_itself_is_taken_with_the_options_as_query(api: Api) -> None:
    query = {"start": "false", "strategy": "replace", "wait": "60", "force": "no"}
    answer = api.post(
        "/v1/deployments", data=zip_package("stdlib_agent"), headers=ZIP, params=query
    )
    document = answer.json()
    assert (answer.status_code, document["start"], document["strategy"]) == (200, False, "replace")


def test_the_package_is_taken_as_a_form_with_the_options_as_fields(api: Api) -> None:
    files = {"file": ("a.zip", zip_package("stdlib_agent"), "application/zip")}
    answer = api.post(
        "/v1/deployments", files=files, data={"start": "false"}, params={"wait": "60"}
    )
    assert (answer.status_code, answer.json()["start"]) == (200, False)


# What is refused ----------------------------------------------------------------------------------


def test_an_unknown_package_is_to_be_uploaded(api: Api) -> None:
    problem(ask(api, "0" * 32), 404, "package-unknown")


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "package"),
        ({"package": "x"}, "package"),
        ({"package": 5}, "package"),
        ({"package": None}, "package"),
        ({"package": "0" * 32, "force": "perhaps"}, "force"),
        ({"package": "0" * 32, "colour": "red"}, "colour"),
        ([], "body"),
        ("text", "body"),
    ],
)
def test_a_field_that_breaks_a_rule_is_named(api: Api, body: Any, where: str) -> None:
    document = problem(api.post("/v1/deployments", json=body), 422, "request-invalid")
    assert [each["where"] for each in document["errors"]] == [where]


def test_all_fields_that_break_a_rule_are_named(api: Api) -> None:
    body = {"package": "x", "force": "perhaps", "start": []}
    document = problem(api.post("/v1/deployments", json=body), 422, "request-invalid")
    assert {each["where"] for each in document["errors"]} == {"package", "force", "start"}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"package": NaN,}', b"[" * 100_000])
def test_a_body_that_is_no_json_is_a_bad_request(api: Api, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    problem(api.post("/v1/deployments", data=body, headers=headers), 400, "bad-request")


def test_a_body_that_is_longer_than_any_request_is_a_bad_request(api: Api) -> None:
    problem(ask(api, "0" * 2_000_000), 400, "bad-request")


def test_a_body_of_another_type_is_unsupported(api: Api) -> None:
    answer = api.post("/v1/deployments", data="package=x", headers={"Content-Type": "text/plain"})
    problem(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize("strategy", ["blue-green", "REPLACE", "replace "])
def test_an_unknown_strategy_is_not_supported(api: Api, strategy: str) -> None:
    package = api.upload(zip_package("stdlib_agent"))
    problem(ask(api, package["md5"], strategy=strategy), 422, "strategy-unsupported")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"wait": "soon"}, "bad-request"),
        ({"wait": "-1"}, "bad-request"),
        ({"wait": "nan"}, "bad-request"),
        ({"force": "perhaps"}, "bad-request"),
        ({"start": "2"}, "bad-request"),
        ({"strategy": "blue-green"}, "strategy-unsupported"),
    ],
)
def test_a_refused_request_has_not_happened(api: Api, query: dict[str, str], code: str) -> None:
    newest = api.get("/v1/deployments?limit=1").json()["deployments"]
    data = zip_package("stdlib_agent", extra_files={"x.txt": str(query)})
    answer = api.post("/v1/deployments", data=data, headers=ZIP, params=query)
    problem(answer, 422 if code == "strategy-unsupported" else 400, code)
    assert api.get("/v1/deployments?limit=1").json()["deployments"] == newest


# How it fails -------------------------------------------------------------------------------------


def test_a_held_deployment_that_fails_answers_its_problem_with_the_whole_of_it(api: Api) -> None:
    package = api.upload(zip_package("missing_module"))
    answer = ask(api, package["md5"], "?wait=60")
    document = problem(answer, 422, "agent-not-healthy")
    deployment = document["deployment"]
    assert answer.headers["Location"] == f"/v1/deployments/{deployment['id']}"
    assert (deployment["status"], deployment["failure"]["code"]) == ("failed", document["code"])
    assert document["cause"] == deployment["failure"]["cause"]
    assert any("ModuleNotFoundError" in line for line in document["evidence"])
    assert deployment["steps"][-1]["outcome"] == "failed"


def test_a_deployment_that_failed_is_shown_like_any_other(api: Api) -> None:
    package = api.upload(zip_package("missing_module"))
    deployment = ask(api, package["md5"]).json()
    shown = api.get(f"/v1/deployments/{deployment['id']}", params={"wait": 60})
    assert (shown.status_code, shown.json()["status"]) == (200, "failed")
    assert shown.json()["failure"]["cause"]


def test_what_is_the_servers_fault_is_a_5xx(
    make_server: Callable[..., RunningServer], contract: Contract
) -> None:
    api = Api(make_server(max_agents=1), contract)
    api.deploy(zip_package("stdlib_agent", name="first"), start="false")
    second = zip_package("stdlib_agent", name="second")
    answer = api.post("/v1/deployments?wait=60", data=second, headers=ZIP)
    assert problem(answer, 503, "too-many-agents")["deployment"]["status"] == "failed"


# How it is watched and canceled -------------------------------------------------------------------


def test_a_look_is_held_until_there_is_news(api: Api) -> None:
    deployment = ask(api, api.upload(slow())["md5"]).json()
    path, seen = f"/v1/deployments/{deployment['id']}", 0
    counts = []
    while deployment["status"] in {"queued", "running"}:
        deployment = api.get(path, params={"wait": 30, "after": seen}).json()
        seen = sum(1 if step["ended_at"] is None else 2 for step in deployment["steps"])
        counts.append(seen)
    assert deployment["status"] == "succeeded"
    assert counts == sorted(set(counts[:-1])) + counts[-1:]
    assert len(counts) > 3


def test_a_wait_of_zero_answers_at_once(api: Api) -> None:
    deployment = ask(api, api.upload(slow())["md5"]).json()
    answer = api.get(f"/v1/deployments/{deployment['id']}", params={"wait": 0})
    assert answer.json()["status"] in {"queued", "running"}
    assert answer.elapsed.total_seconds() < 15


def test_a_running_deployment_is_canceled(api: Api) -> None:
    deployment = ask(api, api.upload(slow())["md5"]).json()
    wait_until(lambda: is_running(api, deployment["id"]))
    answer = api.post(f"/v1/deployments/{deployment['id']}/cancel")
    assert answer.status_code in {200, 202}
    over = api.get(f"/v1/deployments/{deployment['id']}", params={"wait": 30}).json()
    assert (over["status"], over["failure"]["code"]) == ("canceled", "deployment-canceled")
    problem(api.get("/v1/agents/slow_start"), 404, "agent-unknown")


def test_a_held_request_whose_deployment_is_canceled_before_it_begins_is_a_conflict(
    api: Api, pool: ThreadPoolExecutor
) -> None:
    first = ask(api, api.upload(slow())["md5"]).json()
    wait_until(lambda: is_running(api, first["id"]))
    second = api.upload(slow("2.0.0"))["md5"]
    held = pool.submit(ask, api, second, "?wait=60")
    queued = wait_until(
        lambda: [
            each
            for each in api.get("/v1/deployments", params={"limit": 1}).json()["deployments"]
            if each["package"] == second
        ]
    )
    answer = api.post(f"/v1/deployments/{queued[0]['id']}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
    document = problem(held.result(30), 409, "deployment-canceled")
    assert document["deployment"]["status"] == "canceled"
    assert api.get(f"/v1/deployments/{first['id']}?wait=30").json()["status"] == "succeeded"


def test_a_deployment_canceled_while_it_waits_for_the_agent_never_begins(api: Api) -> None:
    api.deploy(slow())
    api.post("/v1/agents/slow_start/restart", params={"wait": 0})  # holds the agent for 2 s
    queued = ask(api, api.upload(slow("2.0.0"))["md5"]).json()
    answer = api.post(f"/v1/deployments/{queued['id']}/cancel")
    assert answer.json()["status"] == "canceled"
    third = ask(api, api.upload(slow("3.0.0"))["md5"]).json()  # what waits is taken in its order
    over = api.get(f"/v1/deployments/{third['id']}", params={"wait": 60}).json()
    assert (over["status"], over["release"]) == ("succeeded", 2)
    assert api.get(f"/v1/deployments/{queued['id']}").json()["status"] == "canceled"


def test_a_deployment_that_is_over_stays_as_it_is_when_canceled(api: Api) -> None:
    deployment = api.deploy(zip_package("stdlib_agent"))
    answer = api.post(f"/v1/deployments/{deployment['id']}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")


@pytest.mark.parametrize("deployment_id", ["999999", "0", "-1", "x", "9" * 40, "1.0", "%20"])
@pytest.mark.parametrize("act", [False, True])
def test_an_unknown_deployment_is_not_found(api: Api, deployment_id: str, *, act: bool) -> None:
    path = f"/v1/deployments/{deployment_id}"
    answer = api.post(f"{path}/cancel") if act else api.get(path)
    problem(answer, 404, "deployment-unknown")


# Lists --------------------------------------------------------------------------------------------


def test_a_list_goes_on_where_its_cursor_says(api: Api) -> None:
    data = zip_package("stdlib_agent", name="listed")
    api.deploy(data, start="false")
    for _ in range(2):
        api.deploy(data, start="false", force="true")
    pages: list[list[int]] = []
    cursor = None
    while True:
        params = {"agent": "listed", "limit": 2, "cursor": cursor}
        page = api.get("/v1/deployments", params=params).json()
        assert page["count"] == len(page["deployments"])
        pages.append([int(each["id"]) for each in page["deployments"]])
        cursor = page["next"]
        if cursor is None:
            break
    assert [len(page) for page in pages] == [2, 1]
    ids = [each for page in pages for each in page]
    assert ids == sorted(set(ids), reverse=True)


@pytest.mark.parametrize(
    "query", ["limit=x", "limit=-1", "cursor=x", "cursor=-1", "cursor=%00", "limit=1e3"]
)
def test_a_list_is_not_asked_for_like_this(api: Api, query: str) -> None:
    problem(api.get(f"/v1/deployments?{query}"), 400, "bad-request")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_method_that_is_not_served_names_those_that_are(api: Api, method: str) -> None:
    answer = api.request(method, "/v1/deployments")
    problem(answer, 405, "method-not-allowed")
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))


# Held requests ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def narrow(
    tmp_path_factory: pytest.TempPathFactory, installer_cache: Path, contract: Contract
) -> Iterator[Api]:
    """The API of a server that holds one request at a time."""
    root, limits = tmp_path_factory.mktemp("n") / "state", {"waiting_requests": 1}
    with running_server(root, cache_dir=installer_cache, limits=limits) as server:
        yield Api(server, contract)


def is_full(api: Api, agent: str) -> bool:
    answer = api.get(f"{agent}/wait", params={"status": "quarantined", "timeout": 0})
    return answer.status_code == 429


def test_a_wait_beyond_the_number_of_places_is_answered_at_once(
    narrow: Api, pool: ThreadPoolExecutor
) -> None:
    api = narrow
    long = zip_package(
        "slow_start",
        replace={'START_SECONDS = "2"': 'START_SECONDS = "8"'},
        extra_files={"mark": uuid.uuid4().hex},  # or it were live already, should this be repeated
    )
    deployment = ask(api, api.upload(long)["md5"]).json()
    path = f"/v1/deployments/{deployment['id']}"
    wait_until(lambda: is_running(api, deployment["id"]))
    holding = pool.submit(api.get, path, params={"wait": 60})
    agent = "/v1/agents/slow_start"
    wait_until(lambda: is_full(api, agent))
    answer = api.get(path, params={"wait": 60})
    assert (answer.json()["status"], holding.done()) == ("running", False)
    busy = api.get(f"{agent}/wait", params={"status": "stopped", "timeout": 60})
    problem(busy, 429, "too-busy")
    assert busy.headers["Retry-After"] == "1"
    start = api.post(f"{agent}/start", params={"wait": 60})
    assert start.status_code in {202, 409}  # it has no release yet, if that was told in time
    assert not holding.done()
    assert holding.result(30).json()["status"] == "succeeded"


def test_a_request_is_held_no_longer_when_its_client_has_left(narrow: Api) -> None:
    narrow.deploy(zip_package("stdlib_agent"), start="false")
    agent = "/v1/agents/stdlib_agent"
    connection = http.client.HTTPConnection("127.0.0.1", narrow.server.port, timeout=10)
    headers = {"Authorization": f"Bearer {narrow.server.token}"}
    ask = partial(connection.request, "GET", f"{agent}/wait?status=running&timeout=120", "")
    ask(headers)

    def is_held() -> bool:
        if select.select([connection.sock], [], [], 0)[0]:  # answered: a look held the one place
            assert connection.getresponse().read()
            ask(headers)
        return is_full(narrow, agent)

    wait_until(is_held)
    connection.close()
    wait_until(lambda: not is_full(narrow, agent))
