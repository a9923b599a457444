"""The corpus of hostile packages beside the project, sent to a real server."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from deployer.client.nouns import Agent
from tests.hostile_packages import CORPUS, ROWS, needs_corpus
from tests.package_zips import zip_package
from tests.refusals import deploy_bystander, packages_of, problem_of, send, unharmed
from tests.servers import RunningServer

pytestmark = needs_corpus


@pytest.fixture(scope="module")
def server(shared_server: RunningServer) -> Iterator[RunningServer]:
    """The shared server, with an agent that must not notice anything."""
    deploy_bystander(shared_server)
    yield shared_server
    for agent in shared_server.client.agents():
        shared_server.client.remove(agent.name)


def rows(expected: str) -> list[Any]:
    found = [row for row in ROWS if row["expect"] == expected]
    return [pytest.param(row["file"], id=Path(row["file"]).stem) for row in found] or [""]


def upload(server: RunningServer, file: str) -> requests.Response:
    return send(server, (CORPUS / file).read_bytes())


@pytest.mark.parametrize("file", rows("reject"))
def test_a_hostile_upload_is_refused_and_leaves_nothing(server: RunningServer, file: str) -> None:
    kept = packages_of(server)
    with unharmed(server):
        problem = problem_of(upload(server, file))
    assert problem["errors"]
    assert problem["detail"].isprintable()
    assert packages_of(server) == kept


@pytest.mark.parametrize("file", rows("accept"))
def test_an_odd_but_honest_upload_is_taken_and_kept_once(server: RunningServer, file: str) -> None:
    with unharmed(server):
        first, second = upload(server, file), upload(server, file)
    assert first.status_code in {200, 201}
    assert second.status_code == 200
    assert f"{first.json()['sha256']}.zip" in packages_of(server)


def deploy(server: RunningServer, file: str) -> tuple[Agent, Path]:
    """Deploy a package; gives its agent and its code directory."""
    response = send(server, (CORPUS / file).read_bytes(), "/v1/deployments", wait=60)
    assert response.status_code == 200, response.text
    name = response.json().get("agent") or response.json()["name"]
    agent = server.client.agent(name)
    assert agent.release is not None
    return agent, server.state.code(name, agent.release)


@pytest.mark.parametrize("file", rows("accept"))
def test_an_odd_but_honest_package_becomes_an_agent_that_answers(
    server: RunningServer, file: str
) -> None:
    agent, code = deploy(server, file)
    assert requests.get(f"{agent.url}/health", timeout=20).json()["pid"] == agent.pid
    assert (code / "agent.toml").is_file()
    assert (code / "main.py").is_file()
    server.client.remove(agent.name)


def test_values_of_variables_reach_the_agent_unchanged(server: RunningServer) -> None:
    agent, _ = deploy(server, "toml-env-quotes-percent.zip")
    variables = psutil.Process(agent.pid).environ()
    assert {name: variables[name] for name in "ABCDEF"} == {
        "A": "50%",
        "B": "%(here)s",
        "C": 'say "hi", it\'s',
        "D": "a,b=c;d #e",
        "E": "${HOME}",
        "F": "grün",
    }


def test_files_without_any_mode_can_be_read_and_scripts_run_by_their_owner(
    server: RunningServer,
) -> None:
    _, code = deploy(server, "valid-mode-zero.zip")
    assert {stat.S_IMODE(path.stat().st_mode) for path in code.iterdir()} == {0o644}
    _, code = deploy(server, "valid-exec-bits.zip")
    assert os.access(code / "bin" / "tool.sh", os.X_OK)
    assert stat.S_IMODE((code / "bin" / "tool.sh").stat().st_mode) & stat.S_IXUSR


def test_an_installer_never_reads_the_configuration_in_a_package(server: RunningServer) -> None:
    with zipfile.ZipFile(CORPUS / "layout-tool-config.zip") as archive:
        tricks = {
            name: archive.read(name)
            for name in archive.namelist()
            if name not in {"agent.toml", "main.py", "requirements.txt"}
        }
    assert b"evil.invalid" in tricks["uv.toml"]
    # With a dependency, so that there is something to fetch from the wrong place.
    extra: dict[str, bytes | str] = {**tricks, "requirements.txt": "waitress==3.0.2\n"}
    server.client.deploy(zip_package("stdlib_agent", name="reef", extra_files=extra))
    assert server.client.agent("reef").status == "running"
    assert "evil.invalid" not in server.state.install_log("reef", 1).read_text()
    assert "evil.invalid" not in server.state.requirements_lock("reef", 1).read_text()


def test_the_server_never_imports_what_a_package_brings(server: RunningServer) -> None:
    traps = {
        path: f"open({str(server.state.root / 'imported')!r}, 'a').close()"
        for path in ("json.py", "sitecustomize.py", "usercustomize.py", "pip/__init__.py")
    }
    document = send(
        server, zip_package("stdlib_agent", name="shadow", extra_files={**traps})
    ).json()
    asked = {"package": document["sha256"], "start": False}
    response = server.request("POST", "/v1/deployments?wait=60", json=asked)
    assert response.status_code == 200, response.text
    assert not (server.state.root / "imported").exists()
