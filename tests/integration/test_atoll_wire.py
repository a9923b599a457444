"""The ATOLL 2.x wire, spoken by a client that behaves as ATOLL's own, without a key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests

from deployer.api.problems import reason_phrase
from deployer.client.atoll import DeploymentClient
from deployer.errors import DeployerError
from tests.atoll_client import AtollClient, checksum_of
from tests.contracts import Api, Contract
from tests.package_zips import zip_package
from tests.servers import RunningServer, wait_until

NAME = "wire"
AGENT = {"name", "status", "port", "pid", "checksum", "config_path"}
DEPLOYED = {"status", "name", "checksum", "config_path", "message"}
STATUS = {
    "name",
    "status",
    "port",
    "pid",
    "checksum",
    "start_time",
    "restart_count",
    "health_status",
    "error_message",
}


class DropIn:
    """Our own client under ATOLL's names, asked as the tests ask ATOLL's."""

    def __init__(self, url: str) -> None:
        self._client = DeploymentClient(url)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, f"{name}_sync")

    def list_agents(self) -> dict[str, Any]:
        agents = asyncio.run(self._client.list_agents())
        return {"agents": agents, "count": len(agents)}

    def call(self, method: str, path: str, json: object = None) -> dict[str, Any]:
        return self._client._call(method, path, media=json)


@pytest.fixture(params=[AtollClient, DropIn], ids=["atoll", "drop-in"])
def client(open_server: RunningServer, request: pytest.FixtureRequest) -> Iterator[AtollClient]:
    yield request.param(open_server.url)
    for agent in open_server.client.agents():
        open_server.client.remove(agent.name)


@pytest.fixture
def wire(open_server: RunningServer, contract: Contract) -> Iterator[Api]:
    """The same server, where each answer is held to the OpenAPI document."""
    yield Api(open_server, contract)
    for agent in open_server.client.agents():
        open_server.client.remove(agent.name)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write(tmp_path, "stdlib_agent")


def write(folder: Path, source: str, version: str = "1.0.0", **options: Any) -> Path:
    path = folder / f"{source} ü {version}.zip"  # what its client has to percent-encode
    path.write_bytes(zip_package(source, name=NAME, version=version, **options))
    return path


def refusal(call: Callable[[], object]) -> tuple[int, str]:
    """Give all that ATOLL's client learns of a refusal; ours learns more."""
    with pytest.raises((aiohttp.ClientResponseError, DeployerError)) as raised:
        call()
    error = raised.value
    if isinstance(error, DeployerError):
        return error.document["status"], reason_phrase(error)
    return error.status, error.message


def test_health_says_what_atolls_client_asks_for(client: AtollClient) -> None:
    answer = client.health_check()
    assert answer["status"] == "healthy"
    assert set(answer) >= {"status", "version", "auth_enabled", "metrics_enabled"}
    assert not answer["auth_enabled"]


def test_an_agent_lives_its_whole_life_through_atolls_client(
    client: AtollClient, package: Path
) -> None:
    checksum = checksum_of(package)
    missing = client.check_agent(checksum)
    assert (set(missing), missing["exists"]) == ({"exists", "message"}, False)

    deployed = client.deploy_agent(package)
    assert set(deployed) == DEPLOYED
    assert (deployed["status"], deployed["name"], deployed["checksum"]) == (
        "deployed",
        NAME,
        checksum,
    )
    assert Path(deployed["config_path"]).name == "agent.toml"
    assert Path(deployed["config_path"]).is_file()

    found = client.check_agent(checksum)
    assert found == {
        "exists": True,
        "name": NAME,
        "status": "discovered",
        "port": None,
        "running": False,
    }

    started = client.start_agent(NAME)
    assert set(started) == {"status", "name", "port", "pid"}
    assert (started["status"], started["name"]) == ("started", NAME)
    info = requests.get(f"http://127.0.0.1:{started['port']}/info", timeout=20).json()
    assert info["pid"] == started["pid"]

    status = client.get_agent_status(NAME)
    assert set(status) == STATUS
    assert (status["status"], status["health_status"]) == ("running", "healthy")
    assert (status["pid"], status["port"]) == (started["pid"], started["port"])
    assert (status["checksum"], status["restart_count"]) == (checksum, 0)
    assert (status["error_message"], bool(status["start_time"])) == (None, True)

    listed = client.list_agents()
    assert (set(listed), listed["count"]) == ({"agents", "count"}, 1)
    assert set(listed["agents"][0]) == AGENT
    assert listed["agents"][0]["pid"] == started["pid"]

    assert client.check_agent(checksum) == {**found, "status": "running", "running": True} | {
        "port": started["port"]
    }

    restarted = client.restart_agent(NAME)
    assert set(restarted) == {"status", "name", "port", "pid"}
    assert (restarted["status"], restarted["port"]) == ("restarted", started["port"])
    assert restarted["pid"] != started["pid"]

    assert client.stop_agent(NAME) == {"status": "stopped", "name": NAME}
    assert client.stop_agent(NAME) == {"status": "stopped", "name": NAME}
    stopped = client.get_agent_status(NAME)
    assert (stopped["status"], stopped["port"], stopped["pid"]) == ("stopped", None, None)


