"""`doctor` on real machines: good ones, bad ones, and with a server of its own to break."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployer.doctor import Finding, Verdict, examine, installers
from deployer.environments import interpreters
from tests.free_ports import free_ports, release_ports
from tests.loopback import served, thief
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server
from tests.small_disks import fill_up


def run_doctor(*options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ATOLL_DEPLOYER_")}
    return subprocess.run(
        [sys.executable, "-m", "deployer.cli", "doctor", *options],
        capture_output=True,
        text=True,
        env=kept | variables,
        timeout=120,
        check=False,
    )


def look(tmp_path: Path, state_dir: Path | None = None, **settings: Any) -> dict[str, Finding]:
    """Examine a machine on which no server runs."""
    base = free_ports(11)
    config = tmp_path / "settings.json"
    ports = {"api_port": base, "agent_base_port": base + 1, "max_agents": 10}
    config.write_text(json.dumps(ports | settings))
    try:
        found = examine(config, {"PATH": os.environ["PATH"]}, state_dir or tmp_path / "state")
        return {finding.check: finding for finding in found}
    finally:
        release_ports(base)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An index on loopback that has nothing."""
    with served(tmp_path_factory.mktemp("index")) as url:
        yield f"{url}/simple"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, index: str) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("d") / "state", index_url=index) as it:
        it.client.deploy(zip_package("stdlib_agent"))
        yield it


def test_beside_a_running_server_nothing_fails_and_nothing_changes(server: RunningServer) -> None:
    before = {agent.name: agent.pid for agent in server.client.agents()}

    done = run_doctor("--state-dir", str(server.state.root), "--json")

    document = json.loads(done.stdout)
    failed = [each for each in document["findings"] if each["verdict"] == "fail"]
    assert (done.returncode, failed, document["ok"]) == (0, [], True)
    found = {each["check"]: each["detail"] for each in document["findings"]}
    assert "its own answers" in found["supervisord"]
    assert "1 program configs parse" in found["configuration"]
    assert "1 by agents of this server" in found["ports"]
    assert {agent.name: agent.pid for agent in server.client.agents()} == before
    assert [*server.state.root.parent.glob(".atoll-doctor-*")] == []


def test_people_get_a_line_a_check(server: RunningServer) -> None:
    done = run_doctor("--state-dir", str(server.state.root))

    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"ok    settings          as last served, {server.state.settings}")
    assert lines[-1].startswith("14 checks: 0 failed")


def test_a_good_machine_without_a_server_is_fit_for_one(tmp_path: Path, index: str) -> None:
    found = look(tmp_path, index_url=index)

    assert [each for each in found.values() if each.verdict is Verdict.FAIL] == []
    assert "serve makes it" in found["state directory"].detail
    assert re.match(r"3\.\d+\.\d+ at /", found["interpreters"].detail)
    assert "uv " in found["installer"].detail
    assert "Unix sockets, and TCP on 127.0.0.1" in found["sockets"].detail
    assert all(finding.hint for finding in found.values() if finding.verdict is not Verdict.OK)
    assert not (tmp_path / "state").exists()


def test_settings_that_cannot_be_used_are_told_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    config = tmp_path / "bad.json"
    config.write_text('{"api_port": "many", "colour": 1}')

    done = run_doctor("--config", str(config), "--state-dir", str(tmp_path / "s"), "--json")

    document = json.loads(done.stdout)
    assert (done.returncode, document["ok"]) == (1, False)
    settings = document["findings"][0]
    assert settings["verdict"] == "fail"
    assert "api_port" in settings["detail"]
    assert "colour" in settings["detail"]
    assert document["count"] == 14


def test_whoever_has_the_apis_port_is_named(tmp_path: Path, index: str) -> None:
    port = free_ports(1)
    with thief(port) as pid:
        found = look(tmp_path, index_url=index, api_port=port)["api address"]
    release_ports(port)

    assert found.verdict is Verdict.FAIL
    assert f"port {port} is held by pid {pid} " in found.detail
    assert "--api-port" in found.hint


def test_whoever_has_a_port_of_the_agents_is_named_with_the_command(
    tmp_path: Path, index: str
) -> None:
    base = free_ports(3)
    with thief(base + 1) as pid:
        some = look(tmp_path, index_url=index, agent_base_port=base, max_agents=3)["ports"]
        all_ = look(tmp_path, index_url=index, agent_base_port=base + 1, max_agents=1)["ports"]
    release_ports(base)

    assert (some.verdict, all_.verdict) == (Verdict.WARN, Verdict.FAIL)
    assert f"{base + 1} is held by pid {pid} " in some.detail
    assert "socket.create_server" in some.detail
    assert "agent_base_port" in all_.hint


