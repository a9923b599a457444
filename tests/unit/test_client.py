"""The client against a small real HTTP server that answers by the contract, or breaks it."""

from __future__ import annotations

import hashlib
import json
import re
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deployer.client import Client, Deployment, Step, deployment_of, retries
from deployer.client.archives import open_archive
from deployer.client.sessions import Session
from deployer.client.streams import ServerSentEvent, events
from deployer.errors import (
    AgentUnknownError,
    AuthenticationRequiredError,
    DeployerError,
    DeploymentAbandonedError,
    DeploymentCanceledError,
    NoFreePortError,
    PackageInvalidError,
    Problem,
    ResolutionError,
    ServerUnreachableError,
    TooBusyError,
    TooManyAttemptsError,
    WaitTimeoutError,
)
from tests.small_servers import (
    Answer,
    Hangup,
    Request,
    Server,
    client_of,
    one_after_another,
    serving,
)

ZIP = b"PK\x05\x06" + bytes(18)
MD5 = hashlib.md5(ZIP).hexdigest()  # noqa: S324 - the protocol's name for a package
SHA256 = hashlib.sha256(ZIP).hexdigest()


def problem(status: int, code: str, **members: Any) -> Answer:
    document = {"type": "about:blank", "title": code, "status": status, "code": code}
    return Answer(status, {**document, **members}, content_type="application/problem+json")


def step(name: str, outcome: str = "done", message: str = "") -> dict[str, Any]:
    return {"name": name, "outcome": outcome, "message": message, "duration_seconds": 0.5}


def deployment(status: str, *steps: dict[str, Any], **members: Any) -> dict[str, Any]:
    document = {"id": "d1", "agent": "greeter", "status": status, "steps": list(steps)}
    return {**document, "package": MD5, "sha256": SHA256, "failure": None, **members}


CONNECTION = {
    "name": "greeter",
    "status": "running",
    "host": "127.0.0.1",
    "port": 8100,
    "url": "http://127.0.0.1:8100",
    "pid": 7,
    "release": 1,
    "version": "1.0",
    "checksum": MD5,
}
BUSY = problem(429, "too-busy", detail="cannot hold another request: all places are taken")
UNKNOWN = problem(404, "package-unknown", detail="cannot deploy it: upload it first")


# Errors ------------------------------------------------------------------------------------------


def test_a_problem_document_becomes_the_servers_own_error() -> None:
    answer = problem(
        503,
        "no-free-port",
        detail="cannot start greeter: ports 8100-8109 are taken",
        cause="no free port",
        hint="remove an agent",
        evidence=["8100 nginx"],
        request_id="r1",
    )
    with client_of(lambda _: answer) as (client, _), pytest.raises(NoFreePortError) as caught:
        client.agent("greeter")
    error = caught.value
    assert error.detail == "cannot start greeter: ports 8100-8109 are taken"
    assert (error.cause, error.hint, error.evidence) == (
        "no free port",
        "remove an agent",
        ("8100 nginx",),
    )
    assert error.document["request_id"] == "r1"


def test_every_single_problem_of_a_package_arrives() -> None:
    listed = [{"where": "a.toml", "message": "x"}, {"where": "", "message": "y"}]
    answer = problem(422, "package-invalid", detail="cannot take it", errors=listed)
    with client_of(lambda _: answer) as (client, _), pytest.raises(PackageInvalidError) as caught:
        client.upload(ZIP)
    assert caught.value.problems == (Problem("a.toml", "x"), Problem("", "y"))


def test_a_code_of_a_newer_server_is_still_an_error_with_its_sentence() -> None:
    answer = problem(418, "teapot", detail="cannot brew: short and stout")
    with (
        client_of(lambda _: answer) as (client, _),
        pytest.raises(DeployerError, match="short and stout"),
    ):
        client.health()


def test_a_server_that_is_not_there_is_told_with_its_address() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with (
            Client(url) as client,
            pytest.raises(ServerUnreachableError, match=f"{url}: connection refused"),
        ):
            client.health()


