"""The server itself over ``/v1``: ports, events, capacity, health, metrics, contract and pages."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

import deployer
from tests.contracts import Api, Contract, problem
from tests.package_zips import zip_package
from tests.servers import AGENT_PORTS, RunningServer, wait_until

NAME = "machinist"


@pytest.fixture(scope="module")
def api(shared_server: RunningServer, contract: Contract) -> Iterator[Api]:
    """The API of a server where one agent runs."""
    api = Api(shared_server, contract)
    api.deploy(zip_package("stdlib_agent", name=NAME))
    yield api
    api.request("DELETE", f"/v1/agents/{NAME}")


# Ports --------------------------------------------------------------------------------------------


def test_a_running_agents_port_is_leased(api: Api) -> None:
    shown = api.get("/v1/ports").json()
    agent = api.get(f"/v1/agents/{NAME}").json()
    assert [(lease["port"], lease["agent"]) for lease in shown["leases"]] == [(agent["port"], NAME)]
    assert shown["leases"][0]["program"] == agent["program"]


def test_the_range_is_told_with_what_is_free_of_it(api: Api) -> None:
    shown = api.get("/v1/ports").json()
    assert shown["first"] == api.server.base_port
    assert shown["last"] - shown["first"] + 1 == AGENT_PORTS
    assert shown["free"] == AGENT_PORTS - len(shown["leases"]) - len(shown["foreign"])


def test_who_else_listens_in_the_range_is_named(api: Api) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", api.server.base_port + AGENT_PORTS - 1))
        stranger.listen()
        foreign = api.get("/v1/ports").json()["foreign"]
    mine = [each for each in foreign if each["port"] == api.server.base_port + AGENT_PORTS - 1]
    assert len(mine) == 1
    assert str(os.getpid()) in mine[0]["holder"]


# Events -------------------------------------------------------------------------------------------


def test_what_happened_to_an_agent_is_told_in_its_order(api: Api) -> None:
    events = api.get("/v1/events", params={"agent": NAME}).json()["events"]
    kinds = [each["kind"] for each in events]
    assert kinds.index("deployment.started") < kinds.index("deployment.succeeded")
    assert {each["agent"] for each in events} == {NAME}
    assert [each["id"] for each in events] == sorted(each["id"] for each in events)


def test_the_timeline_goes_on_behind_what_is_known(api: Api) -> None:
    whole = api.get("/v1/events", params={"agent": NAME}).json()["events"]
    first = api.get("/v1/events", params={"agent": NAME, "limit": 1}).json()
    rest = api.get("/v1/events", params={"agent": NAME, "after": first["next"]}).json()
    assert first["events"] + rest["events"] == whole


def test_the_end_of_the_timeline_is_where_to_go_on_later(api: Api) -> None:
    last = api.get("/v1/events", params={"limit": 1000}).json()["events"][-1]["id"]
    page = api.get("/v1/events", params={"after": last}).json()
    assert (page["events"], page["next"]) == ([], str(last))


@pytest.mark.parametrize("query", ["after=x", "after=-1", "limit=x", "after=9" + "9" * 30])
def test_the_timeline_is_not_asked_for_like_this(api: Api, query: str) -> None:
    problem(api.get(f"/v1/events?{query}"), 400, "bad-request")


# The server ---------------------------------------------------------------------------------------


def test_the_server_tells_what_it_is(api: Api) -> None:
    shown = api.get("/v1/server").json()
    assert shown["version"] == deployer.__version__
    assert (shown["api_port"], shown["auth"]) == (api.server.port, "token")
    assert (shown["agents"], shown["max_agents"]) == (1, AGENT_PORTS)
    assert shown["supervisord"] == "own"


def test_a_server_that_is_up_is_alive_ready_and_healthy(api: Api) -> None:
    assert api.get("/livez").json() == {"status": "alive"}
    ready = api.get("/readyz").json()
    assert (ready["status"], {check["ok"] for check in ready["checks"]}) == ("ready", {True})
    assert api.get("/health").json() == {
        "status": "healthy",
        "version": deployer.__version__,
        "auth_enabled": True,
        "isolation": api.get("/v1/server").json()["isolation"]["level"],
        "metrics_enabled": True,
    }


def test_only_those_who_see_an_agent_read_that_it_is_in_quarantine(
    make_server: Callable[..., RunningServer],
) -> None:
    server = make_server()
    server.client.deploy(zip_package("stdlib_agent", name="b-1"))
    keys = {
        pattern: server.client.create_key("looks", agents=[pattern]).key
        for pattern in ("a-*", "b-*")
    }
    with contextlib.closing(sqlite3.connect(server.state.database)) as database, database:
        database.execute("UPDATE agents SET desired = 'nonsense' WHERE name = 'b-1'")

    def detail(**headers: str) -> str:
        answer = requests.get(f"{server.url}/readyz", headers=headers, timeout=10).json()
        return next(each["detail"] for each in answer["checks"] if each["name"] == "agents")

    wait_until(lambda: detail() == "1 in quarantine")
    assert detail(Authorization="Bearer wrong") == "1 in quarantine"
    assert detail(Authorization=f"Bearer {keys['a-*']}") == "none in quarantine"
    assert detail(Authorization=f"Bearer {keys['b-*']}").startswith("in quarantine: b-1: ")


def test_a_server_whose_supervisord_does_not_answer_is_alive_but_not_ready(
    make_server: Callable[..., RunningServer], contract: Contract
) -> None:
    server = make_server()
    api = Api(server, contract)
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(40) as pool:  # more than there are threads
            answers = list(pool.map(lambda _: api.get("/readyz"), range(40)))
        assert api.get("/livez").status_code == 200
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    seconds = [answer.elapsed.total_seconds() for answer in answers]
    assert sorted(seconds)[-2] < max(seconds) / 2  # one looks, and the others need not wait for it
    assert {answer.status_code for answer in answers} == {503}
    answer = max(answers, key=lambda answer: answer.elapsed)
    checks = {check["name"]: check["ok"] for check in answer.json()["checks"]}
    assert (answer.status_code, answer.json()["status"]) == (503, "not ready")
    assert not checks["supervisord"]
    wait_until(server.is_ready)


def test_the_metrics_are_prometheus_text(api: Api) -> None:
    answer = api.get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert re.search(r"^# TYPE atoll_deployer_agent_up gauge$", answer.text, re.MULTILINE)


# Contract and pages -------------------------------------------------------------------------------


def test_the_contract_is_served(api: Api) -> None:
    answer = api.get("/openapi.json")
    assert (answer.headers["Content-Type"], answer.json()["openapi"]) == (
        "application/json",
        "3.1.0",
    )


def test_the_contract_is_served_as_a_page_that_needs_nobody_else(api: Api) -> None:
    answer = api.get("/docs")
    assert answer.headers["Content-Type"].startswith("text/html")
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", answer.text)
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "/v1/deployments" in answer.text


@pytest.mark.parametrize("path", ["/livez", "/v1/agents", "/v1/server", "/openapi.json", "/docs"])
def test_head_answers_like_get_without_a_body(api: Api, path: str) -> None:
    get, head = api.get(path), api.request("HEAD", path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Type"] == get.headers["Content-Type"]


@pytest.mark.parametrize(
    "path", ["/-", "/v1", "/v2/agents", "/v1/agents/", "/v1//agents", "/favicon"]
)
def test_what_is_nowhere_is_not_found(api: Api, path: str) -> None:
    assert "/openapi.json" in problem(api.get(path), 404, "route-unknown")["hint"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/livez"), ("DELETE", "/v1/agents"), ("GET", "/deploy"), ("PUT", "/supervisor/")],
)
def test_a_method_that_is_not_served_is_not_allowed(api: Api, method: str, path: str) -> None:
    answer = api.request(method, path)
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["Allow"]
