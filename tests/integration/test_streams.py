"""Streams over ``/v1``: deployments and the timeline as they go on, and who may listen."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
import requests

from tests.contracts import Api, problem
from tests.event_streams import Listener, listening
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server, wait_until

NAME = "streamed"


def submit(api: Api, **options: Any) -> str:
    """Ask for a deployment and give its id, while it goes on."""
    package = api.upload(zip_package("stdlib_agent", name=NAME))
    answer = api.post("/v1/deployments", json={"package": package["md5"], **options})
    assert answer.status_code == 202, answer.text
    deployment_id: str = answer.json()["id"]
    return deployment_id


def write_event(server: RunningServer) -> None:
    """Have a line written into the timeline."""
    server.client.upload(zip_package("stdlib_agent", name=NAME, version=str(time.monotonic())))


# Deployments --------------------------------------------------------------------------------------


def test_a_deployment_is_told_step_by_step_and_whole_at_its_end(api: Api) -> None:
    path = f"/v1/deployments/{submit(api)}"
    with listening(api.server, f"{path}/events") as stream:
        *steps, end = stream
    told = [(each.json["name"], each.json["outcome"]) for each in steps]
    whole = api.get(path).json()
    assert {each.kind for each in steps} == {"step"}
    assert told == [
        (step["name"], outcome) for step in whole["steps"] for outcome in ("running", "done")
    ]
    assert (end.kind, end.json) == ("end", whole)
    assert steps[1].json == whole["steps"][0]


STARTS_WHEN_TOLD = """
import os, time
while not os.path.exists(os.path.join(os.environ["ATOLL_AGENT_DATA_DIR"], "go")):
    time.sleep(0.02)
import runpy; runpy.run_path("main.py", run_name="__main__")
"""


def test_a_deployment_is_told_while_it_goes_on(api: Api) -> None:
    data = zip_package(
        "stdlib_agent",
        name=NAME,
        extra_files={"first.py": STARTS_WHEN_TOLD},
        replace={"[agent]": '[agent]\nentrypoint = "first.py"'},
    )
    package = api.upload(data)
    answer = api.post("/v1/deployments", json={"package": package["md5"]})
    with listening(api.server, f"/v1/deployments/{answer.json()['id']}/events") as stream:
        step = next(each for each in stream if each.json["name"] == "health_check")
        assert step.json["outcome"] == "running"
        (api.server.state.agent_data(NAME) / "go").touch()  # before that it cannot have gone on
        assert (next(stream).json["name"], list(stream)[-1].kind) == ("health_check", "end")


def test_a_deployment_is_taken_up_again_where_it_broke_off(api: Api) -> None:
    path = f"/v1/deployments/{submit(api)}/events"
    with listening(api.server, path) as stream:
        first = [next(stream), next(stream), next(stream)]
    with listening(api.server, path, after=first[-1].id) as stream:
        rest = list(stream)
    with listening(api.server, path) as stream:
        assert [*first, *rest] == list(stream)


def test_who_knows_the_end_is_told_not_to_come_again(api: Api) -> None:
    path = f"/v1/deployments/{submit(api)}/events"
    with listening(api.server, path) as stream:
        end = list(stream)[-1]
    answer = api.get(path, headers={"Last-Event-ID": end.id})
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 10, "1.end.", "1\u00bd"])
def test_an_id_that_no_stream_gave_out_is_refused(api: Api, last: str) -> None:
    headers = {"Last-Event-ID": last.encode("latin-1")}
    path = f"/v1/deployments/{submit(api)}/events"
    problem(api.get(path, headers=headers), 400, "bad-request")


def test_a_deployment_that_is_none_has_no_stream(api: Api) -> None:
    problem(api.get("/v1/deployments/987654/events"), 404, "deployment-unknown")


# The timeline -------------------------------------------------------------------------------------


def test_the_timeline_is_followed_from_now_on(api: Api) -> None:
    with listening(api.server, "/v1/events", follow=1) as stream, ThreadPoolExecutor(1) as pool:
        before = api.get("/v1/events", params={"limit": 1000}).json()["next"]
        heard = pool.submit(next, stream)
        write_event(api.server)
        event = heard.result(30)
    listed = api.get("/v1/events", params={"after": before}).json()["events"]
    assert event.json == listed[0]
    assert event.id == str(listed[0]["id"])


def test_a_followed_timeline_is_taken_up_after_any_event(api: Api) -> None:
    first = api.get("/v1/events", params={"limit": 1000}).json()["next"]
    for _ in range(3):
        write_event(api.server)
    listed = api.get("/v1/events", params={"after": first}).json()["events"]
    for place in range(3):
        after = str(listed[place]["id"] - 1)
        with listening(api.server, "/v1/events", follow=1, after=after) as stream:
            assert next(stream).json == listed[place]


def test_a_browser_asks_for_a_stream_by_what_it_accepts(api: Api) -> None:
    headers = {"Accept": "text/event-stream"}
    answer = api.get("/v1/events", headers=headers, params={"wait": "0.2"})
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_look_at_the_headers_of_a_stream_holds_nothing(api: Api) -> None:
    answer = api.request("HEAD", "/v1/events", params={"follow": 1})
    assert answer.headers["Content-Type"] == "text/event-stream"


def test_an_id_from_a_database_that_was_lost_is_told_as_a_gap(api: Api) -> None:
    with listening(api.server, "/v1/events", follow=1, after="99999999") as stream:
        gap = next(stream)
    assert (gap.kind, gap.json["after"]) == ("gap", 99999999)


def test_the_timeline_is_waited_for(api: Api) -> None:
    after = api.get("/v1/events", params={"limit": 1000}).json()["next"]
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(api.get, "/v1/events", params={"after": after, "wait": 30})
        time.sleep(0.3)  # it must not have answered by itself
        assert not held.done()
        write_event(api.server)
        assert held.result(20).json()["count"] >= 1


def test_a_wait_in_vain_ends_with_an_empty_page_and_the_same_cursor(api: Api) -> None:
    answer = api.get("/v1/events", params={"after": "99999999", "wait": "0.3"}).json()
    assert answer == {"events": [], "count": 0, "next": "99999999"}


def test_a_key_for_other_agents_hears_nothing_of_this_one(api: Api) -> None:
    wanted = {"name": "other", "scope": "read", "agents": ["other-*"]}
    key = api.post("/v1/keys", json=wanted).json()["key"]
    path = f"/v1/deployments/{submit(api)}/events"
    headers = {"Authorization": f"Bearer {key}"}
    problem(api.get(path, headers=headers), 404, "deployment-unknown")
    with listening(api.server, "/v1/events", follow=1, after="1", token=key, wait=2) as stream:
        write_event(api.server)
        assert [each for each in stream if each.kind != "gap"] == []


def test_a_revoked_key_ends_its_streams(api: Api) -> None:
    key = api.post("/v1/keys", json={"name": "short", "scope": "read"}).json()
    with listening(api.server, "/v1/events", follow=1, token=key["key"]) as stream:
        api.request("DELETE", f"/v1/keys/{key['id']}")
        began = time.monotonic()
        *_, last = stream
    assert (last.kind, last.json["code"]) == ("problem", "authentication-required")
    assert time.monotonic() - began < 15


# Bounds -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of its own that holds two requests of one key at once."""
    root = tmp_path_factory.mktemp("small") / "state"
    with running_server(root, limits={"waiting_requests": 3}) as server:
        yield server


