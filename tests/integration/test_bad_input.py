"""What a client may get wrong, at the door of a real server: refused in words, without a trace."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Iterator

import pytest

from tests.package_zips import zip_package
from tests.refusals import deploy_bystander, packages_of, problem_of, send, unharmed
from tests.servers import RunningServer

ROUTES = ["/v1/packages", "/v1/deployments", "/deploy"]
NAMELESS = '[agent]\nversion = "1.0.0"\n'


@pytest.fixture(scope="module")
def server(shared_server: RunningServer) -> Iterator[RunningServer]:
    """The shared server, with an agent that must not notice anything."""
    deploy_bystander(shared_server)
    yield shared_server
    shared_server.client.remove("bystander")


def zip_of(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def manifest(text: str) -> bytes:
    return zip_of(**{"agent.toml": text, "main.py": "print('never run')"})


def named(name: str) -> bytes:
    return manifest(f'[agent]\nname = "{name}"\n')


def damaged() -> bytes:
    """Turn a byte in the middle of a file's data around."""
    data = bytearray(zip_package("stdlib_agent"))
    name_bytes, extra_bytes = struct.unpack_from("<HH", data, 26)
    data[30 + name_bytes + extra_bytes + 20] ^= 0xFF
    return bytes(data)


BAD_PACKAGES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "ZIP"),
    "no ZIP": (b"this is no archive, only text", "ZIP"),
    "half a ZIP": (zip_package("stdlib_agent")[:-100], "ZIP"),
    "a damaged ZIP": (damaged(), ""),
    "no agent.toml": (zip_of(**{"main.py": ""}), "agent.toml"),
    "no [agent]": (manifest("[health]\n"), "agent.toml: agent"),
    "no name": (manifest(NAMELESS), "agent.toml: agent.name"),
    "an empty name": (named(""), "agent.toml: agent.name"),
    "a name with a space": (named("reef agent"), "agent.toml: agent.name"),
    "a name with a slash": (named("reef/agent"), "agent.toml: agent.name"),
    "a name with a line end": (named("reef\\n"), "agent.toml: agent.name"),
    "dots for a name": (named(".."), "agent.toml: agent.name"),
    "a way out for a name": (named("../../etc/cron.d/x"), "agent.toml: agent.name"),
    "a name that is too long": (named("a" * 64), "agent.toml: agent.name"),
    "a number for a name": (manifest("[agent]\nname = 5\n"), "agent.toml: agent.name"),
    "no TOML": (manifest("[agent\nname = reef"), "agent.toml"),
    "no entry point": (zip_of(**{"agent.toml": '[agent]\nname = "reef"\n'}), "agent.toml"),
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("bad", BAD_PACKAGES)
def test_a_bad_package_is_refused_in_words_and_leaves_nothing(
    server: RunningServer, bad: str, route: str
) -> None:
    data, where = BAD_PACKAGES[bad]
    kept = packages_of(server)
    with unharmed(server):
        problem = problem_of(send(server, data, route))
    assert problem["status"] == 422
    assert any(where in f"{each['where']}: {each['message']}" for each in problem["errors"])
    assert packages_of(server) == kept


def test_every_problem_of_a_package_is_named_at_once(server: RunningServer) -> None:
    problem = problem_of(
        send(
            server,
            zip_of(
                **{
                    "agent.toml": '[agent]\nname = "../x"\nversion = 1.10\n'
                    '[resources]\ncpu_limit = "two"\nmemory_limit = "lots"\n'
                    "[deployment]\nport = 99999\nmax_restarts = -1\nauto_restart = 3\n"
                    '[health]\npath = "health"\nstart_seconds = 0\n'
                    "[env]\nDEPTH = [1]\n",
                    "requirements.txt": "-e .\nrequests\nhttps://evil.invalid/x.whl\n",
                }
            ),
        )
    )
    told = {each["where"] for each in problem["errors"]}
    assert told >= {
        "agent.toml: agent.name",
        "agent.toml: agent.version",
        "agent.toml: resources.cpu_limit",
        "agent.toml: resources.memory_limit",
        "agent.toml: deployment.port",
        "agent.toml: deployment.max_restarts",
        "agent.toml: deployment.auto_restart",
        "agent.toml: health.path",
        "agent.toml: health.start_seconds",
        "agent.toml: env.DEPTH",
        "requirements.txt:1",
        "requirements.txt:3",
    }


@pytest.mark.parametrize("route", ["/v1/packages", "/v1/deployments", "/deploy"])
def test_a_body_of_another_type_is_415(server: RunningServer, route: str) -> None:
    with unharmed(server):
        response = server.request(
            "POST", route, data=b"PK\x05\x06", headers={"Content-Type": "text/plain"}
        )
    assert problem_of(response)["code"] == "unsupported-media-type"


