"""Our nouns in the real supervisorctl: what operators type, what they read, how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployer.supervisord_confs import SERVICE
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server, wait_until

AGENT = "stdlib_agent"
DONE, FAILED, USAGE, REFUSED, NO_SERVER = 0, 1, 2, 4, 7  # LSB's, as supervisorctl uses them


@pytest.fixture(scope="module")
def operated(
    tmp_path_factory: pytest.TempPathFactory, installer_cache: Path
) -> Iterator[RunningServer]:
    """A server whose API is away now and then."""
    root = tmp_path_factory.mktemp("ctl") / "state"
    with running_server(root, cache_dir=installer_cache) as server:
        yield server


@pytest.fixture
def server(operated: RunningServer) -> Iterator[RunningServer]:
    """The same for each test, without agents."""
    yield operated
    for agent in operated.client.agents():
        operated.client.remove(agent.name)


def supervisorctl(
    server: RunningServer, *words: str, typed: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run supervisorctl on a server's configuration, with an action or with lines to read."""
    conf = str(server.state.supervisord_conf)
    command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", conf, *words]
    return subprocess.run(
        command, input=typed, capture_output=True, text=True, timeout=60, check=False
    )


def write_package(folder: Path, name: str = "package.zip", version: str = "1.0.0") -> Path:
    path = folder / name
    path.write_bytes(zip_package(AGENT, version=version))
    return path


def test_an_operator_pushes_looks_and_rolls_back(server: RunningServer, tmp_path: Path) -> None:
    first = write_package(tmp_path, "1.zip", "1.0.0")
    second = write_package(tmp_path, "2.zip", "2.0.0")

    pushed = supervisorctl(server, "push", str(first))
    supervisorctl(server, "push", str(second))
    agents = supervisorctl(server, "agents")
    back = supervisorctl(server, "rollback", AGENT)
    forth = supervisorctl(server, "rollback", AGENT, "2")
    releases = supervisorctl(server, "releases", AGENT)

    assert "stdlib_agent release 1 is running at http://" in pushed.stdout
    assert agents.stdout.splitlines()[1].split()[:4] == [AGENT, "running", "2", "2.0.0"]
    assert "release 1 is running" in back.stdout
    assert "release 2 is running" in forth.stdout
    assert [line.split()[:3] for line in releases.stdout.splitlines()[1:]] == [
        ["2", "proven", "current"],
        ["1", "proven", "previous"],
    ]
    assert {each.returncode for each in (pushed, agents, back, forth, releases)} == {DONE}


def test_a_file_whose_name_has_spaces_can_be_pushed(server: RunningServer, tmp_path: Path) -> None:
    path = write_package(tmp_path, "two words.zip")

    assert supervisorctl(server, "push", str(path)).returncode == DONE


def test_options_are_those_of_the_command_line(server: RunningServer, tmp_path: Path) -> None:
    path = write_package(tmp_path)

    pushed = supervisorctl(server, "push", str(path), "--no-start", "--json")

    assert json.loads(pushed.stdout.splitlines()[-1])["connection"]["status"] == "installed"
    assert json.loads(supervisorctl(server, "agents", "--json").stdout)["count"] == 1


def test_why_tells_the_cause(server: RunningServer) -> None:
    dies = {"[health]": "[deployment]\nauto_restart = false\n[health]"}
    server.client.deploy(zip_package(AGENT, replace=dies))
    supervisorctl(server, "signal", "KILL", f"{AGENT}--1")
    wait_until(lambda: server.client.agent(AGENT).status == "failed")

    told = supervisorctl(server, "why", AGENT)

    assert "SIGKILL" in told.stdout
    assert told.returncode == DONE


def test_a_failed_deployment_is_told_with_its_log_and_ends_with_1(
    server: RunningServer, tmp_path: Path
) -> None:
    path = tmp_path / "bad.zip"
    path.write_bytes(zip_package("missing_module"))

    pushed = supervisorctl(server, "push", str(path))

    assert "ModuleNotFoundError" in pushed.stderr
    assert "hint:" in pushed.stderr
    assert pushed.returncode == FAILED


def test_an_agent_that_is_not_there_is_told_in_words(server: RunningServer) -> None:
    told = supervisorctl(server, "why", "nobody")

    assert "nobody" in told.stderr
    assert "Traceback" not in told.stderr + told.stdout
    assert told.returncode == FAILED


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["why"], "Missing argument"),
        (["releases", "a", "b"], "extra argument"),
        (["rollback", "a", "zero"], "extra argument"),
        (["push", "no.zip"], "does not exist"),
        (["why", '"a'], "No closing quotation"),
        (["agents", "--server", "http://elsewhere"], "No such option"),
    ],
)
def test_what_cannot_be_understood_is_told_with_the_usage(
    server: RunningServer, words: list[str], reason: str
) -> None:
    told = supervisorctl(server, *words)

    assert f"Error: {words[0]}: " in told.stdout
    assert reason in told.stdout
    assert f"{words[0]} --help" in told.stdout
    assert told.returncode == USAGE


