"""The audit: an entry for each act, with who, what, from where and how it ended."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import requests

from tests.contracts import ZIP, Api, problem
from tests.package_zips import zip_package
from tests.servers import RunningServer, wait_until

NAME = "audited"


def entries(api: Api, **query: Any) -> list[dict[str, Any]]:
    answer = api.get("/v1/audit", params={"limit": 20, **query})
    assert answer.status_code == 200, answer.text
    listed: list[dict[str, Any]] = answer.json()["entries"]
    return listed


def entry_of(api: Api, answer: requests.Response) -> dict[str, Any]:
    """Find the one entry that a request left."""
    request_id = answer.headers["X-Request-Id"]
    (found,) = [each for each in entries(api, limit=100) if each["request_id"] == request_id]
    return found


def is_last(api: Api, expected: dict[str, Any]) -> bool:
    return entries(api)[0].items() >= expected.items()


@pytest.fixture
def who(api: Api) -> str:
    """How the audit names the key of tests."""
    (local,) = [key for key in api.get("/v1/keys").json()["keys"] if key["is_local"]]
    return f"key:{local['id']}"


def test_every_act_on_an_agent_leaves_one_entry(api: Api, who: str) -> None:
    data = zip_package("stdlib_agent", name=NAME)
    deployed = api.post("/v1/deployments", data=data, headers=ZIP, params={"wait": 60})
    base = {"who": who, "name": "local", "source": "127.0.0.1", "agent": NAME, "times": 1}
    entry = entry_of(api, deployed)
    assert entry.items() >= {**base, "operation": "POST /v1/deployments", "status": 200}.items()
    assert entry["target"] == deployed.json()["id"]
    for method, path, template in (
        ("POST", f"/v1/agents/{NAME}/restart", "/v1/agents/{agent}/restart"),
        ("POST", f"/v1/agents/{NAME}/kill", "/v1/agents/{agent}/kill"),
        ("POST", "/stop", "/stop"),
        ("DELETE", f"/v1/agents/{NAME}", "/v1/agents/{agent}"),
    ):
        body = {"json": {"agent_name": NAME}} if path == "/stop" else {}
        answer = api.request(method, path, **body)
        entry = entry_of(api, answer)
        expected = {**base, "operation": f"{method} {template}", "status": answer.status_code}
        assert entry.items() >= expected.items()


def test_an_act_that_failed_is_written_with_how_it_failed(api: Api, who: str) -> None:
    for answer, status in (
        (api.post("/v1/agents/nobody/stop"), 404),
        (api.post("/v1/deployments", data=b"{", headers={"Content-Type": "text/plain"}), 415),
        (api.post("/v1/packages", data=b"no zip", headers=ZIP), 422),
    ):
        entry = entry_of(api, answer)
        assert (entry["who"], entry["status"], answer.status_code) == (who, status, status)


def test_looking_leaves_nothing(api: Api) -> None:
    before = entries(api)[0]["id"]
    for path in ("/v1/agents", "/agents", "/v1/keys", "/v1/audit", "/supervisor/", "/none"):
        api.get(path)
    api.post("/check", params={"checksum": "0" * 32})
    assert entries(api)[0]["id"] == before


def test_keys_are_named_when_they_are_made_and_revoked_and_their_texts_never(api: Api) -> None:
    made = api.post("/v1/keys", json={"name": "for CI", "scope": "deploy", "agents": ["web-*"]})
    document = made.json()
    revoked = api.request("DELETE", f"/v1/keys/{document['id']}")
    entry = entry_of(api, made)
    assert entry["target"] == f"{document['id']} for CI: deploy for web-*"
    assert entry_of(api, revoked)["operation"] == "DELETE /v1/keys/{key_id}"
    assert entry_of(api, revoked)["target"] == f"{document['id']} for CI"
    text = api.get("/v1/audit", params={"limit": 1000}).text
    assert document["key"] not in text


def test_refused_attempts_are_written_as_one_a_minute(api: Api) -> None:
    made = api.post("/v1/keys", json={"name": "looks", "scope": "read"}).json()
    headers = {"Authorization": f"Bearer {made['key']}"}
    for _ in range(5):
        answer = api.post("/v1/agents/x/stop", headers=headers)
        problem(answer, 403, "scope-missing")
    found = entries(api, who=f"key:{made['id']}")
    assert {(each["status"], each["operation"]) for each in found} == {
        (403, "POST /v1/agents/{agent}/stop")
    }
    assert [each["times"] for each in found] == [4, 1]


def test_a_wrong_key_is_written_with_its_address_and_without_its_text(api: Api) -> None:
    wrong = {"Authorization": "Bearer wrong-but-secret-all-the-same"}
    assert api.get("/v1/agents", headers=wrong).status_code == 401
    answer = api.get("/v1/audit", params={"limit": 100})
    assert (401, "127.0.0.1", "") in {
        (each["status"], each["source"], each["who"]) for each in answer.json()["entries"]
    }
    assert "wrong-but-secret" not in answer.text


def test_the_audit_goes_on_where_a_page_ended(api: Api) -> None:
    for _ in range(3):
        api.post("/v1/agents/nobody/stop")
    first = api.get("/v1/audit", params={"limit": 2}).json()
    second = api.get("/v1/audit", params={"limit": 2, "cursor": first["next"]}).json()
    ids = [each["id"] for each in (*first["entries"], *second["entries"])]
    assert ids == sorted(ids, reverse=True)
    assert len(set(ids)) == 4


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nobody_can_write_or_delete_entries(api: Api, method: str) -> None:
    assert api.request(method, "/v1/audit").status_code == 405


def test_the_login_and_acts_in_the_web_ui_are_written(api: Api, who: str) -> None:
    session = requests.Session()
    url = api.server.url
    login = session.post(
        f"{url}/login", data={"token": api.server.token}, timeout=10, allow_redirects=False
    )
    assert entry_of(api, login).items() >= {"who": who, "operation": "POST /login"}.items()
    acted = session.get(
        f"{url}/supervisor/index.html?action=refresh",
        headers={"Sec-Fetch-Site": "same-origin"},
        timeout=10,
        allow_redirects=False,
    )
    entry = entry_of(api, acted)
    assert (entry["who"], entry["target"], entry["status"]) == (who, "refresh", 303)


def test_an_act_through_supervisorctl_is_written_as_seen(api: Api) -> None:
    api.deploy(zip_package("stdlib_agent", name=NAME))
    program = f"{NAME}--{api.get(f'/v1/agents/{NAME}').json()['release']}"
    conf = str(api.server.state.supervisord_conf)
    for act in ("stop", "start"):
        command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", conf, act, program]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
        expected = {"who": "supervisord", "operation": act, "agent": NAME}
        wait_until(partial(is_last, api, expected), what=f"{act} is written")


def test_the_command_line_makes_lists_and_revokes_keys_and_shows_what_was_done(
    server: RunningServer,
) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "deployer.cli", *words]
        options = ["--state-dir", str(server.state.root)]
        return subprocess.run(
            [*command, *options], capture_output=True, text=True, timeout=30, check=False
        )

    made = run("keys", "create", "for CI", "--scope", "deploy", "--agent", "web-*", "--days", "7")
    text = made.stdout.strip()
    assert made.returncode == 0
    assert text.startswith("atoll_")
    listed = json.loads(run("keys", "list", "--json").stdout)["keys"][-1]
    assert (listed["name"], listed["scope"], listed["agents"]) == ("for CI", "deploy", ["web-*"])
    assert text not in run("keys", "list").stdout
    refused = run("keys", "list", "--token", text)
    assert refused.returncode == 4
    assert "needs the scope admin" in refused.stderr
    assert run("keys", "revoke", listed["id"]).returncode == 0
    assert run("list", "--token", text).returncode == 4
    shown = run("audit", "--limit", "5").stdout
    assert "DELETE /v1/keys/{key_id}" in shown
    assert f"{listed['id']} for CI" in shown
    assert text not in shown
    unknown = run("keys", "revoke", "0" * 12)
    assert (unknown.returncode, "cannot find key" in unknown.stderr) == (1, True)


def test_entries_survive_the_servers_death_and_refusals_are_flushed_at_its_end(
    make_server: Callable[..., RunningServer],
) -> None:
    server = make_server()
    server.request("POST", "/v1/agents/nobody/stop")
    for _ in range(3):
        requests.get(f"{server.url}/v1/agents", timeout=10)
    server.stop()
    server.start()
    listed = server.request("GET", "/v1/audit").json()["entries"]
    assert [(each["status"], each["times"]) for each in listed] == [(401, 2), (401, 1), (404, 1)]