def test_a_server_that_does_not_answer_is_given_up_after_its_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            Client(url, timeout_seconds=0.2) as client,
            pytest.raises(ServerUnreachableError, match="did not answer in time"),
        ):
            client.health()


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, text="<html>hello</html>", content_type="text/html"),
        Answer(200, media=["not", "an", "object"]),
        Answer(200, media={"name": "greeter"}),
        Answer(404, text="nginx", content_type="text/html"),
        Answer(301, text="", headers={"Location": "https://elsewhere/"}),
    ],
)
def test_whoever_is_no_deployment_server_is_told_from_one(answer: Answer) -> None:
    with client_of(lambda _: answer) as (client, _), pytest.raises(ServerUnreachableError):
        client.agent("greeter")


def test_a_proxys_own_401_asks_for_a_token_too() -> None:
    answer = Answer(401, text="no", content_type="text/plain")
    with client_of(lambda _: answer) as (client, _), pytest.raises(AuthenticationRequiredError):
        client.agents()


@pytest.mark.parametrize("url", ["", "http://", "ftp://host", "http://host:99999", "http://[::1"])
def test_an_address_that_is_none_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(ServerUnreachableError, match="address"):
        Client(url)


def test_a_token_that_no_header_can_carry_is_refused() -> None:
    with pytest.raises(AuthenticationRequiredError, match="characters"):
        Client("http://127.0.0.1:1", token="a\r\nX-Evil: 1")


@pytest.mark.parametrize("name", ["..", "a/b", "", "?x"])
def test_a_name_that_would_lead_elsewhere_is_not_sent(name: str) -> None:
    with client_of(lambda _: Answer()) as (client, server):
        with pytest.raises(AgentUnknownError):
            client.remove(name)
        assert server.requests == []


# Requests ----------------------------------------------------------------------------------------


def test_the_token_travels_as_a_bearer_whatever_netrc_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with client_of(lambda _: Answer(media={"status": "healthy"}), token="t0ken\n") as (
        client,
        seen,
    ):
        client.health()
    assert seen.requests[0].headers["Authorization"] == "Bearer t0ken"


def test_loopback_never_goes_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with client_of(lambda _: Answer(media={"status": "healthy"})) as (client, _):
        assert client.health().status == "healthy"


def test_reading_is_tried_again_when_the_connection_breaks() -> None:
    respond = one_after_another(Hangup(), Answer(media={"status": "healthy"}))
    with client_of(respond) as (client, server):
        assert client.health().status == "healthy"
        assert len(server.requests) == 2


def test_reading_is_tried_again_when_a_proxy_finds_nobody() -> None:
    away = Answer(502, text="bad gateway", content_type="text/html")
    respond = one_after_another(away, Answer(media={"status": "healthy"}))
    with client_of(respond) as (client, _):
        assert client.health().status == "healthy"


def test_reading_is_given_up_after_three_times() -> None:
    with client_of(lambda _: Hangup()) as (client, server):
        with pytest.raises(ServerUnreachableError, match="the connection broke off"):
            client.health()
        assert len(server.requests) == 3


def test_the_servers_own_503_is_not_asked_again() -> None:
    answer = problem(503, "supervisord-unreachable", detail="cannot ask supervisord: it is away")
    with client_of(lambda _: answer) as (client, server):
        with pytest.raises(DeployerError):
            client.agents()
        assert len(server.requests) == 1


def keys_sent(server: Server) -> list[str]:
    return [each.headers.get("Idempotency-Key", "") for each in server.requests]


def test_an_act_that_is_sent_again_carries_the_key_that_it_was_sent_with() -> None:
    with client_of(one_after_another(Hangup(), Answer(media=CONNECTION))) as (client, server):
        client.restart("greeter")
        client.restart("greeter")
        first, again, other = keys_sent(server)
    assert first == again != other
    assert re.fullmatch('"[0-9a-f-]{36}"', first)


def test_an_act_may_be_given_the_key_of_one_before() -> None:
    with client_of(lambda _: Answer(media=CONNECTION)) as (client, server):
        client.start("greeter", key="mine")
        client.deploy(ZIP, key="yours")
        assert keys_sent(server) == ['"mine"', '"yours"']


def test_an_act_without_a_key_is_never_sent_twice() -> None:
    with serving(lambda _: Hangup()) as server:
        session = Session(server.url)
        with pytest.raises(ServerUnreachableError):
            session.call("POST", "/v1/agents/greeter/restart")
        assert len(server.requests) == 1


