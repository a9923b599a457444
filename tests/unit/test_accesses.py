"""Requests as they end: one line each, and figures of few series."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from deployer import log_fields
from deployer.api import accesses
from deployer.api.proxies import Environ
from deployer.instruments import Instruments

COUNT = "atoll_deployer_http_requests_seconds_count"
IN_FLIGHT = "atoll_deployer_http_requests_in_flight"
LOGGER = "deployer.api.accesses"


def environ(method: str = "GET", path: str = "/v1/agents") -> Environ:
    return {"REQUEST_METHOD": method, "PATH_INFO": path, "REMOTE_ADDR": "192.0.2.7"}


def app_of(
    body: Callable[[], Iterable[bytes]], status: str = "200 OK", route: str = "/v1/agents"
) -> Any:
    def app(given: Environ, start_response: Any) -> Iterable[bytes]:
        given[accesses.ROUTE] = route
        log_fields.note(request_id="r1", caller="key:1")
        start_response(status, [])
        return body()

    return app


def call(app: Any, instruments: Instruments, given: Environ) -> Iterable[bytes]:
    return accesses.wrap(app, instruments)(given, lambda *_: None)


def fields(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [
        getattr(each, log_fields.EXTRA) | {"level": each.levelname}
        for each in caplog.records
        if each.name == LOGGER
    ]


@pytest.fixture
def instruments() -> Instruments:
    return Instruments()


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger=LOGGER)


def test_a_request_leaves_one_line(
    instruments: Instruments, caplog: pytest.LogCaptureFixture
) -> None:
    call(app_of(lambda: [b"{}"]), instruments, environ())
    (line,) = fields(caplog)
    assert line.pop("seconds") >= 0
    assert line == {
        "level": "INFO",
        "method": "GET",
        "route": "/v1/agents",
        "path": "/v1/agents",
        "status": 200,
        "source": "192.0.2.7",
    }


def test_a_request_counts_under_the_address_of_its_route(instruments: Instruments) -> None:
    call(app_of(list, "404 Not Found", "/v1/agents/{agent}"), instruments, environ())
    labels = {"method": "GET", "route": "/v1/agents/{agent}", "status": "404"}
    assert instruments.registry.get_sample_value(COUNT, labels) == 1


def test_whatever_strangers_ask_for_is_one_series(instruments: Instruments) -> None:
    def app(_given: Environ, start_response: Any) -> list[bytes]:
        start_response("404 Not Found", [])
        return []

    for number in range(20):
        call(app, instruments, environ(f"M{number}", f"/none/{number}"))
    labels = {"method": "OTHER", "route": "none", "status": "404"}
    assert instruments.registry.get_sample_value(COUNT, labels) == 20


def test_a_streaming_request_is_in_flight_until_its_body_is_closed(
    instruments: Instruments, caplog: pytest.LogCaptureFixture
) -> None:
    closed = []

    def stream() -> Iterator[bytes]:
        try:
            yield b"1"
            yield b"2"
        finally:
            closed.append(True)

    body: Any = call(app_of(stream), instruments, environ())
    parts = iter(body)
    assert next(parts) == b"1"
    assert log_fields.current()["request_id"] == "r1"
    assert instruments.registry.get_sample_value(IN_FLIGHT) == 1
    assert fields(caplog) == []
    body.close()
    assert closed == [True]
    assert instruments.registry.get_sample_value(IN_FLIGHT) == 0
    assert len(fields(caplog)) == 1
    assert log_fields.current() == {}


def test_a_request_that_breaks_the_application_is_told_and_over(
    instruments: Instruments, caplog: pytest.LogCaptureFixture
) -> None:
    def app(_given: Environ, _start_response: Any) -> list[bytes]:
        raise SystemExit

    with pytest.raises(SystemExit):
        call(app, instruments, environ())
    assert [(line["status"], line["level"]) for line in fields(caplog)] == [(500, "WARNING")]
    assert instruments.registry.get_sample_value(IN_FLIGHT) == 0


@pytest.mark.parametrize(
    ("route", "status", "level"),
    [("/livez", "200 OK", "DEBUG"), ("/readyz", "503 Not", "WARNING"), ("/v1", "200 OK", "INFO")],
)
def test_health_checks_are_worth_a_line_only_when_they_are_bad(
    instruments: Instruments, caplog: pytest.LogCaptureFixture, route: str, status: str, level: str
) -> None:
    call(app_of(list, status, route), instruments, environ())
    assert [line["level"] for line in fields(caplog)] == [level]


def test_a_path_is_told_as_it_was_meant_and_not_at_any_length(
    instruments: Instruments, caplog: pytest.LogCaptureFixture
) -> None:
    path = "/héron/".encode().decode("latin-1") + "a" * 10_000
    call(app_of(list), instruments, environ(path=path))
    (line,) = fields(caplog)
    assert line["path"].startswith("/héron/aaa")
    assert len(line["path"]) == 200
