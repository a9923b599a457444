"""supervisord's web UI behind our login, and what operators do past the API, taken as intents."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from contextlib import ExitStack
from html.parser import HTMLParser
from urllib.parse import urljoin

import psutil
import pytest
import requests

from deployer.api.callers import COOKIE
from deployer.supervisord_confs import SERVICE, read_credentials
from tests.contracts import Api, Contract, problem
from tests.package_zips import zip_package
from tests.servers import RunningServer, wait_until

NAME = "watched.by-web_ui"
PROGRAM = f"{NAME}--1"
CROSS_SITE = [
    {},
    {"Referer": "https://evil.example/supervisor/"},
    {"Referer": "http://["},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
]


class Links(HTMLParser):
    """Collects where a page leads and what it needs."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, _tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attributes if name in {"href", "src"} and value]


class Browser:
    """A person's browser: a cookie from the login, and a page that links are followed from."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.session = requests.Session()
        self.session.trust_env = False
        self.page = f"{server.url}/supervisor/"

    def open(self, path: str, **headers: str) -> requests.Response:
        return self.session.get(
            urljoin(self.page, path),
            headers={"Accept": "text/html", **headers},
            timeout=30,
            allow_redirects=False,
        )

    def press(self, path: str) -> requests.Response:
        """Follow a link of the page, as a browser does on a machine other than the server."""
        return self.open(path, Referer=self.page)

    def log_in(self, token: str) -> requests.Response:
        return self.session.post(
            f"{self.server.url}/login",
            data={"token": token},
            headers={"Origin": self.server.url},
            timeout=10,
            allow_redirects=False,
        )


@pytest.fixture(scope="module")
def agent(shared_server: RunningServer, contract: Contract) -> Iterator[Api]:
    """The API of a server where an agent runs whose name has all kinds of characters."""
    api = Api(shared_server, contract)
    api.deploy(zip_package("stdlib_agent", name=NAME))
    yield api
    api.request("DELETE", f"/v1/agents/{NAME}")


@pytest.fixture
def browser(agent: Api) -> Browser:
    """A browser that is logged in."""
    browser = Browser(agent.server)
    assert browser.log_in(agent.server.token).status_code == 303
    return browser


@pytest.fixture
def running(agent: Api) -> Api:
    """The same, and the agent runs whatever the test before did."""
    if agent.get(f"/v1/agents/{NAME}").json()["status"] != "running":
        agent.post(f"/v1/agents/{NAME}/start")
    return agent


# The way in ---------------------------------------------------------------------------------------


def test_a_browser_without_a_session_is_led_to_the_login(agent: Api) -> None:
    answer = Browser(agent.server).open("")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/login")


def test_the_login_asks_for_the_token_in_a_form(agent: Api) -> None:
    page = Browser(agent.server).open("/login")
    assert page.status_code == 200
    assert 'type="password"' in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["Cache-Control"] == "no-store"


def test_the_token_gives_a_session_that_no_script_and_no_other_site_can_use(agent: Api) -> None:
    answer = Browser(agent.server).log_in(f" {agent.server.token}\n")
    assert (answer.status_code, answer.headers["Location"].split("#")[0]) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert agent.server.token not in cookie


@pytest.mark.parametrize("token", ["wrong", "", "tökén", "x" * 10_000, "a&token=b"])
def test_a_wrong_token_gives_none(agent: Api, token: str) -> None:
    answer = Browser(agent.server).log_in(token)
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (401, False)
    assert "cannot let you in" in answer.text
    assert 'type="password"' in answer.text, "no form to try again in"


def test_another_sites_form_cannot_log_anybody_in(agent: Api) -> None:
    answer = requests.post(
        f"{agent.server.url}/login",
        data={"token": agent.server.token},
        headers={"Origin": "https://evil.example"},
        timeout=10,
    )
    problem(answer, 403, "forbidden")


def test_a_session_opens_pages_and_nothing_else(browser: Browser) -> None:
    assert browser.open("").status_code == 200
    assert browser.open("/docs").status_code == 200
    for path in ("/v1/agents", "/agents", "/metrics", "/supervisorx"):
        assert browser.open(path).status_code == 401


def test_a_session_is_none_from_another_address(browser: Browser, agent: Api) -> None:
    cookie = f"{COOKIE}={browser.session.cookies[COOKIE]}"
    statuses = {}
    for address in ("127.0.0.1", "127.0.0.2"):
        connection = http.client.HTTPConnection(
            "127.0.0.1", agent.server.port, timeout=10, source_address=(address, 0)
        )
        connection.request("GET", "/supervisor/", headers={"Cookie": cookie})
        statuses[address] = connection.getresponse().status
        connection.close()
    assert statuses == {"127.0.0.1": 200, "127.0.0.2": 401}


def test_a_session_that_somebody_prolonged_is_none(browser: Browser) -> None:
    key, end, signature = str(browser.session.cookies[COOKIE]).split(".")
    browser.session.cookies.clear()
    browser.session.cookies.set(COOKIE, f"{key}.{int(end) + 1}.{signature}")
    assert browser.open("").status_code == 303


# Pages --------------------------------------------------------------------------------------------


def test_the_page_shows_every_program_by_its_name(browser: Browser) -> None:
    page = browser.open("")
    assert (page.status_code, page.headers["Content-Type"].split(";")[0]) == (200, "text/html")
    assert PROGRAM in page.text
    assert SERVICE in page.text
    assert page.headers["X-Request-Id"]


def test_without_the_slash_the_page_is_redirected_to_for_the_sake_of_its_links(
    browser: Browser,
) -> None:
    answer = browser.open("/supervisor")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/supervisor/")


def test_every_link_of_the_page_leads_to_something_below_it(browser: Browser) -> None:
    links = Links(browser.open("").text).found
    local = [link for link in links if not re.match(r"https?://|#", link)]
    assert len(local) > 5
    for link in local:
        assert urljoin(browser.page, link).startswith(browser.page)
        if "action=" not in link and "logtail" not in link:
            assert browser.press(link).status_code == 200, link


@pytest.mark.parametrize(
    ("path", "media_type"),
    [("stylesheets/supervisor.css", "text/css"), ("images/icon.png", "image/png")],
)
def test_what_pages_are_made_of_is_passed_on(browser: Browser, path: str, media_type: str) -> None:
    answer = browser.open(path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, media_type)


def test_the_end_of_a_log_is_a_page(running: Api, browser: Browser) -> None:
    assert running
    page = browser.press(f"tail.html?processname={NAME}--1&limit=100")
    assert (page.status_code, PROGRAM in page.text) == (200, True)


@pytest.mark.parametrize(
    "name", ["no one", "a%2Fb", "%3Cscript%3E", "..", "%C3%BC", "%00", "a%0d%0aX: 1", "a:*", "%25s"]
)
def test_a_page_for_a_strange_name_is_a_page(browser: Browser, name: str) -> None:
    page = browser.press(f"tail.html?processname={name}")
    assert page.status_code == 200
    assert "<script>" not in page.text


@pytest.mark.parametrize("limit", ["1048577", "99999999999999999999", "-1", "x", "1e9"])
def test_supervisord_is_not_made_to_read_a_whole_log(browser: Browser, limit: str) -> None:
    answer = browser.press(f"tail.html?processname={PROGRAM}&limit={limit}")
    problem(answer, 400, "bad-request")


@pytest.mark.parametrize(
    "path",
    [
        "RPC2",
        "RPC2/",
        "//RPC2",
        "./RPC2",
        "x/../RPC2",
        "%52PC2",
        "..%2fRPC2",
        "ok.html",
        "index.html%3Faction=stopall",
        "index.html%23",
        "logtail/..%2f..%2fetc",
        "logtail/",
        "logtail",
        "mainlogtail/x",
        "stylesheets/../index.html%3faction=stopall",
        "ui/status.html",
    ],
)
def test_nothing_else_of_supervisord_is_passed_on(browser: Browser, path: str) -> None:
    # as it stands: requests would resolve the dots itself
    prepared = requests.Request("GET", browser.page, cookies=browser.session.cookies).prepare()
    prepared.url = f"{browser.page}{path}"
    answer = browser.session.send(prepared, timeout=10, allow_redirects=False)
    assert answer.status_code == 404, answer.text


def test_xml_rpc_is_not_passed_on(agent: Api) -> None:
    call = (
        '<?xml version="1.0"?><methodCall><methodName>supervisor.shutdown</methodName></methodCall>'
    )
    answer = agent.post("/supervisor/RPC2", data=call, headers={"Content-Type": "text/xml"})
    problem(answer, 405, "method-not-allowed")


def test_a_head_neither_acts_nor_holds_a_log_open(running: Api) -> None:
    same_origin = {"Sec-Fetch-Site": "same-origin"}
    stop = f"/supervisor/index.html?action=stop&processname={PROGRAM}"
    assert running.request("HEAD", stop, headers=same_origin).status_code == 200
    for _ in range(40):
        running.request("HEAD", f"/supervisor/logtail/{PROGRAM}")
    assert running.get(f"/v1/agents/{NAME}").json()["desired"] == "running"
    assert running.get(f"/v1/agents/{NAME}/wait").status_code == 200


def test_supervisords_credentials_are_in_no_answer(agent: Api, browser: Browser) -> None:
    credentials = read_credentials(agent.server.state)
    refresh = browser.press("index.html?action=refresh")
    answers = [browser.open(""), browser.press("tail.html?processname=x"), refresh]
    answers += [agent.get("/v1/server"), agent.get("/openapi.json")]
    for answer in answers:
        seen = f"{answer.headers} {answer.text}"
        assert credentials.password not in seen
        assert "WWW-Authenticate" not in answer.headers


# Actions ------------------------------------------------------------------------------------------


def button(browser: Browser, action: str) -> str:
    """Find where a button of the agent's leads, once the page shows it."""

    def find() -> str | None:
        links = Links(browser.open("").text).found
        return next((each for each in links if each.endswith(f"={action}") and NAME in each), None)

    return str(wait_until(find))