def test_an_upload_that_broke_off_begins_anew(tmp_path: Path) -> None:
    package = tmp_path / "p.zip"
    package.write_bytes(ZIP)
    answers = one_after_another(Hangup(), Answer(201, {"md5": MD5, "sha256": SHA256}))
    with client_of(answers) as (client, server):
        client.upload(package)
        assert [each.body for each in server.requests] == [ZIP, ZIP]


def test_what_is_gone_when_its_removal_is_sent_again_was_removed_by_it() -> None:
    gone = problem(404, "agent-unknown", detail="No such agent: greeter")
    with client_of(one_after_another(Hangup(), gone)) as (client, _):
        client.remove("greeter")
    with client_of(lambda _: gone) as (client, _), pytest.raises(AgentUnknownError):
        client.remove("greeter")


def test_a_removal_that_takes_longer_is_waited_for_until_the_agent_is_gone() -> None:
    there = Answer(200, CONNECTION)
    gone = problem(404, "agent-unknown", detail="No such agent: greeter")
    answers = one_after_another(Answer(202, text=""), there, gone)
    with client_of(answers) as (client, server):
        client.remove("greeter")
        assert server.calls == [
            "DELETE /v1/agents/greeter?keep_data=false&wait=60",
            *["GET /v1/agents/greeter"] * 2,
        ]


def test_a_release_that_is_still_being_deleted_is_not_gone() -> None:
    answers = one_after_another(Answer(202, text=""), Answer(200, {"number": 2}))
    with (
        client_of(answers) as (client, server),
        pytest.raises(WaitTimeoutError, match="release 2 of greeter is removed"),
    ):
        client.delete_release("greeter", 2, wait_seconds=0)
    assert server.calls[0] == "DELETE /v1/agents/greeter/releases/2?wait=0"


def test_a_removal_that_does_not_come_to_its_end_is_no_removal() -> None:
    answers = one_after_another(Answer(202, text=""), Answer(200, CONNECTION))
    with (
        client_of(answers) as (client, _),
        pytest.raises(WaitTimeoutError, match="greeter is removed: after 0 s it is still there"),
    ):
        client.remove("greeter", wait_seconds=0)


@pytest.mark.parametrize(
    "put_off",
    [
        problem(429, "too-busy", detail="cannot hold another request"),
        problem(409, "idempotency-key-in-use", detail="cannot do it again"),
        Answer(503, text="starting", content_type="text/plain"),
    ],
    ids=["busy", "in-use", "proxy"],
)
def test_a_server_that_says_when_to_ask_again_is_asked_then(put_off: Answer) -> None:
    answer = replace(put_off, headers={"Retry-After": "0"})
    with client_of(one_after_another(answer, answer, Answer(media=CONNECTION))) as (client, server):
        assert client.start("greeter").pid == 7
        assert len(server.requests) == 3
        assert len(set(keys_sent(server))) == 1


@pytest.mark.parametrize("seconds", ["31", "Wed, 21 Oct 2026 07:28:00 GMT", "-1", "1e3"])
def test_a_server_that_asks_for_too_much_patience_is_not_waited_for(seconds: str) -> None:
    answer = replace(BUSY, headers={"Retry-After": seconds})
    with client_of(lambda _: answer) as (client, server):
        with pytest.raises(TooBusyError):
            client.start("greeter")
        assert len(server.requests) == 1


def test_a_wrong_key_is_not_tried_again_and_again() -> None:
    answer = problem(429, "too-many-attempts", detail="cannot let you in")
    with client_of(lambda _: replace(answer, headers={"Retry-After": "1"})) as (client, server):
        with pytest.raises(TooManyAttemptsError):
            client.agents()
        assert len(server.requests) == 1


def test_patience_for_what_a_server_asks_for_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(retries, "_sleep", slept.append)
    with client_of(lambda _: replace(BUSY, headers={"Retry-After": "10"})) as (client, server):
        with pytest.raises(TooBusyError):
            client.start("greeter")
        assert len(server.requests) == 4
    assert slept == [10, 10, 10]


def test_a_server_that_was_there_is_waited_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(retries, "_sleep", slept.append)
    respond = one_after_another(Answer(media={"status": "healthy"}), Hangup())
    with client_of(respond) as (client, _):
        client.health()
        with pytest.raises(ServerUnreachableError):
            client.health()
    assert slept == list(retries.PATIENT_PAUSES)


