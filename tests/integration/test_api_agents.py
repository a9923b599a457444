"""Agents over ``/v1``: shown, acted on, waited for, explained, removed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import requests

from tests.contracts import Api, Contract, problem
from tests.package_zips import zip_package
from tests.servers import RunningServer, wait_until

ONE = "/v1/agents/stdlib_agent"


@pytest.fixture
def agent(api: Api) -> Api:
    """The API of a server where stdlib_agent runs."""
    api.deploy(zip_package("stdlib_agent"))
    return api


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def test_an_agent_is_shown_with_all_that_is_known_of_it(agent: Api) -> None:
    shown = agent.get(ONE).json()
    assert (shown["name"], shown["status"], shown["desired"]) == (
        "stdlib_agent",
        "running",
        "running",
    )
    assert (shown["release"], shown["version"], shown["restarts"]) == (1, "1.0.0", 0)
    assert shown["url"] == f"http://127.0.0.1:{shown['port']}"
    assert requests.get(f"{shown['url']}/info", timeout=20).json()["pid"] == shown["pid"]
    assert (shown["health"]["healthy"], shown["last_error"]) == (True, "")


def test_an_agent_is_where_its_client_called_the_server(agent: Api) -> None:
    shown = agent.get(ONE, headers={"Host": "deploy.example:8080"}).json()
    assert shown["host"] == "deploy.example"
    assert shown["url"] == f"http://deploy.example:{shown['port']}"


def test_an_agent_on_an_address_of_ipv6_stands_in_brackets(agent: Api) -> None:
    shown = agent.get(ONE, headers={"Host": "[::1]:8080"}).json()
    assert shown["url"] == f"http://[::1]:{shown['port']}"


def test_a_list_of_agents_goes_on_where_its_cursor_says(api: Api) -> None:
    for name in ("c", "a", "b"):
        api.deploy(zip_package("stdlib_agent", name=name), start="false")
    first = api.get("/v1/agents", params={"limit": 2}).json()
    assert [each["name"] for each in first["agents"]] == ["a", "b"]
    rest = api.get("/v1/agents", params={"limit": 2, "cursor": first["next"]}).json()
    assert ([each["name"] for each in rest["agents"]], rest["next"]) == (["c"], None)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/wait",
        "/logs",
        "/why",
        "/releases",
        "/releases/1",
    ],
)
def test_nothing_is_known_of_an_unknown_agent(api: Api, path: str) -> None:
    document = problem(api.get(f"/v1/agents/nobody{path}"), 404, "agent-unknown")
    assert "nobody" in document["detail"]


@pytest.mark.parametrize("verb", ["start", "stop", "restart", "kill", "rollback"])
def test_an_unknown_agent_cannot_be_acted_on(api: Api, verb: str) -> None:
    problem(api.post(f"/v1/agents/nobody/{verb}"), 404, "agent-unknown")


@pytest.mark.parametrize("name", ["-x", "a b", "%2e%2e", "a%2Fb", "x" * 64, "a%0Ab", "%00"])
def test_what_is_no_name_is_no_address(api: Api, name: str) -> None:
    problem(api.get(f"/v1/agents/{name}"), 404, "route-unknown")


# Acts ---------------------------------------------------------------------------------------------


def test_a_stop_answers_when_the_process_is_gone(agent: Api) -> None:
    pid = agent.get(ONE).json()["pid"]
    answer = agent.post(f"{ONE}/stop")
    assert (answer.status_code, answer.json()["status"]) == (200, "stopped")
    assert (answer.json()["port"], answer.json()["pid"]) == (None, None)
    assert not psutil.pid_exists(pid)
    assert agent.get(ONE).json()["desired"] == "stopped"


def test_a_stop_of_a_stopped_agent_changes_nothing(agent: Api) -> None:
    first = agent.post(f"{ONE}/stop").json()
    assert agent.post(f"{ONE}/stop").json() == first


def test_a_start_answers_when_the_agent_serves(agent: Api) -> None:
    before = agent.get(ONE).json()
    agent.post(f"{ONE}/stop")
    answer = agent.post(f"{ONE}/start")
    assert (answer.status_code, answer.json()["port"]) == (200, before["port"])
    assert requests.get(f"{answer.json()['url']}/health", timeout=20).status_code == 200


def test_five_starts_at_once_start_one_process(agent: Api, pool: ThreadPoolExecutor) -> None:
    agent.post(f"{ONE}/stop")
    answers = list(pool.map(lambda _: agent.post(f"{ONE}/start"), range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["pid"] for answer in answers}) == 1


def test_a_restart_gives_a_new_process_on_the_same_port(agent: Api) -> None:
    before = agent.get(ONE).json()
    answer = agent.post(f"{ONE}/restart")
    assert (answer.status_code, answer.json()["port"]) == (200, before["port"])
    assert answer.json()["pid"] != before["pid"]


def test_a_kill_ends_the_process_and_it_stays_down(agent: Api) -> None:
    answer = agent.post(f"{ONE}/kill")
    assert (answer.status_code, answer.json()["pid"]) == (200, None)
    shown = agent.get(ONE).json()
    assert (shown["desired"], shown["pid"]) == ("stopped", None)


def test_a_kill_waits_for_nobody(api: Api, pool: ThreadPoolExecutor) -> None:
    long = zip_package(
        "slow_start",
        replace={
            'START_SECONDS = "2"': 'START_SECONDS = "60"',
            "start_seconds = 20": "start_seconds = 60",
        },
    )
    api.deploy(long, start="false")
    start = pool.submit(api.post, "/v1/agents/slow_start/start")
    wait_until(lambda: api.get("/v1/agents/slow_start").json()["pid"])
    began = time.monotonic()
    answer = api.post("/v1/agents/slow_start/kill")
    assert (answer.status_code, time.monotonic() - began < 20) == (200, True)
    problem(start.result(30), 422, "agent-not-healthy")


def test_what_is_not_done_within_the_wait_goes_on(api: Api) -> None:
    api.deploy(zip_package("slow_start"), start="false")
    answer = api.post("/v1/agents/slow_start/start", params={"wait": 0})
    assert (answer.status_code, answer.headers["Location"]) == (202, "/v1/agents/slow_start")
    shown = api.get("/v1/agents/slow_start/wait", params={"status": "running"})
    assert (shown.status_code, shown.json()["status"]) == (200, "running")


def test_a_start_that_fails_says_why(api: Api) -> None:
    api.deploy(zip_package("missing_module"), start="false")
    answer = api.post("/v1/agents/missing_module/start")
    document = problem(answer, 422, "agent-not-healthy")
    assert "missing module" in document["detail"]
    assert document["evidence"]
    assert document["hint"]


@pytest.mark.parametrize("wait", ["soon", "-1", "inf", "NaN"])
def test_a_wait_that_is_no_number_does_nothing(agent: Api, wait: str) -> None:
    problem(agent.post(f"{ONE}/stop", params={"wait": wait}), 400, "bad-request")
    assert agent.get(ONE).json()["status"] == "running"


# Waiting ------------------------------------------------------------------------------------------


def test_a_status_that_is_there_already_is_not_waited_for(agent: Api) -> None:
    answer = agent.get(f"{ONE}/wait")
    assert (answer.status_code, answer.elapsed.total_seconds() < 15) == (200, True)


def test_a_status_is_waited_for(agent: Api, pool: ThreadPoolExecutor) -> None:
    waiting = pool.submit(agent.get, f"{ONE}/wait", params={"status": "stopped", "timeout": 30})
    agent.post(f"{ONE}/stop")
    assert waiting.result(30).json()["status"] == "stopped"


@pytest.mark.parametrize("timeout", ["0", "0.2"])
def test_a_wait_ends_at_its_timeout(agent: Api, timeout: str) -> None:
    answer = agent.get(f"{ONE}/wait", params={"status": "stopped", "timeout": timeout})
    document = problem(answer, 408, "wait-timeout")
    assert document["cause"] == "stdlib_agent is running"
    assert answer.elapsed.total_seconds() < 15  # without one it would take 30 s


@pytest.mark.parametrize(
    "query", ["status=gone", "timeout=nan", "timeout=inf", "timeout=-1", "timeout=x"]
)
def test_a_wait_that_could_have_no_end_is_refused(agent: Api, query: str) -> None:
    problem(agent.get(f"{ONE}/wait?{query}"), 400, "bad-request")


# Why ----------------------------------------------------------------------------------------------


def test_there_is_nothing_to_explain_of_a_healthy_agent(agent: Api) -> None:
    shown = agent.get(f"{ONE}/why").json()
    assert (shown["status"], shown["cause"], shown["evidence"]) == ("running", "", [])


def test_why_an_agent_died_is_told_with_the_lines_that_show_it(api: Api) -> None:
    api.deploy(zip_package("missing_module"), start="false")
    api.post("/v1/agents/missing_module/start")
    shown = api.get("/v1/agents/missing_module/why").json()
    assert shown["status"] == "failed"
    assert "missing module" in shown["cause"]
    assert any("ModuleNotFoundError" in line for line in shown["evidence"])
    assert shown["hint"]


# Removal ------------------------------------------------------------------------------------------


def test_a_removed_agent_is_unknown(agent: Api) -> None:
    pid = agent.get(ONE).json()["pid"]
    answer = agent.request("DELETE", ONE)
    assert (answer.status_code, answer.content) == (204, b"")
    problem(agent.get(ONE), 404, "agent-unknown")
    problem(agent.request("DELETE", ONE), 404, "agent-unknown")
    assert not psutil.pid_exists(pid)


def test_data_is_kept_for_a_later_agent_of_the_name_if_asked_for(agent: Api) -> None:
    note = agent.server.state.agent_data("stdlib_agent") / "note.txt"
    note.write_text("mine")
    agent.request("DELETE", ONE, params={"keep_data": "true"})
    problem(agent.get(ONE), 404, "agent-unknown")
    assert note.read_text() == "mine"
    agent.deploy(zip_package("stdlib_agent"), start="false")
    assert note.read_text() == "mine"
    agent.request("DELETE", ONE)
    assert not note.exists()


def test_a_removal_that_is_not_understood_does_not_happen(agent: Api) -> None:
    problem(agent.request("DELETE", ONE, params={"keep_data": "perhaps"}), 400, "bad-request")
    assert agent.get(ONE).json()["status"] == "running"


def test_a_removal_that_takes_longer_than_the_wait_goes_on(api: Api) -> None:
    stubborn = zip_package("ignores_term")
    api.deploy(stubborn)
    answer = api.request("DELETE", "/v1/agents/ignores_term", params={"wait": 0})
    assert answer.status_code == 202
    pid = api.get("/v1/agents/ignores_term").json()["pid"]
    os.killpg(pid, signal.SIGKILL)
    wait_until(lambda: api.get("/v1/agents/ignores_term").status_code == 404)


def test_agent_host_goes_before_the_name_that_the_client_called(
    make_server: Callable[..., RunningServer], contract: Contract
) -> None:
    api = Api(make_server(agent_host="agents.example"), contract)
    deployment = api.deploy(zip_package("stdlib_agent"))
    assert deployment["connection"]["host"] == "agents.example"
    assert deployment["connection"]["url"].startswith("http://agents.example:")
