"""Keys on a real server: made, used, limited to agents, revoked, expired."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from deployer.api.callers import COOKIE
from deployer.errors import AgentUnknownError
from tests.contracts import ZIP, Api, Contract, problem
from tests.package_zips import zip_package
from tests.servers import RunningServer, wait_until

OWN, OTHER = "keys-web-1", "keys-api"


def make(api: Api, scope: str = "read", **more: Any) -> dict[str, Any]:
    answer = api.post("/v1/keys", json={"name": f"test {scope}", "scope": scope, **more})
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


def holder(api: Api, text: str) -> Callable[..., requests.Response]:
    """Give what asks the server with this key, and holds each answer to the contract."""

    def ask(method: str, path: str, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {text}", **options.pop("headers", {})}
        answer = requests.request(
            method,
            f"{api.server.url}{path}",
            headers=headers,
            timeout=70,
            allow_redirects=False,
            **options,
        )
        api.contract.check(answer)
        return answer

    return ask


@pytest.fixture(scope="module")
def two_agents(shared_server: RunningServer, contract: Contract) -> Iterator[Api]:
    """The shared server's API, with an agent of the key's and one of somebody else's."""
    api = Api(shared_server, contract)
    for name in (OWN, OTHER):
        api.deploy(zip_package("stdlib_agent", name=name))
    yield api
    for name in (OWN, OTHER):
        with contextlib.suppress(AgentUnknownError):
            shared_server.client.remove(name)


@pytest.fixture(scope="module")
def mine(two_agents: Api) -> Callable[..., requests.Response]:
    """What asks with a key that may deploy agents of the one name only."""
    return holder(two_agents, make(two_agents, "deploy", agents=["keys-web-*"])["key"])


def test_a_new_key_lets_in_and_its_text_is_shown_this_once(api: Api) -> None:
    made = make(api)
    assert re.fullmatch(rf"atoll_{made['id']}_[A-Za-z0-9_-]{{43}}", made["key"])
    assert holder(api, made["key"])("GET", "/v1/agents").status_code == 200
    shown = api.get(f"/v1/keys/{made['id']}")
    assert made["key"] not in shown.text
    assert made["key"] not in api.get("/v1/keys").text
    assert shown.json()["scope"] == "read"


def test_keys_come_a_page_at_a_time(api: Api) -> None:
    make(api)
    make(api)
    ids, cursor = [], ""
    while cursor is not None:
        page = api.get(f"/v1/keys?limit=1&cursor={cursor}").json()
        ids += [each["id"] for each in page["keys"]]
        cursor = page["next"]
    assert len(ids) > 2
    assert ids == [each["id"] for each in api.get("/v1/keys").json()["keys"]]


def test_keys_say_when_they_were_used_last(api: Api) -> None:
    made = make(api)
    assert made["last_used_at"] is None
    holder(api, made["key"])("GET", "/v1/agents")
    shown = api.get(f"/v1/keys/{made['id']}").json()
    used = datetime.fromisoformat(shown["last_used_at"])
    assert abs((datetime.now(UTC) - used).total_seconds()) < 30


def test_a_revoked_key_lets_nobody_in(api: Api) -> None:
    made = make(api)
    assert api.request("DELETE", f"/v1/keys/{made['id']}").status_code == 204
    problem(holder(api, made["key"])("GET", "/v1/agents"), 401, "authentication-required")
    problem(api.get(f"/v1/keys/{made['id']}"), 404, "key-unknown")


def test_an_expired_key_says_that_it_has_expired(api: Api) -> None:
    made = make(api, expires_in_days=1.2 / 86400)
    ask = holder(api, made["key"])
    wait_until(lambda: ask("GET", "/v1/agents").status_code == 401, what="expired")
    answer = ask("GET", "/v1/agents")
    assert made["id"] in problem(answer, 401, "authentication-required")["detail"]


def test_a_key_makes_none_that_outlives_it(api: Api) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    ask = holder(api, make(api, "admin", expires_at=soon.isoformat())["key"])
    for end in (None, (soon + timedelta(seconds=1)).isoformat()):
        answer = ask("POST", "/v1/keys", json={"name": "x", "scope": "read", "expires_at": end})
        problem(answer, 403, "forbidden")
    answer = ask("POST", "/v1/keys", json={"name": "x", "scope": "admin", "expires_in_days": 0.01})
    assert answer.status_code == 201