def test_a_start_of_a_running_agent_answers_with_the_same_pid(
    client: AtollClient, package: Path
) -> None:
    client.deploy_agent(package)
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: client.start_agent(NAME), range(5)))
    assert len({answer["pid"] for answer in answers}) == 1
    assert {answer["status"] for answer in answers} == {"started"}


def test_a_package_that_is_current_is_installed_already(client: AtollClient, package: Path) -> None:
    client.deploy_agent(package)
    again = client.deploy_agent(package)
    assert set(again) == DEPLOYED
    assert again["status"] == "already_installed"


@pytest.mark.parametrize("spelling", ["1", "true", "True", "yes"])
def test_force_in_the_query_installs_anew(
    wire: Api, client: AtollClient, package: Path, spelling: str
) -> None:
    client.deploy_agent(package)
    assert client.deploy_agent(package, force=spelling)["status"] == "deployed"
    assert wire.get(f"/v1/agents/{NAME}/releases").json()["count"] == 2


@pytest.mark.parametrize("is_behind", [False, True])
def test_force_as_a_field_of_the_form_installs_anew(
    wire: Api, client: AtollClient, package: Path, *, is_behind: bool
) -> None:
    client.deploy_agent(package)
    file = ("file", ("a.zip", package.read_bytes(), "application/zip"))
    force = ("force", (None, "True"))
    parts = [file, force] if is_behind else [force, file]
    assert wire.post("/deploy", files=parts).json()["status"] == "deployed"


def test_no_force_is_what_false_in_any_spelling_says(client: AtollClient, package: Path) -> None:
    client.deploy_agent(package)
    statuses = {
        client.deploy_agent(package, force=word)["status"] for word in ("0", "false", "False", "")
    }
    assert statuses == {"already_installed"}


def test_a_force_that_is_no_boolean_is_refused(client: AtollClient, package: Path) -> None:
    assert refusal(lambda: client.deploy_agent(package, force="perhaps")) == (400, "bad force")


def test_a_deploy_on_a_running_agent_is_a_full_deployment(
    client: AtollClient, package: Path, tmp_path: Path
) -> None:
    client.deploy_agent(package)
    first = client.start_agent(NAME)
    newer = write(tmp_path, "stdlib_agent", version="2.0.0")
    assert client.deploy_agent(newer)["status"] == "deployed"
    status = client.get_agent_status(NAME)
    assert (status["status"], status["checksum"]) == ("running", checksum_of(newer))
    assert (status["port"], status["pid"] != first["pid"]) == (first["port"], True)


def test_a_broken_deploy_on_a_running_agent_is_refused_and_the_former_serves(
    client: AtollClient, package: Path, tmp_path: Path
) -> None:
    client.deploy_agent(package)
    client.start_agent(NAME)
    status, reason = refusal(lambda: client.deploy_agent(write(tmp_path, "missing_module", "2")))
    assert status == 422
    assert "No module named" in reason or "missing module" in reason.lower()
    after = client.get_agent_status(NAME)
    assert (after["status"], after["checksum"]) == ("running", checksum_of(package))


def test_a_deploy_on_a_stopped_agent_is_current_at_once_and_put_back_when_it_cannot_start(
    client: AtollClient, package: Path, tmp_path: Path
) -> None:
    client.deploy_agent(package)
    client.start_agent(NAME)
    client.stop_agent(NAME)
    broken = write(tmp_path, "exits_at_once", version="2.0.0")
    assert client.deploy_agent(broken)["status"] == "deployed"
    unproven = client.get_agent_status(NAME)
    assert (unproven["checksum"], unproven["pid"]) == (checksum_of(broken), None)

    status, reason = refusal(lambda: client.start_agent(NAME))
    assert (status, "exit" in reason) == (422, True), reason
    assert client.get_agent_status(NAME)["checksum"] == checksum_of(package)
    assert client.check_agent(checksum_of(package))["exists"]
    assert client.start_agent(NAME)["status"] == "started"


def test_a_check_that_is_to_start_starts_a_stopped_agent(
    client: AtollClient, wire: Api, package: Path
) -> None:
    client.deploy_agent(package)
    params = {"checksum": checksum_of(package), "start": "true"}
    answer = wire.post("/check", params=params).json()
    assert (answer["running"], answer["status"]) == (True, "running")


def test_a_check_takes_the_empty_body_of_bytes_that_the_client_sends(wire: Api) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    answer = wire.post("/check", params={"checksum": "0" * 32}, data=b"", headers=headers)
    assert (answer.status_code, answer.json()["exists"]) == (200, False)


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
def test_an_unknown_agent_is_named_in_the_status_line(client: AtollClient, verb: str) -> None:
    body = {"agent_name": "nobody"}
    assert refusal(lambda: client.call("POST", f"/{verb}", json=body)) == (
        404,
        "No such agent: nobody",
    )