def test_an_index_that_does_not_answer_fails(tmp_path: Path) -> None:
    with served(tmp_path) as url:
        pass  # nobody listens there any more

    found = look(tmp_path, index_url=f"{url}/simple".replace("//", "//me:secret@"))["index"]

    assert found.verdict is Verdict.FAIL
    assert f"cannot reach {url}/simple: connection refused" in found.detail
    assert "index_url" in found.hint


def test_what_cannot_be_had_here_fails_with_what_to_do(tmp_path: Path, index: str) -> None:
    socket = f"unix://{tmp_path / 'nobody.sock'}"
    found = look(
        tmp_path,
        index_url=index,
        agent_bind="192.0.2.1",  # kept for documentation, and so nobody's
        isolation={"use": "none", "require": "full"},
        supervisor={"url": socket, "conf_d": str(tmp_path)},
    )

    expected = {
        "sockets": ("agents cannot listen on 192.0.2.1: ", "agent_bind"),
        "isolation": ("level none, and isolation.require is full", "require less"),
        "supervisord": (f"{socket} does not answer", "start it"),
    }
    for check, (detail, hint) in expected.items():
        assert found[check].verdict is Verdict.FAIL, found[check]
        assert detail in found[check].detail
        assert hint in found[check].hint


def test_a_directory_of_wheels_that_is_not_there_fails(tmp_path: Path, index: str) -> None:
    found = look(tmp_path, index_url=index, find_links=[str(tmp_path / "none")])["index"]

    assert found.verdict is Verdict.FAIL
    assert str(tmp_path / "none") in found.detail


@pytest.mark.parametrize(
    ("script", "words"),
    [("#!/bin/sh\necho broken >&2\nexit 3\n", "exits with 3: broken"), ("no program", "cannot")],
)
def test_a_uv_that_does_not_work_fails(
    tmp_path: Path, index: str, script: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = tmp_path / "uv"
    uv.write_text(script)
    uv.chmod(0o755)
    monkeypatch.setattr(installers, "find_uv", lambda: uv)

    found = look(tmp_path, index_url=index)["installer"]

    assert found.verdict is Verdict.FAIL
    assert f"{uv} {words}" in found.detail
    assert "pip install" in found.hint


def test_a_machine_without_a_python_for_agents_fails(
    tmp_path: Path, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bin" / "python3"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(broken.parent))
    monkeypatch.setattr(interpreters, "SYSTEM_DIRECTORIES", ())

    found = look(tmp_path, index_url=index)["interpreters"]

    assert found.verdict is Verdict.FAIL
    assert found.detail.startswith(f"none for agents; passed over {broken}: ")
    assert "python.search" in found.hint


@pytest.mark.parametrize("is_full", [True, False])
def test_a_disk_without_room_fails_and_a_small_one_is_a_warning(
    tmp_path: Path, small_disk: Path, index: str, *, is_full: bool
) -> None:
    if is_full:
        fill_up(small_disk / "filler")
    limits = {"free_bytes": "20MB"}

    found = look(tmp_path, small_disk / "state", index_url=index, limits=limits)["disk"]

    assert found.verdict is (Verdict.FAIL if is_full else Verdict.WARN)
    assert ("disk full: 0 bytes left" if is_full else "deployments stop at 20MB") in found.detail
    assert "enlarge the disk" in found.hint


def test_a_token_that_others_can_read_and_a_broken_config_fail(tmp_path: Path, index: str) -> None:
    state = tmp_path / "state"
    (state / "conf.d").mkdir(parents=True)
    (state / "conf.d").chmod(0o700)
    (state / "token").write_text("x")
    (state / "token").chmod(0o644)
    (state / "conf.d" / "reef--1.conf").write_text("[program:reef--1]\ncommand=%(ENV_NONE)s\n")

    found = look(tmp_path, state, index_url=index)

    place, configuration = found["state directory"], found["configuration"]
    assert (place.verdict, configuration.verdict) == (Verdict.FAIL, Verdict.FAIL)
    assert f"{state / 'token'} is open to others (mode 0644)" in place.detail
    assert "reef--1.conf" in configuration.detail
    assert (state / "conf.d" / "reef--1.conf").exists()


def test_the_selftest_breaks_an_agent_in_five_ways_and_leaves_nothing(short_path: Path) -> None:
    short_path.chmod(0o755)

    done = run_doctor("--selftest", "--json", TMPDIR=str(short_path))

    document = json.loads(done.stdout)
    failed = [each for each in document["trials"] if not each["passed"]]
    assert (done.returncode, failed, document["ok"]) == (0, [], True)
    assert [each["name"] for each in document["trials"]] == [
        "start a server",
        "deploy an agent",
        "crash at start",
        "kill -9",
        "hang in the health check",
        "broken new release",
        "port stolen",
        "stop the server",
    ]
    assert document["seconds"] < 60
    assert [*short_path.iterdir()] == []
