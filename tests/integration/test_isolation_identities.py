"""Users of agents: given, kept, freed, and with them everything that is or runs as theirs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from deployer.client import Client
from deployer.errors import DeployerError, StartError
from deployer.leftovers import end_processes_of
from deployer.state_dir import MARKER, StateDir
from tests.free_ports import free_ports
from tests.ordinary_users import ordinary_user
from tests.package_zips import zip_package
from tests.servers import RunningServer, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives users away")


def deploy(client: Client, name: str, package: str = "stdlib_agent") -> None:
    client.deploy(zip_package(package, name=name))


def uid_of(server: RunningServer, name: str) -> int:
    return server.state.agent_data(name).stat().st_uid


def processes_of(uid: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["uids", "status"]):
        uids, status = process.info["uids"], process.info["status"]
        if uids is not None and uids.real == uid and status != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def test_each_agent_runs_as_a_user_of_its_own(server: RunningServer) -> None:
    for name in ("ada", "bob"):
        deploy(server.client, name)

    pids = {name: server.client.agent(name).pid for name in ("ada", "bob")}
    running_as = {name: psutil.Process(pid).uids() for name, pid in pids.items()}
    assert len({uids.real for uids in running_as.values()}) == 2
    for name, uids in running_as.items():
        assert {uids.real, uids.effective, uids.saved} == {uid_of(server, name)}


def test_a_user_is_not_given_again_after_its_agent_is_gone(server: RunningServer) -> None:
    deploy(server.client, "ada")
    former = uid_of(server, "ada")
    server.client.remove("ada")

    deploy(server.client, "bob")

    assert uid_of(server, "bob") != former


def test_data_that_is_kept_keeps_its_user(server: RunningServer) -> None:
    deploy(server.client, "ada")
    former = uid_of(server, "ada")
    server.client.remove("ada", keep_data=True)
    deploy(server.client, "bob")

    deploy(server.client, "ada")

    assert uid_of(server, "ada") == former != uid_of(server, "bob")


def test_what_left_its_group_session_and_variables_ends_with_its_agent(
    server: RunningServer,
) -> None:
    deploy(server.client, "ada", "escapes")
    uid = uid_of(server, "ada")
    wait_until(lambda: any(each.name() == "sleep" for each in processes_of(uid)))

    server.client.stop("ada")

    assert processes_of(uid) == []
    assert any(event.kind == "process.escaped" for event in server.client.events(agent="ada"))


def test_what_claims_to_be_another_servers_ends_with_its_agent(
    make_server: Callable[..., RunningServer],
) -> None:
    server = make_server(limits={"mechanisms": []})
    variables = '["sleep", "600"], {"ATOLL_DEPLOYER_STATE": "/elsewhere"}'
    claiming = zip_package("escapes", name="ada", replace={'["sleep", "600"], {}': variables})
    server.client.deploy(claiming)
    uid = uid_of(server, "ada")
    wait_until(lambda: any(each.name() == "sleep" for each in processes_of(uid)))

    server.client.stop("ada")

    assert processes_of(uid) == []


def test_what_another_server_has_given_the_same_user_lives_on(tmp_path: Path) -> None:
    uid = 69_999  # just below those of agents
    other = StateDir(tmp_path / "other")
    other.builds.mkdir(parents=True)
    other.agent_data("bob").mkdir(parents=True)
    os.chown(other.agent_data("bob"), uid, uid)
    command = ["/bin/sleep", "60"]
    for root, is_theirs in ((other.root, True), (tmp_path / "elsewhere", False)):
        with subprocess.Popen(command, user=uid, env={MARKER: str(root)}) as process:
            wait_until(lambda process=process: psutil.Process(process.pid).name() == "sleep")
            ended = end_processes_of(uid, tmp_path / "ours")
            process.kill()
        assert (process.pid in ended) is not is_theirs


def test_what_escaped_goes_on_for_as_long_as_its_agent_runs(server: RunningServer) -> None:
    deploy(server.client, "ada", "escapes")
    escaped = wait_until(
        lambda: [each for each in processes_of(uid_of(server, "ada")) if each.name() == "sleep"]
    )
    server.client.deploy(zip_package("escapes", name="bob"))

    assert all(each.is_running() for each in escaped)


def test_what_an_older_server_left_is_put_right_and_no_link_is_followed(
    make_server: Callable[..., RunningServer], tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    server = make_server(isolation={"use": "none"})
    deploy(server.client, "ada")
    data = server.state.agent_data("ada")
    (data / "below").mkdir()
    (data / "below" / "file").touch(mode=0o600)
    (data / "link").symlink_to(outside)
    assert uid_of(server, "ada") == 0
    server.state.agent("ada").chmod(0o711)
    server.stop()

    server.settings["isolation"] = {}
    server.start()
    wait_until(lambda: server.client.agent("ada").isolation == "full")

    uid = uid_of(server, "ada")
    owners = {path.lstat().st_uid for path in (data, *data.rglob("*"))}
    assert owners == {uid} != {0}
    assert (outside.stat().st_uid, outside.stat().st_mode & 0o777) == (0, 0o700)
    assert server.state.agent("ada").stat().st_mode & 0o7777 == 0o750


def test_a_link_in_place_of_the_data_starts_nothing_and_gives_nothing_away(
    server: RunningServer, tmp_path: Path
) -> None:
    deploy(server.client, "ada")
    server.client.stop("ada")
    data = server.state.agent_data("ada")
    data.rename(tmp_path / "moved")
    data.symlink_to(tmp_path)

    with pytest.raises(StartError, match=f"{data}: is no directory"):
        server.client.start("ada")

    assert tmp_path.stat().st_uid == 0
    data.unlink()


def test_a_server_that_cannot_keep_agents_apart_as_required_does_not_start() -> None:
    with ordinary_user() as user:
        done = subprocess.run(
            [user.python, "-m", "deployer.cli", "serve", "--state-dir", user.home / "state"],
            **{
                **user.options,
                "env": user.options["env"]
                | {
                    "ATOLL_DEPLOYER_ISOLATION_REQUIRE": "full",
                    "ATOLL_DEPLOYER_API_PORT": str(free_ports(1)),
                },
            },
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    assert done.returncode != 0
    assert "isolation.require is full: own-uids: the server does not run as root" in done.stderr


def test_an_interpreter_that_agents_cannot_reach_is_named(
    make_server: Callable[..., RunningServer],
) -> None:
    closed = Path(os.path.realpath(sys.executable))
    if all(path.stat().st_mode & 1 for path in closed.parents):
        pytest.skip("everybody can reach the Python that runs the tests")
    server = make_server(python={"search": [str(closed)]})
    version = ".".join(map(str, sys.version_info[:3]))

    with pytest.raises(DeployerError) as raised:
        server.client.deploy(
            zip_package(
                "stdlib_agent",
                replace={"[health]": f'[dependencies]\npython = "=={version}"\n\n[health]'},
            )
        )

    assert "is closed to uid" in raised.value.cause