def test_a_key_that_is_refused_ends_with_its_own_status(server: RunningServer) -> None:
    token = server.state.token.read_text()
    server.state.token.write_text("wrong\n")
    try:
        told = supervisorctl(server, "agents")
    finally:
        server.state.token.write_text(token)

    assert "token" in told.stderr
    assert told.returncode == REFUSED


def test_help_knows_our_commands_and_still_its_own(server: RunningServer) -> None:
    everything = supervisorctl(server, "help").stdout
    ours = supervisorctl(server, "help", "rollback").stdout
    theirs = supervisorctl(server, "help", "start").stdout

    assert "agents  push  releases  rollback  why" in everything
    assert "maintail" in everything
    assert ours.startswith("rollback NAME [N]")
    assert theirs.startswith("start <name>")
    assert "No help" not in ours + theirs
    assert "Usage: push" in supervisorctl(server, "push", "--help").stdout


def test_one_thing_after_another_can_be_typed(server: RunningServer) -> None:
    told = supervisorctl(server, typed="why nobody\nagents\nquit\n")

    assert "no agents; deploy one" in told.stdout.partition(SERVICE)[2]
    assert told.returncode == DONE


# The API is away ---------------------------------------------------------------------------------


def test_without_the_api_the_next_step_is_named_and_it_works(server: RunningServer) -> None:
    supervisorctl(server, "stop", SERVICE)

    away = supervisorctl(server, "agents")
    started = supervisorctl(server, "start", SERVICE)
    wait_until(server.is_ready)

    assert "cannot reach the server at http://127.0.0.1" in away.stderr
    assert f"{SERVICE} is STOPPED: type `start {SERVICE}`" in away.stderr
    assert (away.returncode, started.returncode) == (NO_SERVER, DONE)
    assert supervisorctl(server, "agents").returncode == DONE


def test_an_api_that_runs_and_does_not_answer_leads_to_its_log(
    server: RunningServer, tmp_path: Path
) -> None:
    """As when it is just starting: what it will listen on is not there yet."""
    conf, state = tmp_path / "supervisord.conf", tmp_path / "state"
    state.mkdir()
    (state / "settings.json").write_text('{"host": "127.0.0.1", "api_port": 1}')
    text = server.state.supervisord_conf.read_text()
    conf.write_text(text.replace(f"state_dir={server.state.root}", f"state_dir={state}"))

    command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(conf), "agents"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert f"{SERVICE} is RUNNING" in told.stderr
    assert f"`tail {SERVICE}`" in told.stderr
    assert told.returncode == NO_SERVER


def test_without_supervisord_the_way_to_start_both_is_named(
    server: RunningServer, tmp_path: Path
) -> None:
    text = server.state.supervisord_conf.read_text()
    (tmp_path / "supervisord.conf").write_text(text.replace(str(server.state.root), str(tmp_path)))
    (tmp_path / "settings.json").write_text('{"host": "127.0.0.1", "api_port": 1}')

    command = [sys.executable, "-m", "deployer.cli", "supervisorctl", "--state-dir", str(tmp_path)]
    told = subprocess.run(
        [*command, "agents"], capture_output=True, text=True, timeout=30, check=False
    )

    assert f"`atoll-deployer serve --state-dir {tmp_path}`" in told.stderr
    assert told.returncode == NO_SERVER


# `atoll-deployer supervisorctl` ------------------------------------------------------------------


def test_the_command_line_finds_supervisorctl_where_path_does_not(server: RunningServer) -> None:
    command = [sys.executable, "-m", "deployer.cli", "supervisorctl", "status", SERVICE]
    variables = {"ATOLL_DEPLOYER_STATE_DIR": str(server.state.root), "PATH": "/nowhere"}

    done = subprocess.run(
        command, env=variables, capture_output=True, text=True, timeout=30, check=True
    )

    assert done.stdout.split()[:2] == [SERVICE, "RUNNING"]


def test_where_no_server_was_the_command_line_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deployer.cli", "supervisorctl", "--state-dir", str(tmp_path)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert f"cannot find {tmp_path}/supervisord.conf" in done.stderr
    assert done.returncode == 3
