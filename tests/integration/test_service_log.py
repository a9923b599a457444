"""The server's own log, as supervisord keeps it: who asked for what, and nothing that is secret."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server, wait_until

NAME = "logged"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

Lines = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, installer_cache: Path) -> Iterator[Any]:
    """A server that logs JSON, where one agent was deployed by a request named `push-1`."""
    root = tmp_path_factory.mktemp("log") / "state"
    with running_server(root, cache_dir=installer_cache, log_format="json") as it:
        answer = it.request(
            "POST",
            "/v1/deployments?wait=60",
            data=zip_package("stdlib_agent", name=NAME),
            headers={"Content-Type": "application/zip", "X-Request-Id": "push-1"},
        )
        assert answer.status_code == 200
        yield it


@pytest.fixture
def lines(server: RunningServer) -> Lines:
    """Lines of the log that have these fields; supervisord writes what it reads, so soon."""

    def read(**fields: Any) -> list[dict[str, Any]]:
        text = (server.state.logs / "deployer.log").read_text()
        read = [json.loads(line) for line in text.splitlines()]
        return [each for each in read if all(each.get(k) == v for k, v in fields.items())]

    def found(**fields: Any) -> list[dict[str, Any]]:
        wait_until(lambda: read(**fields), what=f"a line with {fields}")
        return read(**fields)

    return found


def raw_request(server: RunningServer, head: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head)
        return connection.recv(65536)


def test_every_line_is_an_object_with_time_level_logger_and_message(lines: Lines) -> None:
    for line in lines():
        assert TIME.fullmatch(line["time"])
        assert {"level", "logger", "message"} <= line.keys()


def test_a_request_is_told_with_who_asked_for_what_and_how_it_ended(
    server: RunningServer, lines: Lines
) -> None:
    server.request("GET", f"/v1/agents/{NAME}?x=1", headers={"X-Request-Id": "look-1"})
    (line,) = lines(request_id="look-1")
    key = server.client.keys()[0].id
    assert line["message"] == "GET /v1/agents/{agent} 200"
    assert (line["method"], line["route"]) == ("GET", "/v1/agents/{agent}")
    assert (line["path"], line["status"]) == (f"/v1/agents/{NAME}", 200)
    assert (line["caller"], line["agent"]) == (f"key:{key}", NAME)
    assert 0 < line["seconds"] < 60


def test_who_is_not_let_in_is_told_without_a_caller(server: RunningServer, lines: Lines) -> None:
    headers = {"X-Request-Id": "wrong-1", "Authorization": "Bearer wrong-key-that-nobody-has"}
    server.request("GET", "/v1/agents", headers=headers)
    (line,) = lines(request_id="wrong-1")
    assert line["status"] == 401
    assert "caller" not in line


def test_no_key_and_no_query_gets_into_the_log(server: RunningServer, lines: Lines) -> None:
    shown = {
        "Authorization": "Bearer shown-in-a-header",
        "X-API-Key": "shown-as-api-key",
        "Cookie": "atoll_session=shown-in-a-cookie",
        "X-Request-Id": "secret-1",
    }
    server.request("GET", "/v1/agents?token=shown-in-the-query", headers=shown)
    lines(request_id="secret-1")
    text = (server.state.logs / "deployer.log").read_text()
    assert server.token not in text
    assert "shown-" not in text


def test_all_lines_of_a_deployment_carry_its_id_and_its_agent(lines: Lines) -> None:
    (started,) = lines(event="deployment.started", agent=NAME)
    told = lines(deployment=started["deployment"])
    assert {line["agent"] for line in told} == {NAME}
    steps = [line["step"] for line in told if "step" in line]
    assert steps[:3] == ["validate", "unpack", "install"]
    assert [line["event"] for line in told if "event" in line][-1] == "deployment.succeeded"
    assert all(line["seconds"] > 0 for line in told if "step" in line)


def test_the_request_that_asked_for_a_deployment_is_told_with_its_id(lines: Lines) -> None:
    (queued,) = lines(request_id="push-1", logger="deployer.worker")
    (started,) = lines(event="deployment.started", agent=NAME)
    assert queued["deployment"] == started["deployment"]
    assert queued["caller"].startswith("key:")


def test_what_went_wrong_is_a_warning(server: RunningServer, lines: Lines) -> None:
    package = zip_package("missing_module", name="broken")
    headers = {"Content-Type": "application/zip"}
    server.request("POST", "/v1/deployments?wait=60", data=package, headers=headers)
    (event,) = lines(event="deployment.failed")
    (step,) = lines(outcome="failed")
    assert (event["level"], step["level"]) == ("warning", "warning")
    assert event["deployment"] == step["deployment"]


def test_what_a_request_has_done_in_other_threads_carries_its_id(
    server: RunningServer, lines: Lines
) -> None:
    server.request("POST", f"/v1/agents/{NAME}/restart", headers={"X-Request-Id": "again-1"})
    (line,) = lines(request_id="again-1", event="agent.restarting")
    assert (line["agent"], line["level"]) == (NAME, "info")


def test_a_stream_is_told_once_its_client_has_left(server: RunningServer, lines: Lines) -> None:
    headers = {"X-Request-Id": "stream-1", "Authorization": f"Bearer {server.token}"}
    url = f"{server.url}/v1/events?follow=1"
    with requests.get(url, headers=headers, stream=True, timeout=30) as answer:
        assert answer.status_code == 200
        metrics = server.request("GET", "/metrics").text
        assert "\natoll_deployer_http_requests_in_flight 2.0\n" in metrics
    (line,) = lines(request_id="stream-1")
    assert line["route"] == "/v1/events"


def test_health_checks_leave_no_lines(server: RunningServer, lines: Lines) -> None:
    for path in ("/livez", "/readyz", "/health", "/metrics"):
        server.request("GET", path, headers={"X-Request-Id": "routine-1"})
    server.request("GET", "/v1/server", headers={"X-Request-Id": "routine-1"})
    assert [line["route"] for line in lines(request_id="routine-1")] == ["/v1/server"]


def test_a_line_end_in_a_path_forges_no_line(server: RunningServer, lines: Lines) -> None:
    path = "/x%0d%0a%7B%22forged%22:true%7D%0a%E2%80%A8"
    server.request("GET", path, headers={"X-Request-Id": "forge-1"})
    (line,) = lines(request_id="forge-1")
    assert (line["route"], line["path"]) == ("none", '/x\r\n{"forged":true}\n\u2028')


def test_an_id_that_is_none_is_replaced(server: RunningServer, lines: Lines) -> None:
    head = b"GET /v1/ports HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: a\tb [forged=1]\r\n\r\n"
    assert b" 401 " in raw_request(server, head).splitlines()[0]
    line = lines(route="none", path="/v1/ports")[-1]
    assert re.fullmatch(r"[0-9a-f]{32}", line["request_id"])


def test_a_request_that_cannot_be_read_is_told_too(server: RunningServer, lines: Lines) -> None:
    assert (
        b" 400 " in raw_request(server, b"GET /\x01 \x02 HTTP/9.9\r\nbad\r\n\r\n").splitlines()[0]
    )
    (line,) = lines(method="OTHER", status=400)
    assert re.fullmatch(r"[0-9a-f]{32}", line["request_id"])


def test_text_is_the_default_and_a_line_end_forges_nothing_there(
    shared_server: RunningServer,
) -> None:
    path = "/y%0a2026-01-01T00:00:00.000Z%20INFO%20deployer.worker%20forged"
    shared_server.request("GET", path, headers={"X-Request-Id": "forge-2"})

    def told() -> list[str]:
        text = (shared_server.state.logs / "deployer.log").read_text()
        return [line for line in text.splitlines() if "forge-2" in line or "forged" in line]

    (line,) = wait_until(told)
    assert re.fullmatch(
        TIME.pattern + r" INFO deployer\.api\.accesses \[request_id=forge-2 caller=key:\w+"
        r' method=GET route=none path="/y\\n2026.* forged" status=404 seconds=\S+'
        r" source=127\.0\.0\.1\] GET none 404",
        line,
    )
