"""Packages over ``/v1``: uploaded once, looked up by either checksum, refused for a reason."""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contracts import ZIP, Api, Contract, problem
from tests.package_zips import zip_package
from tests.servers import RunningServer

_COUNTER = iter(range(1_000_000))


@pytest.fixture
def data() -> bytes:
    """A package that no test has uploaded yet."""
    return zip_package("stdlib_agent", extra_files={"new.txt": f"number {next(_COUNTER)}"})


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()  # noqa: S324 - the protocol's name for a package


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_new_package_is_created_at_an_address_of_its_own(api: Api, data: bytes) -> None:
    answer = api.post("/v1/packages", data=data, headers=ZIP)
    assert answer.status_code == 201
    document = answer.json()
    assert (document["md5"], document["sha256"]) == (md5(data), sha256(data))
    assert (document["size_bytes"], document["agent"]) == (len(data), "stdlib_agent")
    assert document["version"] == "1.0.0"
    assert api.get(answer.headers["Location"]).json() == document


def test_the_same_bytes_again_are_the_same_package(api: Api, data: bytes) -> None:
    first = api.post("/v1/packages", data=data, headers=ZIP)
    again = api.post("/v1/packages", data=data, headers=ZIP)
    assert (again.status_code, again.json()) == (200, first.json())


def test_one_package_uploaded_ten_times_at_once_is_created_once(api: Api, data: bytes) -> None:
    with ThreadPoolExecutor(10) as pool:
        answers = pool.map(lambda _: api.post("/v1/packages", data=data, headers=ZIP), range(10))
        assert sorted(answer.status_code for answer in answers) == [200] * 9 + [201]


def test_a_package_is_taken_as_the_part_of_a_form(api: Api, data: bytes) -> None:
    answer = api.post("/v1/packages", files={"file": ("a.zip", data, "application/zip")})
    assert (answer.status_code, answer.json()["sha256"]) == (201, sha256(data))


def test_a_package_is_taken_in_chunks_of_unknown_number(api: Api, data: bytes) -> None:
    def chunks() -> Iterator[bytes]:
        yield data[:100]
        yield data[100:]

    answer = api.post("/v1/packages", data=chunks(), headers=ZIP)
    assert (answer.status_code, answer.json()["sha256"]) == (201, sha256(data))


@pytest.mark.parametrize("checksum", [md5, sha256, lambda data: md5(data).upper()])
def test_a_package_is_found_by_either_checksum(
    api: Api, data: bytes, checksum: Callable[[bytes], str]
) -> None:
    api.upload(data)
    assert api.get(f"/v1/packages/{checksum(data)}").json()["md5"] == md5(data)


def test_head_tells_whether_a_package_is_there(api: Api, data: bytes) -> None:
    path = f"/v1/packages/{md5(data)}"
    before = api.request("HEAD", path)
    api.upload(data)
    after = api.request("HEAD", path)
    assert (before.status_code, after.status_code, after.content) == (404, 200, b"")


@pytest.mark.parametrize("checksum", ["0" * 32, "0" * 64, "no-checksum", "%00", "x" * 5000])
def test_an_unknown_package_is_to_be_uploaded(api: Api, checksum: str) -> None:
    document = problem(api.get(f"/v1/packages/{checksum}"), 404, "package-unknown")
    assert "POST /v1/packages" in document["hint"]


def test_a_package_with_many_faults_is_told_all_of_them(api: Api) -> None:
    broken = zip_package(
        "stdlib_agent",
        replace={'version = "1.0.0"': "version = 5", "start_seconds = 20": 'start_seconds = "x"'},
    )
    document = problem(api.post("/v1/packages", data=broken, headers=ZIP), 422, "manifest-invalid")
    assert len(document["errors"]) == 2
    assert {tuple(sorted(each)) for each in document["errors"]} == {("message", "where")}


