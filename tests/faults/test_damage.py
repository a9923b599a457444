"""What is damaged harms nobody else: a lost database, a missing environment, a full disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from deployer.errors import DeployerError
from deployer.store import Store
from deployer.store.copies import restore
from deployer.supervisord_confs import SERVICE
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server, wait_until
from tests.small_disks import fill_up
from tests.wheels import make_wheel

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

MakeServer = Callable[..., RunningServer]
AGENT = "stdlib_agent"


def deploy_two(server: RunningServer) -> None:
    for name in ("one", "two"):
        server.client.deploy(zip_package(AGENT, name=name))


def pids(server: RunningServer) -> dict[str, int | None]:
    return {agent.name: agent.pid for agent in server.client.agents()}


def replace_api(server: RunningServer) -> None:
    """Kill the API, and wait until supervisord has brought it back."""
    server.kill_api()
    wait_until(server.is_ready, 30, server.describe())


def are_running(server: RunningServer, *names: str) -> bool:
    statuses = {agent.name: agent.status for agent in server.client.agents()}
    return all(statuses.get(name) == "running" for name in names)


def lose_database(server: RunningServer) -> None:
    """Truncate the database and kill the API."""
    os.kill(server.api_pid(), signal.SIGSTOP)  # or it would write into the file meanwhile
    database = server.state.database
    for ending in ("-wal", "-shm"):
        database.with_name(f"{database.name}{ending}").unlink(missing_ok=True)
    os.truncate(database, 3000)
    replace_api(server)


@pytest.mark.parametrize("has_copy", [True, False])
def test_a_truncated_database_costs_no_agent(make_server: MakeServer, has_copy: bool) -> None:  # noqa: FBT001 - parametrized
    server = make_server()
    deploy_two(server)
    before = pids(server)
    ports = {agent.name: agent.port for agent in server.client.agents()}
    cursor = server.client.events()[-1].id
    os.kill(server.api_pid(), signal.SIGSTOP)  # or it would make the copy again
    if not has_copy:
        server.state.database_copy.unlink()
    lose_database(server)
    wait_until(lambda: are_running(server, "one", "two"), 30, server.describe())
    assert pids(server) == before
    assert {agent.name: agent.port for agent in server.client.agents()} == ports
    assert server.client.events(after=cursor)[0].kind == "server.salvaged"
    server.client.deploy(zip_package(AGENT, name="one", version="2.0.0"))
    assert server.client.agent("one").version == "2.0.0"


@pytest.mark.parametrize("has_copy", [True, False])
def test_a_database_that_is_gone_costs_no_agent(make_server: MakeServer, has_copy: bool) -> None:  # noqa: FBT001 - parametrized
    server = make_server()
    deploy_two(server)
    ports = {agent.name: agent.port for agent in server.client.agents()}
    wait_until(lambda: copied_agents(server) == {"one": "running", "two": "running"})
    assert server.stop() == 0
    server.state.database.unlink()
    if not has_copy:
        server.state.database_copy.unlink()

    server.start()

    if not has_copy:  # what was desired was known to nobody else
        server.client.start("one")
        server.client.start("two")
    wait_until(lambda: are_running(server, "one", "two"), 30, server.describe())
    assert {agent.name: agent.port for agent in server.client.agents()} == ports


def test_what_was_not_salvaged_yet_is_not_deleted_as_unknown(make_server: MakeServer) -> None:
    server = make_server()
    deploy_two(server)
    before = pids(server)
    server.ctl("stop", SERVICE)
    for path in server.state.root.glob("state.db*"):
        path.unlink()
    # An API that was killed before it had salvaged anything, and one that cannot:
    assert "made anew" in restore(server.state.database, server.state.database_copy, is_missed=True)
    Store(server.state.database).close()
    fail = "CREATE TRIGGER fail BEFORE INSERT ON releases BEGIN SELECT RAISE(ABORT, 'odd'); END"
    damage(server, fail)

    server.start_api()

    wait_until(server.is_ready, 60, server.describe())
    assert server.state.release("one", 1).exists()
    damage(server, "DROP TRIGGER fail")
    archive = next(server.state.packages.glob("*.zip"))
    aside = archive.rename(server.state.root / "aside")
    archive.mkdir()  # nor can this be read just now
    server.kill_api()
    wait_until(server.is_ready, 60, server.describe())
    wait_until(lambda: are_running(server, "one", "two"), 60, server.describe())
    archive.rmdir()
    aside.rename(archive)
    server.kill_api()
    wait_until(server.is_ready, 60, server.describe())
    packages = {each.checksum for each in server.client.agents()}
    assert all(server.client.package(each) for each in packages if each)
    assert pids(server) == before


def test_a_restored_database_undoes_nothing_that_was_meant(make_server: MakeServer) -> None:
    server = make_server()
    deploy_two(server)
    server.client.deploy(zip_package(AGENT, name="three"))
    server.client.stop("two")
    server.client.remove("three")
    wait_until(lambda: copied_agents(server) == {"one": "running", "two": "stopped"})
    before = pids(server)

    lose_database(server)

    wait_until(lambda: are_running(server, "one"), 30, server.describe())
    assert pids(server) == before
    assert {each.name: each.status for each in server.client.agents()} == {
        "one": "running",
        "two": "stopped",
    }


def copied_agents(server: RunningServer) -> dict[str, str]:
    """Read what the copy of the database says is desired."""
    with contextlib.closing(sqlite3.connect(server.state.database_copy)) as connection:
        return dict(connection.execute("SELECT name, desired FROM agents"))


def test_an_agent_of_which_nothing_is_left_does_not_come_back_from_an_old_copy(
    make_server: MakeServer,
) -> None:
    server = make_server()
    deploy_two(server)
    wait_until(lambda: len(copied_agents(server)) == 2)
    old = server.state.database_copy.read_bytes()
    server.client.remove("two")
    wait_until(lambda: len(copied_agents(server)) == 1)
    os.kill(server.api_pid(), signal.SIGSTOP)
    server.state.database_copy.write_bytes(old)

    lose_database(server)

    wait_until(lambda: are_running(server, "one"), 30, server.describe())
    assert [each.name for each in server.client.agents()] == ["one"]


def test_a_corrupt_row_quarantines_its_agent_alone(make_server: MakeServer) -> None:
    server = make_server()
    deploy_two(server)
    with sqlite3.connect(server.state.database) as connection:
        connection.execute("UPDATE agents SET desired = 'nonsense' WHERE name = 'one'")
    connection.close()
    server.stop()
    server.start()
    wait_until(lambda: are_running(server, "two"), 30, server.describe())
    assert server.client.agent("one").status == "quarantined"
    assert "damaged" in str(server.request("GET", "/readyz").json())


@pytest.mark.parametrize("column", ["created_at", "desired"])
def test_a_corrupt_row_stops_no_agent_that_serves(make_server: MakeServer, column: str) -> None:
    server = make_server()
    deploy_two(server)
    before = pids(server)
    damage(server, f"UPDATE agents SET {column} = 'nonsense' WHERE name = 'one'")  # noqa: S608 - ours
    rows = desired_rows(server)

    server.kill_api()

    wait_until(server.is_ready, 60, server.describe())
    # It is looked after later, so that what is done for the damaged one is over by then.
    server.client.restart("two")
    wait_until(lambda: are_running(server, "two"), 30, server.describe())
    assert "row in state.db is damaged" in server.request("GET", "/readyz").text
    assert pids(server)["one"] == before["one"]
    assert desired_rows(server) == rows


def desired_rows(server: RunningServer) -> dict[str, str]:
    """Read what the database says is desired."""
    with contextlib.closing(sqlite3.connect(server.state.database, timeout=10)) as connection:
        return dict(connection.execute("SELECT name, desired FROM agents"))


def damage(server: RunningServer, *statements: str) -> None:
    """Change rows behind the server's back."""
    with contextlib.closing(sqlite3.connect(server.state.database, timeout=10)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize(
    "change",
    [
        "status = 'running', ended_at = NULL, strategy = 'nonsense'",
        "status = 'queued', ended_at = NULL, strategy = 'nonsense'",
        "status = 'running', ended_at = 'nonsense', created_at = 'nonsense'",
        "status = 'nonsense', ended_at = NULL",
    ],
)
def test_a_corrupt_row_of_a_deployment_keeps_nobody_down(
    make_server: MakeServer, change: str
) -> None:
    server = make_server()
    deploy_two(server)
    damage(server, f"UPDATE deployments SET {change} WHERE agent = 'one'")  # noqa: S608 - ours

    server.stop()
    server.start()

    wait_until(lambda: are_running(server, "one", "two"), 30, server.describe())
    last = server.client.deployments(agent="one")[0]
    assert last.status not in {"queued", "running"}
    assert "damaged" in str(last.document["failure"]) or last.status == "succeeded"
    server.client.deploy(zip_package(AGENT, name="one", version="2.0.0"))
    assert server.client.agent("one").version == "2.0.0"


def test_corrupt_rows_of_what_is_over_hide_no_other_rows(make_server: MakeServer) -> None:
    server = make_server()
    deploy_two(server)

    damage(
        server,
        "UPDATE deployments SET status = 'nonsense', failure = '{' WHERE agent = 'one'",
        "UPDATE steps SET outcome = 'nonsense', started_at = 'x' WHERE deployment = 2",
        "UPDATE events SET at = 'nonsense' WHERE agent = 'one'",
    )

    listed = server.client.deployments()
    assert [each.agent for each in listed] == ["two", "one"]
    assert "status: 'nonsense'" in listed[1].document["failure"]["detail"]
    assert "damaged" in str(listed[0].document["steps"])
    events = server.client.events()
    assert {event.agent for event in events} >= {"one", "two"}
    assert all(("damaged" in event.message) == (event.agent == "one") for event in events)
    metrics = server.request("GET", "/metrics").text
    assert 'atoll_deployer_deployments_total{status="failed"} 1' in metrics


def test_an_agent_whose_current_release_has_no_row_is_in_quarantine(
    make_server: MakeServer,
) -> None:
    server = make_server()
    deploy_two(server)
    damage(server, "UPDATE agents SET current = 77 WHERE name = 'one'")

    server.stop()
    server.start()

    wait_until(lambda: are_running(server, "two"), 30, server.describe())
    assert server.client.agent("one").status == "quarantined"
    assert "current release 77 is not in state.db" in server.client.why("one").cause
    assert "release 77" in str(server.request("GET", "/readyz").json())


@pytest.mark.parametrize(
    "change", ["manifest = '{'", "created_at = 'nonsense'", "status = 'nonsense'"]
)
def test_a_corrupt_row_of_a_release_that_runs_harms_no_other_agent(
    make_server: MakeServer, change: str
) -> None:
    server = make_server()
    deploy_two(server)
    before = pids(server)
    with sqlite3.connect(server.state.database, timeout=10) as connection:
        connection.execute(f"UPDATE releases SET {change} WHERE agent = 'one'")  # noqa: S608 - ours
    connection.close()
    replace_api(server)
    wait_until(lambda: are_running(server, "two"), 30, server.describe())
    assert pids(server) == before
    server.client.stop("one")
    server.client.deploy(zip_package(AGENT, name="one", version="2.0.0"))
    assert are_running(server, "one", "two")


def test_a_missing_environment_quarantines_its_agent_alone(
    make_server: MakeServer, tmp_path: Path
) -> None:
    make_wheel(tmp_path / "wheels", "alpha")
    server = make_server(find_links=[str(tmp_path / "wheels")])
    own = {"requirements.txt": "alpha\n"}  # or it would share the other's environment
    server.client.deploy(zip_package(AGENT, name="one", extra_files=own))
    server.client.deploy(zip_package(AGENT, name="two"))
    server.stop()
    shutil.rmtree(server.state.venv("one", 1).resolve())
    server.start()
    wait_until(lambda: are_running(server, "two"), 30, server.describe())
    wait_until(lambda: server.client.agent("one").status == "quarantined")
    assert "Python is missing" in server.client.why("one").cause
    assert "one: its Python is missing" in str(server.request("GET", "/readyz").json())
    server.client.deploy(zip_package(AGENT, name="one", extra_files=own), force=True)
    assert server.client.agent("one").status == "running"


def test_a_damaged_program_config_costs_no_agent(make_server: MakeServer) -> None:
    server = make_server()
    deploy_two(server)
    server.stop()
    server.state.program_config("one--1").write_bytes(b"[program:one--1]\ncommand=%(ENV_NONE)s\n")
    server.start()
    wait_until(lambda: are_running(server, "one", "two"), 30, server.describe())


def test_killing_everything_brings_back_what_was_desired(make_server: MakeServer) -> None:
    server = make_server()
    deploy_two(server)
    server.client.stop("two")
    port = server.client.agent("one").port
    assert server.process is not None
    api = server.api_pid()
    os.kill(server.process.pid, signal.SIGKILL)
    os.kill(api, signal.SIGKILL)
    server.process.wait(30)
    server.start()
    wait_until(lambda: are_running(server, "one"), 30, server.describe())
    assert server.client.agent("one").port == port
    assert server.client.agent("two").status == "stopped"


def test_an_api_that_ends_on_a_full_disk_comes_back_with_all_it_knew(
    small_disk: Path, installer_cache: Path
) -> None:
    with running_server(
        small_disk / "s", cache_dir=installer_cache / "small", limits={"free_bytes": "4MB"}
    ) as server:
        server.client.deploy(zip_package(AGENT))
        before, url = pids(server), server.client.agent(AGENT).url
        events = server.client.events()

        server.ctl("stop", SERVICE)
        fill_up(small_disk / "filler")  # after the end: that gives the room of the journal back
        tried = set()
        with contextlib.suppress(DeployerError):
            server.start_api()

        def has_tried_twice() -> bool:
            with contextlib.suppress(AssertionError):
                tried.add(server.api_pid())
            return len(tried) > 1

        wait_until(has_tried_twice, 60, server.describe())
        assert requests.get(f"{url}/health", timeout=5).ok

        (small_disk / "filler").unlink()

        wait_until(server.is_ready, 60, server.describe())
        assert server.client.events()[: len(events)] == events
        assert pids(server) == before
        assert not list(server.state.root.glob("*.damaged*"))


@pytest.mark.parametrize("small_disk", ["size=300m,nr_inodes=22000"], indirect=True)
def test_a_disk_with_too_few_inodes_refuses_new_releases_and_keeps_the_old(
    small_disk: Path, tmp_path: Path
) -> None:
    with running_server(small_disk / "s", cache_dir=tmp_path / "cache") as server:
        server.client.deploy(zip_package(AGENT))
        before = pids(server)
        package = server.client.upload(zip_package(AGENT, version="2.0.0"))
        for number in range(3000):
            (small_disk / f"filler{number}").touch()
        answer = server.request("POST", "/v1/deployments?wait=60", json={"package": package.md5})
        assert answer.status_code == 507
        assert "inodes left" in answer.json()["cause"]
        assert pids(server) == before
        assert [each.number for each in server.client.releases(AGENT)] == [1]


def test_a_full_disk_refuses_new_releases_and_keeps_the_old(
    small_disk: Path, installer_cache: Path
) -> None:
    limits = {"free_bytes": "4MB"}
    with running_server(
        small_disk / "s", cache_dir=installer_cache / "small", limits=limits
    ) as server:
        server.client.deploy(zip_package(AGENT))
        before = pids(server)
        package = server.client.upload(zip_package(AGENT, version="2.0.0"))
        filler = small_disk / "filler"
        with filler.open("wb") as file:
            free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
            file.write(b"\0" * (free - 2 * 1024 * 1024))
        answer = server.request("POST", "/v1/deployments?wait=60", json={"package": package.md5})
        assert answer.status_code == 507
        assert "bytes left" in answer.json()["cause"]
        assert pids(server) == before
        fill_up(filler)
        with pytest.raises((DeployerError, requests.RequestException)):
            server.client.deploy(zip_package(AGENT, version="3.0.0"))
        assert requests.get(f"{server.client.agent(AGENT).url}/health", timeout=5).ok
        filler.unlink()
        server.client.deploy(zip_package(AGENT, version="4.0.0"))
        assert server.client.agent(AGENT).version == "4.0.0"