def test_an_agent_is_stopped_and_started_through_the_page_and_that_is_an_intent(
    running: Api, browser: Browser
) -> None:
    before = running.get(f"/v1/agents/{NAME}").json()
    answer = browser.press(button(browser, "stop"))
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/supervisor/?message=")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "stopped" in browser.open(answer.headers["Location"]).text.lower()

    path = f"/v1/agents/{NAME}"
    wait_until(lambda: running.get(path).json()["desired"] == "stopped")
    assert running.get(path).json()["status"] == "stopped"
    assert not psutil.pid_exists(before["pid"])
    leases = running.get("/v1/ports").json()["leases"]
    assert [lease for lease in leases if lease["agent"] == NAME] == []

    assert browser.press(button(browser, "start")).status_code == 303
    wait_until(lambda: running.get(path).json()["status"] == "running")
    after = running.get(path).json()
    assert (after["desired"], after["port"]) == ("running", before["port"])
    leases = running.get("/v1/ports").json()["leases"]
    assert [lease["port"] for lease in leases if lease["agent"] == NAME] == [before["port"]]
    kinds = [event["kind"] for event in events(running)]
    assert kinds.index("agent.stopped") < len(kinds) - kinds[::-1].index("agent.started") - 1


def test_a_restart_through_the_page_leaves_the_agent_desired(
    running: Api, browser: Browser
) -> None:
    path = f"/v1/agents/{NAME}"
    before = running.get(path).json()
    assert browser.press(f"index.html?action=restart&processname={PROGRAM}").status_code == 303
    wait_until(
        lambda: (
            (now := running.get(path).json())["status"] == "running" and now["pid"] != before["pid"]
        )
    )
    wait_until(lambda: running.get(path).json()["desired"] == "running")