def test_a_list_is_read_page_by_page() -> None:
    def respond(request: Request) -> Answer:
        if "cursor=c2" in request.path:
            return Answer(media={"agents": [{"name": "b", "status": "stopped"}], "next": None})
        return Answer(media={"agents": [{"name": "a", "status": "running"}], "next": "c2"})

    with client_of(respond) as (client, _):
        assert [agent.name for agent in client.agents()] == ["a", "b"]


def test_a_limit_ends_a_list_before_its_last_page() -> None:
    page = Answer(media={"deployments": [deployment("failed")] * 2, "next": "more"})
    with client_of(lambda _: page) as (client, server):
        assert len(client.deployments(agent="greeter", limit=4)) == 4
        assert server.calls[0] == "GET /v1/deployments?agent=greeter&limit=4"


def test_events_are_read_to_their_end_from_where_one_was() -> None:
    first = [{"id": number, "kind": "x"} for number in range(8, 1008)]

    def respond(request: Request) -> Answer:
        known = "after=1007" in request.path
        events = [{"id": 1008, "kind": "y"}] if known else first
        return Answer(media={"events": events, "next": str(events[-1]["id"])})

    with client_of(respond) as (client, server):
        assert [each.id for each in client.events(after=7)] == list(range(8, 1009))
        assert len(server.calls) == 2


def test_members_that_this_client_does_not_know_stay_in_the_document() -> None:
    with client_of(lambda _: Answer(media={**CONNECTION, "mood": "good"})) as (client, _):
        assert client.agent("greeter").document["mood"] == "good"


def test_times_are_read_with_their_zone() -> None:
    media = {**CONNECTION, "started_at": "2026-01-02T03:04:05Z"}
    with client_of(lambda _: Answer(media=media)) as (client, _):
        started_at = client.agent("greeter").started_at
    assert started_at is not None
    assert started_at.isoformat() == "2026-01-02T03:04:05+00:00"


def test_a_package_is_asked_for_by_its_checksum() -> None:
    known = Answer(media={"md5": MD5, "sha256": SHA256})
    with client_of(lambda r: known if MD5 in r.path else UNKNOWN) as (client, _):
        assert client.has_package(MD5)
        assert not client.has_package(SHA256)


def test_waiting_longer_than_one_request_asks_again() -> None:
    late = problem(408, "wait-timeout", detail="cannot wait longer: it is starting")
    with client_of(one_after_another(late, Answer(media=CONNECTION))) as (client, server):
        assert client.wait("greeter", timeout_seconds=60).status == "running"
        assert server.calls[0] == "GET /v1/agents/greeter/wait?status=running&timeout=20"


def test_waiting_ends_with_the_servers_word() -> None:
    late = problem(408, "wait-timeout", detail="cannot wait longer: it is starting")
    with (
        client_of(lambda _: late) as (client, _),
        pytest.raises(WaitTimeoutError, match="it is starting"),
    ):
        client.wait("greeter", timeout_seconds=1)


# Deploys -----------------------------------------------------------------------------------------


class Protocol:
    """Answers as the server does: unknown until uploaded, then one look after another."""

    def __init__(self, *looks: dict[str, Any] | Answer | Hangup, known: bool = False) -> None:
        self.known = known
        self.looks = list(looks)
        self.uploaded = b""

    def __call__(self, request: Request) -> Answer | Hangup:
        match request.method, request.path.partition("?")[0]:
            case "POST", "/v1/packages":
                self.known, self.uploaded = True, request.body
                return Answer(201, {"md5": MD5, "sha256": SHA256})
            case "POST", "/v1/deployments" if not self.known:
                return UNKNOWN
            case "GET", "/v1/deployments/d1/events":
                return BUSY
            case "POST", "/v1/deployments":
                return Answer(202, deployment("queued"), headers={"Location": "/v1/deployments/d1"})
            case _:
                look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
                return Answer(media=look) if isinstance(look, dict) else look


SUCCEEDED = deployment("succeeded", step("unpack"), step("start"), connection=CONNECTION, release=1)


def test_a_package_that_runs_already_is_neither_uploaded_nor_deployed() -> None:
    with client_of(lambda _: Answer(media=CONNECTION)) as (client, server):
        deployed = client.deploy(ZIP)
        assert server.calls == ["POST /v1/deployments"]
        assert server.requests[0].media == {"package": MD5, "force": False, "start": True}
    assert deployed.deployment is None
    assert deployed.connection is not None
    assert deployed.connection.url == "http://127.0.0.1:8100"