@contextlib.contextmanager
def two_listening(server: RunningServer) -> Iterator[list[Listener]]:
    """Open two streams, once those of the test before have been noticed to be over."""
    with contextlib.ExitStack() as streams:
        opened = [listening(server, "/v1/events", patience=15, follow=1) for _ in range(2)]
        yield [streams.enter_context(each) for each in opened]


def test_beyond_the_bound_the_address_of_a_long_poll_is_named_that_works(
    small: RunningServer,
) -> None:
    small.client.deploy(zip_package("stdlib_agent", name=NAME))
    deployment = f"/v1/deployments/{small.client.deployments(agent=NAME)[0].id}"
    log = f"/v1/agents/{NAME}/logs"
    after = small.request("GET", log).json()["next"]
    streams = {
        "/v1/events?follow=1": "/v1/events?wait=60&after=",
        f"/v1/events?follow=1&agent={NAME}&after=7": f"/v1/events?wait=60&after=7&agent={NAME}",
        f"{deployment}/events": f"{deployment}?wait=60&after=0",
        f"{log}?follow=1&stream=stderr": f"{log}?stream=stderr&wait=60&tail=100",
        f"{log}?follow=1&after={after}": f"{log}?stream=stdout&wait=60&after={after}",
    }
    with two_listening(small):
        for stream, expected in streams.items():
            document = problem(small.request("GET", stream), 429, "too-busy")
            assert f"GET {expected}" in document["hint"]
            instead = document["hint"].split()[1]
            assert small.request("GET", instead).status_code == 200


def test_clients_that_left_free_their_places(small: RunningServer) -> None:
    for _ in range(2):
        with two_listening(small):
            pass


def test_silence_is_broken_by_heartbeats(small: RunningServer) -> None:
    with two_listening(small) as (stream, _):
        began = time.monotonic()
        assert stream.next_of_any_kind().kind == ":"
    assert time.monotonic() - began < 15


def test_streams_end_with_the_server_which_does_not_wait_for_them(small: RunningServer) -> None:
    with two_listening(small) as (stream, _):
        api = psutil.Process(small.api_pid())
        api.terminate()
        api.wait(30)
        with contextlib.suppress(requests.RequestException):
            list(stream)
        wait_until(small.is_ready)
    # waitress alone would wait 5 s for the threads, and say that
    assert "still running" not in (small.state.logs / "deployer.log").read_text()