@pytest.mark.parametrize("route", ["/v1/packages", "/v1/deployments", "/deploy"])
def test_a_form_without_a_file_is_422(server: RunningServer, route: str) -> None:
    with unharmed(server):
        response = server.request("POST", route, files={"package": ("x.zip", b"PK")})
    problem = problem_of(response)
    assert problem["status"] == 422
    assert "`file`" in problem["detail"]


@pytest.mark.parametrize("route", ["/v1/packages", "/deploy"])
def test_a_form_that_breaks_off_is_refused(server: RunningServer, route: str) -> None:
    with unharmed(server):
        response = server.request(
            "POST",
            route,
            data=b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nPK',
            headers={"Content-Type": "multipart/form-data; boundary=b"},
        )
    problem_of(response)


def test_every_wrong_field_of_a_request_is_named_at_once(server: RunningServer) -> None:
    response = server.request("POST", "/v1/deployments", json={"force": "perhaps", "colour": 1})
    problem = problem_of(response)
    assert problem["status"] == 422
    assert {each["where"] for each in problem["errors"]} == {"package", "force", "colour"}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff"])
def test_a_body_that_is_no_json_is_400(server: RunningServer, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    response = server.request("POST", "/v1/deployments", data=body, headers=headers)
    assert problem_of(response)["status"] == 400


@pytest.mark.parametrize("body", [b"[]", b"null", b'{"package": 7}', b'{"package": "abc"}'])
def test_json_that_is_no_request_is_422(server: RunningServer, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    response = server.request("POST", "/v1/deployments", data=body, headers=headers)
    problem = problem_of(response)
    assert problem["status"] == 422
    assert problem["errors"]


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
def test_an_act_of_atolls_wire_without_a_name_is_refused(server: RunningServer, verb: str) -> None:
    problem = problem_of(server.request("POST", f"/{verb}", json={}))
    assert [each["where"] for each in problem["errors"]] == ["agent_name"]


@pytest.mark.parametrize("query", ["wait=soon", "force=perhaps", "start=-", "strategy=hope"])
def test_a_bad_option_of_a_deployment_deploys_nothing(server: RunningServer, query: str) -> None:
    with unharmed(server):
        response = send(server, zip_package("stdlib_agent"), f"/v1/deployments?{query}")
    problem_of(response)


def test_a_package_that_nobody_uploaded_is_404(server: RunningServer) -> None:
    response = server.request("POST", "/v1/deployments", json={"package": "0" * 32})
    assert problem_of(response)["code"] == "package-unknown"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/logs"),
        ("GET", "/why"),
        ("GET", "/wait"),
        ("GET", "/releases"),
        ("GET", "/releases/1"),
        ("DELETE", "/releases/1"),
        ("POST", "/rollback"),
        ("POST", "/start"),
        ("POST", "/stop"),
        ("POST", "/restart"),
        ("POST", "/kill"),
    ],
)
def test_an_unknown_agent_is_404(server: RunningServer, method: str, path: str) -> None:
    with unharmed(server):
        response = server.request(method, f"/v1/agents/ghost{path}")
    problem = problem_of(response)
    assert (problem["status"], problem["code"]) == (404, "agent-unknown")
    assert "ghost" in problem["detail"]


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
def test_an_unknown_agent_is_404_on_atolls_wire(server: RunningServer, verb: str) -> None:
    response = server.request("POST", f"/{verb}", json={"agent_name": "ghost"})
    assert problem_of(response)["code"] == "agent-unknown"


@pytest.mark.parametrize("name", ["%2e%2e", "..%2f..%2fetc", "a%00b", "a%0ab", "%20", "-x"])
def test_a_name_that_no_agent_can_have_is_404(server: RunningServer, name: str) -> None:
    paths = (
        ("GET", f"/v1/agents/{name}"),
        ("DELETE", f"/v1/agents/{name}"),
        ("GET", f"/status/{name}"),
        ("POST", f"/v1/agents/{name}/start"),
    )
    with unharmed(server):
        for method, path in paths:
            assert problem_of(server.request(method, path))["status"] == 404


@pytest.fixture
def small_server(make_server: Callable[..., RunningServer]) -> RunningServer:
    return make_server(limits={"upload_bytes": 20_000})


def test_an_upload_that_is_too_large_is_refused_however_much_too_large_it_is(
    small_server: RunningServer,
) -> None:
    limit = 20_000
    ways = {"/v1/packages", "/v1/deployments", "/deploy"}
    for excess in (1, 100_000, 1_500_000, 30_000_000):
        for route in ways:
            with unharmed(small_server):
                problem = problem_of(send(small_server, b"x" * (limit + excess), route))
            assert (problem["status"], problem["code"]) == (413, "package-too-large")
            assert str(limit) in problem["detail"], (excess, route)
    assert packages_of(small_server) == set()