def test_an_unknown_package_is_uploaded_and_then_deployed() -> None:
    protocol = Protocol(SUCCEEDED)
    with client_of(protocol) as (client, server):
        deployed = client.deploy(ZIP, strategy="replace", force=True, start=False)
        order = ["POST /v1/deployments", "POST /v1/packages", "POST /v1/deployments"]
        assert server.calls[:3] == order
        assert server.requests[1].headers["Content-Type"] == "application/zip"
        wanted = {"package": MD5, "strategy": "replace", "force": True, "start": False}
        assert server.requests[2].media == wanted
    assert protocol.uploaded == ZIP
    assert deployed.deployment is not None
    assert deployed.deployment.succeeded


def test_a_package_the_server_holds_is_not_uploaded_again() -> None:
    with client_of(Protocol(SUCCEEDED, known=True)) as (client, server):
        client.deploy(ZIP)
        assert "POST /v1/packages" not in server.calls


def test_two_packages_of_one_md5_are_told_apart_by_their_sha256() -> None:
    def respond(request: Request) -> Answer:
        if request.media["package"] == MD5:
            return problem(409, "checksum-conflict", detail="cannot tell: name the SHA-256")
        return Answer(media=CONNECTION)

    with client_of(respond) as (client, server):
        client.deploy(ZIP)
        assert [each.media["package"] for each in server.requests] == [MD5, SHA256]


def test_each_change_of_a_step_is_told_once() -> None:
    told: list[Step] = []
    looks = (
        deployment("running", step("unpack", "running")),
        deployment("running", step("unpack", "running")),
        deployment("running", step("unpack"), step("start", "running", "waits")),
        SUCCEEDED,
    )
    with client_of(Protocol(*looks, known=True)) as (client, _):
        client.deploy(ZIP, on_progress=told.append)
    assert [(each.name, each.outcome) for each in told] == [
        ("unpack", "running"),
        ("unpack", "done"),
        ("start", "running"),
        ("start", "done"),
    ]


def test_an_upload_is_told_as_a_step_with_its_percents(tmp_path: Path) -> None:
    package = tmp_path / "large.zip"
    package.write_bytes(bytes(300_000))
    told: list[Step] = []
    with client_of(Protocol({})) as (client, server):
        uploaded = client.upload(package, on_progress=told.append)
        assert len(server.requests[0].body) == 300_000
    assert uploaded.md5
    assert {each.name for each in told} == {"upload"}
    assert len(told) > 5
    assert (told[0].outcome, told[-2].message) == ("running", "300KB of 300KB, 100 %")
    assert told[-1].outcome == "done"


def test_a_failed_deployment_raises_its_cause_with_the_deployment_attached() -> None:
    failure = {
        "code": "unresolvable",
        "detail": "cannot install greeter: no version of nosuch",
        "cause": "no version of nosuch",
        "hint": "correct requirements.txt",
        "evidence": ["No solution found"],
    }
    failed = deployment("failed", step("install", "failed"), failure=failure)
    with (
        client_of(Protocol(failed, known=True)) as (client, _),
        pytest.raises(ResolutionError, match="no version of nosuch") as caught,
    ):
        client.deploy(ZIP)
    assert caught.value.evidence == ("No solution found",)
    assert caught.value.hint == "correct requirements.txt"
    attached = deployment_of(caught.value)
    assert attached is not None
    assert attached.steps[0].outcome == "failed"


def test_a_look_that_is_answered_with_the_failure_itself_ends_the_watching() -> None:
    failure = {"code": "unresolvable", "detail": "cannot install greeter: no"}
    failed = deployment("failed", failure=failure)
    look = problem(422, "unresolvable", detail="cannot install greeter: no", deployment=failed)
    with client_of(Protocol(look, known=True)) as (client, _), pytest.raises(ResolutionError):
        client.deploy(ZIP)


@pytest.mark.parametrize(
    ("status", "error"),
    [("canceled", DeploymentCanceledError), ("abandoned", DeploymentAbandonedError)],
)
def test_a_deployment_that_somebody_ended_says_so(status: str, error: type[DeployerError]) -> None:
    with client_of(Protocol(deployment(status), known=True)) as (client, _), pytest.raises(error):
        client.deploy(ZIP)