@pytest.mark.parametrize("name", ["nobody", "a/b", "-x", "x" * 200, "../../etc"])
def test_a_name_that_no_agent_has_is_unknown(client: AtollClient, name: str) -> None:
    status, reason = refusal(lambda: client.get_agent_status(name))
    assert status == 404
    assert len(reason) <= 120


def test_a_reason_is_printable_ascii_whatever_was_asked(wire: Api) -> None:
    answer = wire.get("/status/na%C3%AFve%0d%0aX-Injected:%201")
    assert answer.status_code == 404
    assert (answer.reason or "").isascii()
    assert (answer.reason or "").isprintable()
    assert "X-Injected" not in answer.headers


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
def test_a_body_without_its_field_is_invalid(wire: Api, verb: str) -> None:
    answer = wire.post(f"/{verb}", json={})
    assert (answer.status_code, answer.json()["code"]) == (422, "request-invalid")
    assert answer.json()["errors"] == [{"where": "agent_name", "message": "field required"}]
    assert "agent_name" in (answer.reason or "")


@pytest.mark.parametrize("path", ["/check", "/check?checksum="])
def test_a_check_without_a_checksum_is_invalid(wire: Api, path: str) -> None:
    answer = wire.post(path)
    assert (answer.status_code, answer.reason) == (422, "checksum is missing")


def test_a_form_without_a_file_is_invalid(wire: Api) -> None:
    answer = wire.post("/deploy", files={"upload": ("a.zip", b"PK", "application/zip")})
    assert (answer.status_code, answer.reason) == (422, "no part `file`")


def test_what_is_no_zip_is_refused_with_its_reason(client: AtollClient, tmp_path: Path) -> None:
    (tmp_path / "no.zip").write_bytes(b"this is no ZIP")
    status, reason = refusal(lambda: client.deploy_agent(tmp_path / "no.zip"))
    assert status == 422
    assert "zip" in reason.lower()


def test_the_addresses_of_atolls_documents_answer_too(wire: Api, package: Path) -> None:
    files = {"file": ("a.zip", package.read_bytes(), "application/zip")}
    assert wire.post("/agents/deploy", files=files).json()["status"] == "deployed"
    started = wire.post(f"/agents/{NAME}/start").json()
    assert started["status"] == "started"
    assert wire.get(f"/agents/{NAME}").json() == wire.get(f"/status/{NAME}").json()
    assert wire.post(f"/agents/{NAME}/restart").json()["status"] == "restarted"
    assert wire.post(f"/agents/{NAME}/stop").json() == {"status": "stopped", "name": NAME}


def test_diagnostics_show_why_an_agent_failed(
    client: AtollClient, wire: Api, tmp_path: Path
) -> None:
    client.deploy_agent(write(tmp_path, "exits_at_once"))
    refusal(lambda: client.start_agent(NAME))
    answer = wire.get(f"/agents/{NAME}/diagnostics").json()
    assert set(answer) == {
        "agent_name",
        "status",
        "diagnostics",
        "error_message",
        "exit_code",
        "stdout",
        "stderr",
        "config_path",
        "timestamp",
    }
    assert (answer["status"], bool(answer["error_message"])) == ("failed", True)
    assert answer["stderr"] or answer["stdout"]
    status = client.get_agent_status(NAME)
    assert (status["status"], status["health_status"]) == ("failed", "unhealthy")


def test_what_takes_longer_than_the_client_waits_goes_on(
    make_server: Callable[..., RunningServer], contract: Contract, tmp_path: Path
) -> None:
    server = make_server(auth="none", limits={"atoll_wait_seconds": 0.3})
    api, client = Api(server, contract), AtollClient(server.url)
    slow = write(tmp_path, "slow_start", replace={'"2"': '"1.5"'})
    first = client.deploy_agent(slow)
    wait_until(lambda: client.check_agent(checksum_of(slow))["exists"])
    assert first["status"] in {"deployed", "deploying"}

    starting = api.post("/start", json={"agent_name": NAME})
    assert (starting.status_code, starting.json()["status"]) == (202, "starting")
    assert starting.headers["Location"] == f"/status/{NAME}"
    wait_until(lambda: client.get_agent_status(NAME)["status"] == "running")

    newer = write(tmp_path, "slow_start", version="2.0.0", replace={'"2"': '"1.5"'})
    deploying = client.deploy_agent(newer)
    assert set(deploying) == DEPLOYED | {"status_url"}
    assert (deploying["status"], deploying["checksum"]) == ("deploying", checksum_of(newer))
    watched = api.get(deploying["status_url"], params={"wait": 60}).json()
    assert watched["status"] == "succeeded"
    assert client.get_agent_status(NAME)["checksum"] == checksum_of(newer)