@pytest.mark.parametrize("headers", CROSS_SITE)
@pytest.mark.parametrize("auth", ["token", "none"])
def test_an_action_that_another_site_sends_is_refused(
    request: pytest.FixtureRequest, browser: Browser, headers: dict[str, str], auth: str
) -> None:
    if auth == "none":
        browser = Browser(request.getfixturevalue("open_server"))
    answer = browser.open(f"index.html?action=stop&processname={PROGRAM}", **headers)
    problem(answer, 403, "forbidden")
    assert browser.press("index.html?action=refresh").status_code == 303


def test_an_action_that_another_site_sends_has_not_happened(running: Api, browser: Browser) -> None:
    pid = running.get(f"/v1/agents/{NAME}").json()["pid"]
    for headers in CROSS_SITE:
        browser.open(f"index.html?action=stop&processname={PROGRAM}", **headers)
        browser.open(f"?action=stop&processname={PROGRAM}", **headers)
        browser.open(f"tail.html?PATH_INFO=index.html&action=stop&processname={PROGRAM}", **headers)
    assert running.get(f"/v1/agents/{NAME}").json()["pid"] == pid


def test_a_modern_browser_says_that_it_is_on_the_same_page(browser: Browser) -> None:
    answer = browser.open("index.html?action=refresh", **{"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 303


@pytest.mark.parametrize(
    "query",
    [
        "action=stopall",
        "action=restartall",
        "action=shutdown",
        "action=reload",
        f"action=stop&processname={SERVICE}",
        f"action=restart&processname={SERVICE}",
        f"action=stop&processname={SERVICE}:{SERVICE}",
        f"action=stop&processname={SERVICE}:*",
        f"action=stop&processname={SERVICE}&processname={PROGRAM}",
        "action=stopall&action=refresh",
        "action=stopall&action=",
        "%61ction=stopall",
        "action=%73topall",
    ],
)
def test_what_would_end_the_api_is_refused(agent: Api, browser: Browser, query: str) -> None:
    pid = agent.server.api_pid()
    problem(browser.press(f"index.html?{query}"), 403, "forbidden")
    assert agent.server.api_pid() == pid


def test_supervisord_sees_only_what_was_judged_here(running: Api, browser: Browser) -> None:
    """Of two equal parameters supervisord takes the first, and PATH_INFO for the page's name."""
    query = f"action=refresh&action=stopall&PATH_INFO=ok.html&processname={PROGRAM}"
    answer = browser.press(f"index.html?{query}")
    assert (answer.status_code, "refreshed" in answer.headers["Location"]) == (303, True)
    assert running.get(f"/v1/agents/{NAME}").json()["status"] == "running"


# Logs that grow -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", [f"logtail/{PROGRAM}", f"logtail/{PROGRAM}/stdout", f"logtail/{PROGRAM}/stderr"]
)
def test_a_log_is_followed_even_while_it_is_silent(
    running: Api, browser: Browser, path: str
) -> None:
    assert running
    with browser.session.get(f"{browser.page}{path}", stream=True, timeout=10) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_line_is_seen_as_soon_as_it_is_written(running: Api, browser: Browser) -> None:
    with browser.session.get(f"{browser.page}logtail/{PROGRAM}", stream=True, timeout=10) as answer:
        lines = answer.iter_lines(chunk_size=None)
        assert b"what is added" in next(lines)
        with running.server.state.stdout_log(PROGRAM).open("a") as log:
            log.write("said just now\n")
        assert next(lines) == b"said just now"


@pytest.mark.parametrize(
    "path", ["logtail/nobody", "logtail/nobody--1", "logtail/a%00--1", "logtail/..--1"]
)
def test_a_log_that_is_not_there_is_not_found(browser: Browser, path: str) -> None:
    problem(browser.press(path), 404, "route-unknown")


def test_followed_logs_take_no_more_places_than_there_are_and_give_them_back(
    running: Api, browser: Browser
) -> None:
    def follow(holding: ExitStack) -> int:
        # a session each, or the one connection would be read to the log's end first
        session = holding.enter_context(requests.Session())
        session.cookies.update(browser.session.cookies)
        path = f"{browser.page}logtail/{PROGRAM}"
        return holding.enter_context(session.get(path, stream=True, timeout=10)).status_code

    with ExitStack() as holding:
        for _ in range(8):  # half of all, as soon as those of other tests were seen to have left
            wait_until(lambda: follow(holding) == 200)
        assert follow(holding) == 429
        assert running.get("/v1/agents").status_code == 200
    with ExitStack() as holding:
        wait_until(lambda: follow(holding) == 200)


# supervisorctl ------------------------------------------------------------------------------------


def events(api: Api) -> list[dict[str, str]]:
    params = {"agent": NAME, "limit": 1000}
    found: list[dict[str, str]] = api.get("/v1/events", params=params).json()["events"]
    return found


def test_supervisorctl_shows_the_agents_by_name(running: Api) -> None:
    shown = running.server.ctl("status")
    assert re.search(rf"^{re.escape(PROGRAM)} +RUNNING +pid \d+", shown, re.MULTILINE)


def test_a_stop_and_a_start_by_supervisorctl_are_intents(running: Api) -> None:
    path = f"/v1/agents/{NAME}"
    before = running.get(path).json()
    assert "stopped" in running.server.ctl("stop", PROGRAM)
    wait_until(lambda: running.get(path).json()["desired"] == "stopped")
    assert running.get(path).json()["status"] == "stopped"
    leases = running.get("/v1/ports").json()["leases"]
    assert [lease for lease in leases if lease["agent"] == NAME] == []

    assert "started" in running.server.ctl("start", PROGRAM)
    wait_until(lambda: running.get(path).json()["status"] == "running")
    after = running.get(path).json()
    assert (after["desired"], after["port"]) == ("running", before["port"])
    said = [event["message"] for event in events(running)]
    assert any("stopped through supervisord" in message for message in said)
    assert any("started through supervisord" in message for message in said)