def test_an_api_that_goes_away_meanwhile_is_waited_for() -> None:
    looks = (*(Hangup() for _ in range(4)), SUCCEEDED)
    with client_of(Protocol(*looks, known=True)) as (client, _):
        assert client.deploy(ZIP).connection is not None


def test_a_server_that_holds_too_many_requests_is_asked_without_being_held() -> None:
    busy = problem(429, "too-busy", detail="cannot hold this request: 16 are held")

    def respond(request: Request) -> Answer | Hangup:
        protocol = Protocol(SUCCEEDED, known=True)
        return busy if "wait=" in request.path else protocol(request)

    with client_of(respond) as (client, _):
        assert client.deploy(ZIP).connection is not None


def test_a_deployment_that_takes_too_long_is_left_with_its_step_named() -> None:
    running = deployment("running", step("install", "running"))
    with (
        client_of(Protocol(running, known=True)) as (client, _),
        pytest.raises(WaitTimeoutError, match="still at install") as caught,
    ):
        client.deploy(ZIP, wait_seconds=0.1)
    assert deployment_of(caught.value) is not None


def test_a_status_of_a_newer_server_counts_as_over() -> None:
    assert Deployment.read(deployment("vanished")).is_over


def test_a_rollback_is_followed_to_its_end() -> None:
    def respond(request: Request) -> Answer:
        if request.path == "/v1/agents/greeter/rollback":
            assert request.media == {"to": 3}
            return Answer(202, deployment("queued"))
        return Answer(media=SUCCEEDED)

    with client_of(respond) as (client, _):
        rolled_back = client.rollback("greeter", to=3)
    assert rolled_back.connection is not None


# Packages ----------------------------------------------------------------------------------------


def test_a_package_that_is_not_there_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(PackageInvalidError, match=r"cannot read .*none\.zip: No such file"):
        open_archive(tmp_path / "none.zip")


