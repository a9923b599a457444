"""A server without keys on a Unix socket: whoever may open it may do everything."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployer.http_sessions import http_url, open_session
from tests.contracts import problem
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("u") / "api.sock"


@pytest.fixture(scope="module")
def server(place: Path, installer_cache: Path) -> Iterator[RunningServer]:
    root = place.with_name("state")
    host = f"unix:{place}"
    with running_server(root, cache_dir=installer_cache, host=host, auth="none") as it:
        yield it


def test_only_the_servers_user_may_open_it(server: RunningServer, place: Path) -> None:
    assert server.is_ready()
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_an_agent_is_deployed_and_the_audit_says_that_it_came_by_the_socket(
    server: RunningServer,
) -> None:
    deployed = server.client.deploy(zip_package("stdlib_agent", name="one"))
    assert deployed.connection is not None
    assert deployed.connection.status == "running"
    assert deployed.connection.host == "localhost"
    entry = server.client.audit()[0]
    assert (entry.who, entry.source, entry.agent) == ("unix", "unix", "one")


def test_the_command_line_finds_it_in_the_state_directory(server: RunningServer) -> None:
    command = [sys.executable, "-m", "deployer.cli", "list", "--state-dir", str(server.state.root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_foreign_name_is_refused_there_too(server: RunningServer) -> None:
    with open_session(server.url) as session:
        url = f"{http_url(server.url)}/v1/agents"
        problem(session.get(url, headers={"Host": "evil.example"}), 403, "forbidden")
        headers = {"Origin": "http://evil.example"}
        problem(session.post(f"{url}/one/stop", headers=headers), 403, "forbidden")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.usefixtures("server")
def test_another_user_cannot_open_it(place: Path) -> None:
    for directory in (place.parent, *place.parents):
        directory.chmod(directory.stat().st_mode | stat.S_IXOTH)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            socket.socket(socket.AF_UNIX).connect(str(place))
        except PermissionError:
            code = 13
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 13


def serve(folder: Path, host: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deployer.cli", "serve", "--state-dir", str(folder / "state")]
    return subprocess.run(
        [*command, "--host", host], capture_output=True, text=True, timeout=30, check=False
    )


def test_a_place_that_cannot_be_a_socket_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    for name, reason in (
        (f"{tmp_path}/file", "no socket lies there"),
        (f"{tmp_path}/none/api.sock", "No such file"),
        ("relative.sock", "absolute path"),
        (f"/{'x' * 120}", "at most 107 bytes"),
    ):
        done = serve(tmp_path, f"unix:{name}")
        assert (done.returncode, reason in done.stderr) == (2, True), done.stderr
    assert (tmp_path / "file").read_text() == "precious"


def test_a_socket_that_somebody_listens_on_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as present:
        present.bind(str(path))
        present.listen()
        done = serve(tmp_path, f"unix:{path}")
        assert (done.returncode, "in use" in done.stderr) == (2, True), done.stderr
        assert path.is_socket()
