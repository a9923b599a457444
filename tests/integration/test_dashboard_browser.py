"""The dashboard as a person has it: in a real Chromium, against a real server with real agents."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browsers import Browser, chromium
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server, wait_until

GREETER = "greeter"
LONGEST = "a-name-that-is-as-long-as-any-name-may-be.and-not-a-letter-more"
GIVEN_UP_SOON = {"[health]": "[deployment]\nmax_restarts = 1\n\n[health]"}
HOSTILE = "<script>window.hit = 1</script><img src=x onerror='window.hit = 1'>\"'"


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, installer_cache: Path
) -> Iterator[RunningServer]:
    """A server of its own: what others deployed on it would be a part of the verdict."""
    with running_server(tmp_path_factory.mktemp("d") / "state", cache_dir=installer_cache) as it:
        yield it


@pytest.fixture(scope="module")
def window(served: RunningServer) -> Iterator[Browser]:
    """A browser that is logged in."""
    with chromium() as browser:
        browser.log_in(served.url, served.token)
        yield browser


@pytest.fixture
def browser(window: Browser) -> Iterator[Browser]:
    """The same, light and wide, and without a word in its console at the end of the test."""
    window.resize(1280)
    window.prefer("light")
    window.complaints()
    yield window
    assert window.complaints() == []


@pytest.fixture
def empty(served: RunningServer) -> RunningServer:
    """The server without any agent."""
    for agent in served.client.agents():
        served.client.remove(agent.name)
    return served


@pytest.fixture
def greeter(empty: RunningServer) -> RunningServer:
    """The server with one agent that runs."""
    empty.client.deploy(zip_package("stdlib_agent", name=GREETER, version="1.0.0"))
    return empty


def row(agent: str) -> str:
    return f'[id="row-{agent}"]'


def show(browser: Browser, server: RunningServer, agent: str = "") -> None:
    """Open the page, whole and live; what is set on its window now is gone after a reload."""
    browser.open(f"{server.url}/{f'?agent={agent}' if agent else ''}")
    browser.until_live()
    browser.script("window.sameAsBefore = true")


def is_same_page(browser: Browser) -> bool:
    return bool(browser.script("return window.sameAsBefore === true"))


def wait_for_growth(browser: Browser, curve: str) -> None:
    """Wait until a curve is there, and then has another point."""
    browser.until(lambda: browser.driver.find_elements("css selector", curve), "a curve")
    points = browser.find(curve).get_attribute("points")
    browser.until(lambda: browser.find(curve).get_attribute("points") != points, "more points")


def button(browser: Browser, label: str) -> None:
    browser.find(f'button[aria-label="{label}"]').click()


# Coming in ----------------------------------------------------------------------------------------


def test_a_key_lets_in_and_neither_it_nor_the_proof_stays_in_the_address(
    browser: Browser, served: RunningServer
) -> None:
    browser.log_in(served.url, served.token)

    assert browser.driver.current_url == f"{served.url}/"
    assert served.token not in browser.driver.page_source


def test_whoever_logs_out_is_led_to_the_login_and_comes_in_again_with_a_key_only(
    browser: Browser, served: RunningServer
) -> None:
    show(browser, served)

    browser.find("#log-out").click()

    browser.until(lambda: browser.text("label") == "Key")
    browser.shoot("login")
    browser.open(served.url)
    assert browser.driver.current_url == f"{served.url}/login"
    browser.log_in(served.url, served.token)


def test_without_agents_the_page_says_what_to_do_next(
    browser: Browser, empty: RunningServer
) -> None:
    show(browser, empty)

    assert "atoll-deployer push examples/greeter" in browser.text("#part-agents")
    browser.shoot("empty")


# What is seen -------------------------------------------------------------------------------------


def test_a_status_changes_without_a_reload(browser: Browser, greeter: RunningServer) -> None:
    show(browser, greeter)
    browser.until_text(row(GREETER), "running")

    greeter.client.stop(GREETER)

    browser.until_text(row(GREETER), "stopped")
    assert is_same_page(browser)


def test_the_curves_of_cpu_and_memory_are_there_at_once_and_grow(
    browser: Browser, greeter: RunningServer
) -> None:
    show(browser, greeter)

    wait_for_growth(browser, f"{row(GREETER)} .memory polyline")

    assert "MiB" in browser.text(f"{row(GREETER)} .memory")


def test_what_ails_an_agent_stands_on_top_with_its_cause_and_what_to_do(
    browser: Browser, greeter: RunningServer
) -> None:
    package = zip_package("crashes_after", name="mailer", version="2.1.0", replace=GIVEN_UP_SOON)
    show(browser, greeter)
    assert browser.text("h1") == "Everything is all right."

    loop(greeter, package, "mailer")

    browser.until_text("h1", "mailer is down.")
    for words in ("crash looping", "crashing as asked", "Read its log"):
        browser.until_text("#ailing-mailer", words)
    assert browser.driver.title.startswith("1 down")
    browser.shoot("down-1280-light")


def loop(server: RunningServer, package: bytes, agent: str) -> None:
    """Deploy an agent, and have it die until it is given up."""
    server.client.deploy(package)
    data = server.state.root / "agents" / agent / "data" / "crash_after_seconds"
    data.write_text("0")
    os.kill(server.client.agent(agent).pid or 0, signal.SIGKILL)
    down = {"crash_looping", "failed"}
    wait_until(lambda: server.client.agent(agent).status in down, 60, f"{agent} is given up")


def test_a_log_is_followed(browser: Browser, greeter: RunningServer) -> None:
    show(browser, greeter, GREETER)
    browser.until_text("#log", "release 1")
    log = greeter.state.stdout_log(f"{GREETER}--1")

    with log.open("a") as file:
        file.writelines(f"line {number}\n" for number in range(200))

    browser.until_text("#log", "line 199")
    position = "const log = document.getElementById('log'); return log.scrollHeight - log.scrollTop"
    assert browser.script(f"{position} - log.clientHeight") < 5, "its end is not to be seen"
    browser.shoot("agent-1280-light")


def test_what_strangers_wrote_is_text_whatever_it_looks_like(
    browser: Browser, greeter: RunningServer
) -> None:
    quoted = HOSTILE.replace("\\", "\\\\").replace('"', '\\"')
    package = zip_package(
        "crashes_after", name="evil", replace={"crashing as asked": quoted, **GIVEN_UP_SOON}
    )
    loop(greeter, package, "evil")
    with greeter.state.stderr_log("evil--1").open("a") as file:
        file.write(f"{HOSTILE}\n")

    show(browser, greeter)
    browser.until_text("#ailing-evil", "<script>")
    browser.until_text("#part-timeline", "<script>")
    show(browser, greeter, "evil")
    browser.until_text("#log", HOSTILE)

    assert browser.script("return window.hit === undefined")
    assert not browser.driver.find_elements("css selector", "main script, img")


def test_a_connection_that_is_lost_is_told_and_taken_up_again(
    browser: Browser, greeter: RunningServer
) -> None:
    show(browser, greeter)

    os.kill(greeter.api_pid(), signal.SIGKILL)

    browser.until_text("#link", "no connection since")
    browser.until_live()
    assert is_same_page(browser)
    assert all("ERR_" in each for each in browser.complaints())


def test_supervisords_own_page_is_one_click_away(browser: Browser, greeter: RunningServer) -> None:
    show(browser, greeter)

    browser.driver.find_element("link text", "supervisord").click()

    browser.until_text("body", f"{GREETER}--1")
    assert browser.driver.current_url == f"{greeter.url}/supervisor/"


# What is done -------------------------------------------------------------------------------------


def test_an_agent_is_stopped_once_that_was_asked_and_started_again(
    browser: Browser, greeter: RunningServer
) -> None:
    show(browser, greeter)

    button(browser, f"Stop {GREETER}")
    browser.until_text("#ask", f"Stop {GREETER}?")
    browser.shoot("question")
    browser.find("#ask-verb").click()
    browser.until_text(row(GREETER), "stopped")
    browser.until_text("#said", f"{GREETER} is stopped.")
    assert greeter.client.agent(GREETER).desired == "stopped"

    button(browser, f"Start {GREETER}")
    browser.until_text(row(GREETER), "running")
    assert is_same_page(browser)


def test_an_act_that_goes_on_is_not_said_to_be_done(
    browser: Browser, greeter: RunningServer
) -> None:
    show(browser, greeter)
    browser.script(
        "const ask = window.fetch;"
        "window.fetch = (path, options) =>"
        " ask(path.endsWith('/stop') ? `${path}?wait=0` : path, options);"
    )

    button(browser, f"Stop {GREETER}")
    browser.until_text("#ask", f"Stop {GREETER}?")
    browser.find("#ask-verb").click()

    browser.until_text("#said", f"{GREETER} is still being stopped.")
    browser.until_text(row(GREETER), "stopped")


def test_who_says_no_when_asked_has_done_nothing(browser: Browser, greeter: RunningServer) -> None:
    show(browser, greeter)
    before = greeter.client.agent(GREETER).pid

    button(browser, f"Restart {GREETER}")
    browser.until_text("#ask", f"Restart {GREETER}?")
    browser.press(Keys.ESCAPE)

    browser.until(lambda: not browser.find("#ask").is_displayed())
    assert browser.focused() == f"Restart {GREETER}"
    assert greeter.client.agent(GREETER).pid == before


def test_a_page_that_has_lost_its_proof_says_what_to_do(
    browser: Browser, greeter: RunningServer
) -> None:
    show(browser, greeter)
    browser.script("localStorage.clear()")

    button(browser, f"Stop {GREETER}")
    browser.until_text("#ask", f"Stop {GREETER}?")
    browser.find("#ask-verb").click()

    browser.until_text("#refused", "log out and in again")
    assert greeter.client.agent(GREETER).status == "running"
    browser.complaints()  # the console names each answer that is not 2xx
    browser.log_in(greeter.url, greeter.token)


def test_a_chosen_package_is_deployed(
    browser: Browser, empty: RunningServer, tmp_path: Path
) -> None:
    package = tmp_path / "greeter.zip"
    package.write_bytes(zip_package("stdlib_agent", name=GREETER, version="1.0.0"))
    show(browser, empty)

    browser.press(Keys.TAB)
    browser.tab_to("Choose a package or drop it anywhere here: a ZIP with an agent.toml")
    browser.driver.switch_to.active_element.send_keys(str(package))  # as its dialog would

    browser.until_text("#uploads", f"{GREETER} is being deployed.")
    browser.until_text(row(GREETER), "running")
    assert is_same_page(browser)


def test_a_dropped_package_is_deployed_and_its_steps_are_seen_as_they_happen(
    browser: Browser, empty: RunningServer
) -> None:
    show(browser, empty)

    # so large that its head alone is judged before the rest is sent
    more = {"data.bin": os.urandom(300_000)}
    package = zip_package("slow_start", name=GREETER, extra_files=more)
    browser.drop(package, "greeter.zip")

    browser.until_text("#part-deployments .steps", "validate done")
    browser.until_text("#part-deployments .step-running", "running")
    browser.shoot("deploying")
    browser.until_text("#part-deployments", "succeeded")
    browser.until_text(row(GREETER), "running")
    assert is_same_page(browser)


def test_a_package_that_is_refused_says_all_that_is_wrong(
    browser: Browser, served: RunningServer
) -> None:
    show(browser, served)

    browser.drop(zip_package("stdlib_agent", name="status"), "bad.zip")

    browser.until_text("#uploads .problem", "agent.name")
    browser.complaints()  # the console names each answer that is not 2xx


def test_a_rollback_needs_no_mouse(browser: Browser, greeter: RunningServer) -> None:
    greeter.client.deploy(zip_package("stdlib_agent", name=GREETER, version="2.0.0"))
    show(browser, greeter, GREETER)

    browser.press(Keys.TAB)
    assert browser.focused() == "Skip to the content"
    browser.tab_to(f"Roll {GREETER} back to release 1")
    browser.press(Keys.ENTER)
    browser.until(lambda: browser.focused() == "Cancel", "the question, its harmless answer first")
    browser.press(Keys.TAB)
    assert browser.focused() == "Roll back"
    browser.press(Keys.ENTER)

    browser.until_text("#part-agent", "release 1 · 1.0.0")
    browser.until_text('[id="release-1"]', "current")
    assert greeter.client.agent(GREETER).release == 1


def test_the_focus_stays_where_it_is_while_the_page_changes(
    browser: Browser, greeter: RunningServer
) -> None:
    show(browser, greeter)
    browser.script("arguments[0].focus()", browser.find(f'[aria-label="Stop {GREETER}"]'))

    greeter.client.stop(GREETER)

    browser.until_text(row(GREETER), "stopped")
    assert browser.focused() == f"Start {GREETER}"


# How it looks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", ["", LONGEST])
def test_nothing_is_wider_than_a_narrow_telephone(
    browser: Browser, greeter: RunningServer, agent: str
) -> None:
    greeter.client.deploy(zip_package("stdlib_agent", name=LONGEST))

    for width in (360, 768, 1280):
        browser.resize(width)
        show(browser, greeter, agent)
        widths = browser.script("return [document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1]
        browser.shoot(f"{'agent' if agent else 'overview'}-{width}-light")


@pytest.mark.parametrize("page", ["login", "docs"])
def test_no_other_page_is_wider_than_a_narrow_telephone(
    browser: Browser, served: RunningServer, page: str
) -> None:
    browser.resize(360)
    browser.open(f"{served.url}/{page}")

    widths = browser.script("return [document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1]


@pytest.mark.parametrize("agent", ["", GREETER])
def test_nothing_jumps_while_the_page_loads_and_lives(
    browser: Browser, greeter: RunningServer, agent: str
) -> None:
    browser.resize(360)
    show(browser, greeter, agent)
    browser.script(
        "window.shifts = []; new PerformanceObserver((list) => window.shifts.push("
        "...list.getEntries().map((each) => each.value)))"
        ".observe({type: 'layout-shift', buffered: true})"
    )

    wait_for_growth(browser, ".facts polyline" if agent else f"{row(GREETER)} polyline")

    # from 0.1 on people notice (web.dev, cumulative layout shift)
    assert sum(browser.script("return window.shifts")) < 0.02


def test_who_prefers_the_dark_gets_it(browser: Browser, greeter: RunningServer) -> None:
    show(browser, greeter)
    colour = "return getComputedStyle(document.body).backgroundColor"
    light = browser.script(colour)

    browser.prefer("dark")

    browser.until(lambda: browser.script(colour) != light)
    for agent, width in product(("", GREETER), (360, 1280)):
        browser.resize(width)
        show(browser, greeter, agent)
        browser.shoot(f"{'agent' if agent else 'overview'}-{width}-dark")