@pytest.mark.parametrize("scope", ["read", "operate", "deploy"])
def test_only_an_admin_key_makes_keys(api: Api, scope: str) -> None:
    ask = holder(api, make(api, scope)["key"])
    problem(ask("POST", "/v1/keys", json={"name": "x", "scope": "read"}), 403, "scope-missing")
    problem(ask("GET", "/v1/keys"), 403, "scope-missing")


@pytest.mark.parametrize(
    ("wanted", "where"),
    [
        ({"scope": "root"}, "scope"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"agents": []}, "agents"),
        ({"agents": ["[a-z]"]}, "agents.0"),
        ({"agents": ["../x"]}, "agents.0"),
        ({"scope": "admin", "agents": ["web-*"]}, "agents"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2099-01-01T00:00:00"}, "expires_at"),
        ({"expires_at": "2099-01-01T00:00:00Z", "expires_in_days": 1}, "expires_in_days"),
        ({"expires_in_days": 0}, "expires_in_days"),
        ({"expires_in_days": 1e308}, "expires_in_days"),
        ({"is_local": True}, "is_local"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(api: Api, wanted: dict[str, Any], where: str) -> None:
    answer = api.post("/v1/keys", json={"name": "x", "scope": "read", **wanted})
    assert where in [each["where"] for each in problem(answer, 422, "request-invalid")["errors"]]


# Some agents only ---------------------------------------------------------------------------------


def test_lists_leave_out_other_peoples_agents(mine: Callable[..., requests.Response]) -> None:
    for path, member, name in (
        ("/v1/agents", "agents", "name"),
        ("/agents", "agents", "name"),
        ("/v1/deployments", "deployments", "agent"),
        ("/v1/events?limit=1000", "events", "agent"),
        ("/v1/ports", "leases", "agent"),
    ):
        listed = {each[name] for each in mine("GET", path).json()[member]}
        assert OWN in listed, path
        assert all(each.startswith("keys-web-") for each in listed), (path, listed)


def test_other_peoples_deployments_and_packages_are_as_if_they_were_not_there(
    two_agents: Api, mine: Callable[..., requests.Response]
) -> None:
    listed = two_agents.get("/v1/deployments").json()["deployments"]
    theirs = next(each for each in listed if each["agent"] == OTHER)
    path = f"/v1/deployments/{theirs['id']}"
    problem(mine("GET", path), 404, "deployment-unknown")
    problem(mine("POST", f"{path}/cancel"), 404, "deployment-unknown")
    checksum = two_agents.get(f"/v1/agents/{OTHER}").json()["checksum"]
    problem(mine("GET", f"/v1/packages/{checksum}"), 404, "package-unknown")
    asked = {"package": checksum}
    problem(mine("POST", "/v1/deployments", json=asked), 404, "package-unknown")
    problem(mine("POST", f"/v1/agents/{OWN}/plan", json=asked), 404, "package-unknown")
    assert mine("POST", f"/check?checksum={checksum}").json()["exists"] is False


@pytest.mark.parametrize("route", ["/v1/packages", "/v1/deployments"])
def test_a_package_for_somebody_elses_agent_is_refused_and_nothing_of_it_stays(
    two_agents: Api, mine: Callable[..., requests.Response], route: str
) -> None:
    before = set(two_agents.server.state.packages.iterdir())
    data = zip_package("stdlib_agent", name=OTHER, extra_files={"new": uuid.uuid4().hex})
    problem(mine("POST", route, data=data, headers=ZIP), 403, "agent-forbidden")
    form = {"file": ("package.zip", data, "application/zip")}
    problem(mine("POST", "/deploy", files=form), 403, "agent-forbidden")
    assert set(two_agents.server.state.packages.iterdir()) == before
    assert not list(two_agents.server.state.tmp.iterdir())


def test_the_very_bytes_of_somebody_elses_package_are_refused_too(
    mine: Callable[..., requests.Response],
) -> None:
    data = zip_package("stdlib_agent", name=OTHER)
    problem(mine("POST", "/v1/packages", data=data, headers=ZIP), 403, "agent-forbidden")


def test_ones_own_agent_can_be_deployed_and_restarted(
    mine: Callable[..., requests.Response],
) -> None:
    data = zip_package("stdlib_agent", name=OWN)
    answer = mine("POST", "/v1/deployments", data=data, headers=ZIP, params={"wait": 60})
    assert answer.status_code == 200
    assert mine("POST", "/restart", json={"agent_name": OWN}).json()["status"] == "restarted"
    problem(mine("POST", "/restart", json={"agent_name": OTHER}), 403, "agent-forbidden")


def test_an_agent_that_is_not_there_is_refused_like_one_that_is(
    mine: Callable[..., requests.Response],
) -> None:
    answers = [mine("GET", f"/v1/agents/{name}") for name in (OTHER, "keys-nobody")]
    first, second = (problem(each, 403, "agent-forbidden") for each in answers)
    assert first["cause"] == second["cause"]


# Pages --------------------------------------------------------------------------------------------


def log_in(api: Api, text: str) -> requests.Session:
    session = requests.Session()
    answer = session.post(
        f"{api.server.url}/login", data={"token": text}, timeout=10, allow_redirects=False
    )
    assert answer.status_code == 303
    return session


def act(session: requests.Session, api: Api) -> requests.Response:
    return session.get(
        f"{api.server.url}/supervisor/index.html?action=refresh",
        headers={"Sec-Fetch-Site": "same-origin"},
        timeout=10,
        allow_redirects=False,
    )


def test_with_a_key_to_look_the_web_ui_shows_and_does_not_act(api: Api) -> None:
    session = log_in(api, make(api, "read")["key"])
    assert session.get(f"{api.server.url}/supervisor/", timeout=10).status_code == 200
    problem(act(session, api), 403, "scope-missing")


def test_with_a_key_to_operate_the_web_ui_acts(api: Api) -> None:
    assert act(log_in(api, make(api, "operate")["key"]), api).status_code == 303


def test_a_session_ends_with_its_key(api: Api) -> None:
    made = make(api)
    session = log_in(api, made["key"])
    api.request("DELETE", f"/v1/keys/{made['id']}")
    answer = session.get(f"{api.server.url}/supervisor/", timeout=10, allow_redirects=False)
    problem(answer, 401, "authentication-required")


def test_a_session_lasts_no_longer_than_its_key(api: Api) -> None:
    made = make(api, expires_in_days=0.01)
    value = log_in(api, made["key"]).cookies[COOKIE]
    end = datetime.fromtimestamp(int(str(value).split(".")[1]), UTC)
    assert end <= datetime.fromisoformat(made["expires_at"])


# The local key, and wrong ones --------------------------------------------------------------------


def test_revoking_the_local_key_puts_another_in_its_place(
    make_server: Callable[..., RunningServer],
) -> None:
    server = make_server(limits={"wrong_keys": 3})
    before = server.token
    session = requests.Session()
    session.post(f"{server.url}/login", data={"token": before}, timeout=10)
    (local,) = (key for key in server.request("GET", "/v1/keys").json()["keys"] if key["is_local"])
    assert server.request("DELETE", f"/v1/keys/{local['id']}").status_code == 204
    assert server.token != before
    assert server.request("GET", "/v1/agents").status_code == 200
    wrong = {"Authorization": f"Bearer {before}"}
    assert server.request("GET", "/v1/agents", headers=wrong).status_code == 401
    old_session = session.get(f"{server.url}/supervisor/", timeout=10, allow_redirects=False)
    assert old_session.status_code == 401

    # wrong keys are slowed down, one was shown above, and the right one is not
    statuses = [server.request("GET", "/none", headers=wrong) for _ in range(4)]
    assert [each.status_code for each in statuses] == [401, 401, 429, 429]
    document = problem(statuses[-1], 429, "too-many-attempts")
    assert 1 <= int(statuses[-1].headers["Retry-After"]) <= 20
    assert before not in str(document)
    form = {"token": before}
    login = requests.post(f"{server.url}/login", data=form, timeout=10, allow_redirects=False)
    assert (login.status_code, "Retry-After" in login.headers) == (429, True)
    assert server.request("GET", "/v1/agents").status_code == 200
    form = {"token": server.token}
    login = requests.post(f"{server.url}/login", data=form, timeout=10, allow_redirects=False)
    assert login.status_code == 303