@pytest.mark.parametrize("data", [b"", b"no ZIP at all", b"PK\x03\x04 then nothing"])
def test_what_is_no_package_is_invalid_and_forgotten(api: Api, data: bytes) -> None:
    answer = api.post("/v1/packages", data=data, headers=ZIP)
    problem(answer, 422, "package-invalid")
    problem(api.get(f"/v1/packages/{sha256(data)}"), 404, "package-unknown")
    assert list(api.server.state.tmp.iterdir()) == []


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "", "zip"])
def test_a_body_of_another_type_is_unsupported(api: Api, data: bytes, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    answer = api.post("/v1/packages", data=data, headers=headers)
    problem(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize(
    ("names", "cause"),
    [(["upload"], "no part `file`"), (["file", "file"], "more than one part `file`")],
)
def test_a_form_holds_one_file(api: Api, data: bytes, names: list[str], cause: str) -> None:
    parts = [(name, ("a.zip", data, "application/zip")) for name in names]
    document = problem(api.post("/v1/packages", files=parts), 422, "request-invalid")
    assert document["cause"] == cause
    assert list(api.server.state.tmp.iterdir()) == []


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\nnonsense"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=" + "x" * 500, b"--x--\r\n"),
    ],
)
def test_a_form_that_cannot_be_read_is_a_bad_request(
    api: Api, content_type: str, body: bytes
) -> None:
    answer = api.post("/v1/packages", data=body, headers={"Content-Type": content_type})
    problem(answer, 400, "bad-request")


def test_a_package_above_the_limit_is_too_large(
    make_server: Callable[..., RunningServer], contract: Contract, data: bytes
) -> None:
    limit = 2000
    api = Api(make_server(limits={"upload_bytes": limit}), contract)
    above = data + bytes(limit)
    for body in (above, iter([above])):
        answer = api.post("/v1/packages", data=body, headers=ZIP)
        document = problem(answer, 413, "package-too-large")
        assert str(limit) in document["cause"]
    assert list(api.server.state.tmp.iterdir()) == []


def test_a_body_that_is_far_too_large_is_refused_before_it_is_sent(
    shared_server: RunningServer,
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", shared_server.port, timeout=10)
    connection.putrequest("POST", "/v1/packages")
    connection.putheader("Content-Type", "application/zip")
    connection.putheader("Content-Length", str(10**13))
    connection.endheaders()
    answer = connection.getresponse()
    document = json.loads(answer.read())
    connection.close()
    assert (answer.status, document["code"]) == (413, "package-too-large")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Request-Id"] == document["request_id"]


def test_an_upload_that_breaks_off_leaves_nothing(api: Api, data: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", api.server.port, timeout=10)
    connection.putrequest("POST", "/v1/packages")
    connection.putheader("Authorization", f"Bearer {api.server.token}")
    connection.putheader("Content-Type", "application/zip")
    connection.putheader("Content-Length", str(len(data)))
    connection.endheaders()
    connection.send(data[:50])
    connection.close()
    problem(api.get(f"/v1/packages/{sha256(data)}"), 404, "package-unknown")
    assert list(api.server.state.tmp.iterdir()) == []


def test_uploads_do_not_wait_for_each_other(api: Api, data: bytes) -> None:
    """One that trickles in holds no thread: waitress has the whole of it first."""
    slow = http.client.HTTPConnection("127.0.0.1", api.server.port, timeout=10)
    slow.putrequest("POST", "/v1/packages")
    slow.putheader("Authorization", f"Bearer {api.server.token}")
    slow.putheader("Content-Type", "application/zip")
    slow.putheader("Content-Length", str(len(data)))
    slow.endheaders()
    slow.send(data[:50])
    done = threading.Event()
    threading.Thread(target=lambda: (api.get("/v1/agents"), done.set())).start()
    assert done.wait(30)
    slow.send(data[50:])
    assert slow.getresponse().status == 201
    slow.close()