def test_a_file_and_its_bytes_have_the_same_names(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    file.write_bytes(ZIP)
    from_file, from_bytes = open_archive(file), open_archive(ZIP)
    assert (from_file.md5, from_file.sha256, from_file.size_bytes) == (
        from_bytes.md5,
        from_bytes.sha256,
        from_bytes.size_bytes,
    )


# Streams -----------------------------------------------------------------------------------------


def streamed(text: str, *, breaks_off: bool = False) -> Answer:
    return Answer(text=text, content_type="text/event-stream", breaks_off=breaks_off)


END = 'event: end\ndata: {"reason": "greeter was removed"}\n\n'


def test_events_are_read_with_their_ids_and_heartbeats_are_skipped() -> None:
    lines = [": heartbeat", "", "id: 7", "data: one", "data:two", "", "event: end", "data: x", ""]
    assert list(events(lines)) == [
        ServerSentEvent("message", "one\ntwo", "7"),
        ServerSentEvent("end", "x", "7"),
    ]


def test_an_id_without_data_is_told_by_itself() -> None:
    assert list(events(["id: 7", "", "", "id: 7", ""])) == [ServerSentEvent("message", None, "7")]


def test_an_event_that_was_cut_off_is_not_told() -> None:
    assert list(events(["data: half"])) == []


def test_followed_logs_end_with_their_agent() -> None:
    text = f"data: a\n\n: beat\n\ndata: b\ndata: \ndata: c\n\ndata: \n\n{END}"
    with client_of(lambda _: streamed(text)) as (client, server):
        lines = list(client.follow_logs("greeter", stream="stderr", tail=5))
        assert lines == ["a", "b", "", "c", ""]
        assert server.calls == ["GET /v1/agents/greeter/logs?stream=stderr&tail=5&follow=1"]


@pytest.mark.parametrize("breaks_off", [True, False])
def test_a_stream_that_ends_without_saying_so_is_taken_up_where_it_was(*, breaks_off: bool) -> None:
    first = streamed("id: 4\ndata: a\n\nid: 5\ndata: half a li", breaks_off=breaks_off)
    rest = streamed(f"id: 6\ndata: b\n\n{END}")
    with client_of(one_after_another(first, Hangup(), rest)) as (client, server):
        assert list(client.follow_logs("greeter")) == ["a", "b"]
        ids = [each.headers.get("Last-Event-ID") for each in server.requests]
        assert ids == [None, "4", "4"]


def test_notes_say_where_another_release_goes_on_and_where_lines_are_missing() -> None:
    heard: list[str] = []
    text = (
        'event: release\ndata: {"release": 1}\n\ndata: a\n\n'
        'event: release\ndata: {"release": 2}\n\nevent: gap\ndata: {}\n\ndata: b\n\n'
    )
    with client_of(lambda _: streamed(text + END)) as (client, _):
        for line in client.follow_logs("greeter", on_note=heard.append):
            heard.append(line)  # noqa: PERF402 - notes come in between
    assert heard == [
        "a",
        "release 2 goes on",
        "lines may be missing here: they were gone before they were read",
        "b",
    ]


def test_a_key_that_was_revoked_ends_a_stream_with_the_servers_error() -> None:
    document = {"code": "authentication-required", "detail": "cannot let you in"}
    text = f"data: a\n\nevent: problem\ndata: {json.dumps(document)}\n\n"
    with client_of(lambda _: streamed(text)) as (client, _):
        lines = client.follow_logs("greeter")
        assert next(lines) == "a"
        with pytest.raises(AuthenticationRequiredError):
            next(lines)


def test_without_a_place_a_log_is_asked_for_from_where_its_stream_was() -> None:
    pages = [["b"], [], ["c", "d"]]

    def respond(request: Request) -> Answer:
        if "follow=1" in request.path:
            return BUSY if "Last-Event-ID" in request.headers else streamed("id: 0\ndata: a\n\n")
        media = {"agent": "greeter", "stream": "stdout", "lines": pages.pop(0), "next": "n"}
        return Answer(media=media)

    with client_of(respond) as (client, server):
        lines = client.follow_logs("greeter")
        assert [next(lines) for _ in range(4)] == ["a", "b", "c", "d"]
        assert "after=0&" in server.calls[2] + "&"
        assert "after=n" in server.calls[3]


def test_a_log_that_cannot_be_followed_says_why() -> None:
    answer = problem(404, "agent-unknown", detail="cannot find agent greeter: no such agent")
    with client_of(lambda _: answer) as (client, _), pytest.raises(AgentUnknownError):
        list(client.follow_logs("greeter"))


def test_events_are_followed_and_asked_for_without_a_place() -> None:
    def respond(request: Request) -> Answer:
        if "follow=1" in request.path:
            known = "Last-Event-ID" in request.headers
            return BUSY if known else streamed('id: 4\n\nid: 5\ndata: {"id": 5, "kind": "x"}\n\n')
        assert "after=5&" in request.path
        return Answer(media={"events": [{"id": 6, "kind": "y"}], "next": "6"})

    with client_of(respond) as (client, _):
        following = client.follow_events()
        assert [next(following).id for _ in range(2)] == [5, 6]


def test_a_deployment_is_watched_by_its_stream() -> None:
    told: list[Step] = []
    running, done = step("unpack", "running"), step("unpack")
    text = "".join(
        f"id: {number}\nevent: step\ndata: {json.dumps(each)}\n\n"
        for number, each in enumerate([running, done], 1)
    )
    end = f"id: 2.end\nevent: end\ndata: {json.dumps(SUCCEEDED)}\n\n"
    answers = one_after_another(
        Answer(202, deployment("queued")), streamed(text, breaks_off=True), streamed(end)
    )
    with client_of(answers) as (client, server):
        deployed = client.deploy(ZIP, on_progress=told.append)
        assert server.requests[2].headers["Last-Event-ID"] == "2"
    assert deployed.connection is not None
    assert [each.outcome for each in told] == ["running", "done"]


def test_a_deployment_that_takes_too_long_is_left_at_its_deadline() -> None:
    def respond(request: Request) -> Answer:
        if request.path.startswith("/v1/deployments/d1/events"):
            return streamed(": beat\n\n")
        status = 202 if request.method == "POST" else 200
        return Answer(status, deployment("running", step("install", "running")))

    with (
        client_of(respond) as (client, _),
        pytest.raises(WaitTimeoutError, match="still at install"),
    ):
        client.deploy(ZIP, wait_seconds=0.6)


@pytest.mark.parametrize("status", ["succeeded", "failed"])
def test_a_deployment_that_is_over_at_the_deadline_is_no_late_one(status: str) -> None:
    over = deployment(status, step("activate"))
    with client_of(lambda _: Answer(200, over)) as (client, _):
        assert client.follow_deployment("d1", wait_seconds=0).status == status
