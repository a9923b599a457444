"""What commands show on a terminal: tables that fit, live views, colours where they are wanted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.package_zips import zip_package
from tests.servers import RunningServer, wait_until
from tests.terminals import on_a_terminal

NAME = "an-agent-with-a-name-that-is-rather-long"


@pytest.fixture
def agent(server: RunningServer) -> str:
    server.client.deploy(zip_package("stdlib_agent", name=NAME))
    return NAME


def where(server: RunningServer) -> tuple[str, str]:
    return ("--state-dir", str(server.state.root))


def piped(server: RunningServer, *words: str) -> str:
    argv = [sys.executable, "-m", "deployer.cli", *words, *where(server)]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.usefixtures("agent")
def test_tables_fit_and_say_of_the_agent_what_matters_most(server: RunningServer) -> None:
    for columns in (100, 40):
        for word in ("list", "top"):
            with on_a_terminal(word, *where(server), columns=columns) as session:
                session.wait_for("running")
                if word == "top":
                    session.wait_for("an-age")
                    session.press(b"q")
                assert session.finish() == 0
                lines = session.plain.splitlines()
                assert max(map(len, lines)) <= columns, (word, columns)
                assert any(line.startswith("an-age") and "running" in line for line in lines)


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_top_looks_again_until_a_key_ends_it_and_leaves_the_terminal_as_it_was(
    server: RunningServer, key: bytes
) -> None:
    with on_a_terminal("top", "--interval", "0.2", *where(server)) as session:
        session.wait_for("STATUS", times=3)
        assert not session.echoes()
        session.press(key)
        assert session.finish() == 0
        assert session.echoes()
        assert session.shown.rstrip().endswith("\x1b[?1049l")


@pytest.mark.usefixtures("agent")
def test_top_is_drawn_anew_when_the_window_changes(server: RunningServer) -> None:
    with on_a_terminal("top", "--interval", "600", *where(server), columns=120) as session:
        session.wait_for("HTTP 200")
        assert session.plain.count("HEALTH") == 1
        session.resize(50)
        session.wait_for("STATUS", times=2)
        assert session.plain.count("HEALTH") == 1
        session.press(b"q")
        assert session.finish() == 0


@pytest.mark.usefixtures("agent")
def test_top_looks_once_where_nobody_looks(server: RunningServer) -> None:
    text = piped(server, "top")
    assert "\x1b" not in text
    assert text.splitlines()[2].split() == [
        *("NAME", "STATUS", "PORT", "CPU", "MEMORY", "UP", "RESTARTS", "RELEASE", "HEALTH"),
    ]
    assert json.loads(piped(server, "top", "--json"))["agents"][0]["name"] == NAME


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize(
    ("environ", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colours_are_shown_only_where_they_are_wanted(
    server: RunningServer, environ: dict[str, str], *, is_coloured: bool
) -> None:
    with on_a_terminal("list", *where(server), environ=environ) as session:
        assert session.finish() == 0
        assert ("\x1b[" in session.shown) is is_coloured
        assert "running" in session.plain


def test_followed_logs_of_several_agents_have_names_in_colours(server: RunningServer) -> None:
    for name in ("one", "other"):
        says = {"serving.serve(answer)": f'print("I am {name}", flush=True)\nserving.serve(answer)'}
        server.client.deploy(zip_package("stdlib_agent", name=name, replace=says))
    with on_a_terminal("logs", "-f", *where(server)) as session:
        session.wait_for("one   | I am one\n")
        session.wait_for("other | I am other\n")
        assert "\x1b[36mone  \x1b[0m | " in session.shown
        assert "\x1b[33mother\x1b[0m | " in session.shown
        session.press(b"\x03")
        assert session.finish() == 130


def test_open_asks_for_a_browser_where_there_is_one(
    server: RunningServer, agent: str, tmp_path: Path
) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o755)
    with on_a_terminal("open", agent, *where(server), environ={"BROWSER": f"{browser} %s"}) as it:
        assert it.finish() == 0
    wait_until(opened.exists)
    assert opened.read_text().strip() == server.client.agent(agent).url == it.plain.strip()
