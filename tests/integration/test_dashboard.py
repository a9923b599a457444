"""The dashboard as it is sent: to whom, and with which acts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
import requests

from deployer.api.dashboard import assets
from tests.contracts import Api, Contract, problem
from tests.event_streams import listening
from tests.loopback import thief
from tests.package_zips import zip_package
from tests.servers import RunningServer, wait_until
from tests.visitors import Visitor

OWN, OTHER = "dash-web", "dash-api"
PAGES = ["/", f"/?agent={OWN}", "/login", "/docs"]


@pytest.fixture(scope="module")
def agents(shared_server: RunningServer, contract: Contract) -> Iterator[Api]:
    """The shared server's API, with two agents; one has two releases."""
    api = Api(shared_server, contract)
    for name, version in ((OWN, "1.0.0"), (OWN, "2.0.0"), (OTHER, "1.0.0")):
        api.deploy(zip_package("stdlib_agent", name=name, version=version))
    yield api
    for name in (OWN, OTHER):
        shared_server.client.remove(name)


@pytest.fixture(scope="module")
def visitor(agents: Api) -> Visitor:
    return Visitor(agents, agents.server.token)


@pytest.fixture(scope="module")
def with_key(agents: Api) -> Callable[..., Visitor]:
    """Give visitors with keys of their own."""

    def make(scope: str, *patterns: str) -> Visitor:
        wanted = {"name": f"dash {scope}", "scope": scope, "agents": patterns or ["*"]}
        return Visitor(agents, agents.post("/v1/keys", json=wanted).json()["key"])

    return make


# What is sent -----------------------------------------------------------------------------------


def test_a_browser_without_a_session_is_led_to_the_login(agents: Api) -> None:
    answer = requests.get(
        agents.server.url, headers={"Accept": "text/html"}, timeout=10, allow_redirects=False
    )
    assert (answer.status_code, answer.headers["Location"]) == (303, "/login")


def test_no_page_tells_the_proof_to_whoever_has_the_cookie_alone(visitor: Visitor) -> None:
    for path in PAGES:
        assert visitor.proof not in visitor.ask("GET", path).text


@pytest.mark.parametrize("path", PAGES)
def test_pages_run_no_script_but_what_lies_in_files_of_ours(visitor: Visitor, path: str) -> None:
    page = visitor.ask("GET", path)
    policy = dict(
        part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; ")
    )
    assert (policy["default-src"], policy["script-src"]) == ("'none'", "'self'")
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert re.findall(r"<script(?! type=\"module\" src=\"/-/)", page.text) == []
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=|javascript:", page.text) == []


@pytest.mark.parametrize("name", assets.NAMES)
def test_parts_of_pages_are_there_for_everybody_and_sent_once(agents: Api, name: str) -> None:
    url = f"{agents.server.url}{assets.PREFIX}{name}"
    answer = requests.get(url, timeout=10)
    agents.contract.check(answer)
    assert answer.status_code == 200
    assert "//" not in re.sub(
        r"(?m)http://www\.w3\.org/2000/svg|^ *// .*$| // .*$", "", answer.text
    )
    again = requests.get(url, headers={"If-None-Match": answer.headers["ETag"]}, timeout=10)
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["none.js", "..", "..%2f__init__.py", ".css"])
def test_nothing_else_is_a_part_of_pages(agents: Api, name: str) -> None:
    prepared = requests.Request("GET", agents.server.url).prepare()
    prepared.url = f"{agents.server.url}{assets.PREFIX}{name}"  # with its dots
    with requests.Session() as session:
        problem(session.send(prepared, timeout=10), 404, "route-unknown")


def test_only_acts_that_a_key_may_do_are_shown(with_key: Callable[..., Visitor]) -> None:
    found = {}
    for scope in ("read", "operate", "deploy"):
        reader = with_key(scope)
        text = reader.ask("GET", "/").text + reader.ask("GET", f"/?agent={OWN}").text
        verbs = re.findall(r"data-act=\"POST \S+/(\w+)\"", text)
        found[scope] = {*verbs, *(["upload"] if 'type="file"' in text else [])}
    assert found["read"] == set()
    assert found["operate"] == {"stop", "restart"}
    assert found["deploy"] == {"stop", "restart", "rollback", "upload"}


def test_a_key_for_some_agents_sees_nothing_of_the_others(with_key: Callable[..., Visitor]) -> None:
    mine = with_key("deploy", "dash-w*")
    page = mine.ask("GET", "/").text
    assert OWN in page
    assert OTHER not in page
    assert mine.ask("GET", f"/?agent={OWN}").status_code == 200
    problem(mine.ask("GET", f"/?agent={OTHER}"), 403, "agent-forbidden")
    problem(mine.ask("GET", f"/-/live?agent={OTHER}"), 403, "agent-forbidden")


@pytest.mark.parametrize("name", ["nobody", "..", "%3Cscript%3E", "a" * 300])
def test_an_agent_that_is_not_there_is_not_found(visitor: Visitor, name: str) -> None:
    problem(visitor.ask("GET", f"/?agent={name}"), 404, "agent-unknown")
    problem(visitor.ask("GET", f"/-/live?agent={name}"), 404, "agent-unknown")


def test_where_no_key_is_asked_for_the_page_is_open_and_acts(open_server: RunningServer) -> None:
    page = open_server.request("GET", "/")
    assert page.status_code == 200
    assert "none · admin" in page.text
    assert "log-out" not in page.text
    problem(open_server.request("GET", "/", headers={"Host": "evil.example"}), 403, "forbidden")


# What changes -------------------------------------------------------------------------------------


def test_a_stream_brings_every_part_and_then_what_happens(agents: Api) -> None:
    with listening(agents.server, "/-/live", patience=10) as stream:
        first = next(stream)
        assert first.kind == "parts"
        assert set(first.json) == {"verdict", "agents", "deployments", "timeline", "ports"}

        agents.server.client.stop(OTHER)

        changed = (event.json.get("timeline", "") for event in stream)
        assert any(f"{OTHER} was stopped" in each for each in changed)


def test_ports_are_shown_with_those_who_hold_them(agents: Api) -> None:
    ports = agents.server.client.ports()
    stranger = next(
        port
        for port in range(ports.first, ports.last + 1)
        if port not in {lease.port for lease in ports.leases}
    )
    strangers = f'<b>{stranger}</b><span class="quiet">somebody else listens here</span>'

    def look() -> str:
        with listening(agents.server, "/-/live", patience=10) as stream:
            return str(next(stream).json["ports"])

    with thief(stranger):
        wait_until(lambda: strangers in look(), seconds=30)
        shown = look()

    assert re.search(rf"\d+ of {ports.first}–{ports.last} are free", shown)  # noqa: RUF001
    for lease in ports.leases:
        assert f'<b>{lease.port}</b><a href="/?agent={lease.agent}">{lease.agent}</a>' in shown


def test_a_stream_of_one_agent_ends_with_it(agents: Api) -> None:
    agents.deploy(zip_package("stdlib_agent", name="dash-short"))
    with listening(agents.server, "/-/live", agent="dash-short", patience=10) as stream:
        assert set(next(stream).json) == {"agent", "releases", "deployments", "timeline"}

        agents.server.client.remove("dash-short")

        last = list(stream)[-1]
    assert (last.kind, last.json["code"]) == ("problem", "agent-unknown")
