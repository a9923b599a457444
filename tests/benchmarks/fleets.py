"""Servers with many agents, made in seconds: one is deployed, the others are copies of it.

A copy is rows and files as a deployment leaves them, written while the server is down. So its start
brings up as many agents as somebody deployed one by one: they differ from those in nothing but that
their packages have one checksum.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from deployer.model import Desired
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server, wait_until

ORIGINAL = "agent-0"
_COMPILE_SECONDS = 60
_SETTLE_SECONDS = 300
_PAUSE_SECONDS = 0.25


def package(*, interval_seconds: int = 30, began_file: bool = False) -> bytes:
    """Make the agent that fleets are made of.

    Args:
        interval_seconds: Between two checks.
        began_file: It writes down in its data directory when its main.py began.
    """
    replace = {"start_seconds = 20": f"start_seconds = 120\ninterval_seconds = {interval_seconds}"}
    if began_file:
        replace["import os\nimport sys"] = BEGAN
    return zip_package("stdlib_agent", name=ORIGINAL, replace=replace)


BEGAN = """\
import time
began = time.monotonic()
import os
import sys

file = os.path.join(os.environ["ATOLL_AGENT_DATA_DIR"], "began")
with open(file + ".new", "w") as new:
    new.write(f"{os.getpid()} {began}")
os.replace(file + ".new", file)
"""


def deploy_original(
    server: RunningServer, *, interval_seconds: int = 30, began_file: bool = False
) -> None:
    """Deploy the agent that fleets are made of, and wait until its bytecode is made, too.

    Args:
        server: It runs, and is without agents.
        interval_seconds: See `package`.
        began_file: See `package`.
    """
    server.client.deploy(package(interval_seconds=interval_seconds, began_file=began_file))
    compiled = server.state.release(ORIGINAL, 1) / ".bytecode"
    wait_until(compiled.exists, _COMPILE_SECONDS, "compiled")


def populate(server: RunningServer, agents: int, *, running: int | None = None) -> None:
    """Fill a server that has one agent, `ORIGINAL`, and is down, up to so many.

    Args:
        server: It was stopped.
        agents: How many there are to be: ``agent-0`` to ``agent-N``.
        running: How many of them are desired to run; None: all.
    """
    state, original = server.state, server.state.agent(ORIGINAL)
    running = agents if running is None else running
    owner = state.agent_data(ORIGINAL).stat().st_uid
    with closing(sqlite3.connect(state.database)) as database, database:
        database.row_factory = sqlite3.Row
        there = {row["name"] for row in database.execute("SELECT name FROM agents")}
        for number in range(agents):
            name = f"agent-{number}"
            if name not in there:
                _copy_rows(database, name, number)
                if number < running:
                    folder = state.agent(name)
                    shutil.copytree(original / "releases", folder / "releases", symlinks=True)
                    for each in ("data", "tmp", "run"):
                        (folder / each).mkdir(mode=0o700)
                        if owner != os.geteuid():
                            os.chown(folder / each, owner + number, owner + number)
            desired = Desired.RUNNING if number < running else Desired.STOPPED
            database.execute("UPDATE agents SET desired = ? WHERE name = ?", (desired, name))


def _copy_rows(database: sqlite3.Connection, name: str, number: int) -> None:
    """Copy what is known of the original; with a port and a user of its own."""
    for table, key in (("agents", "name"), ("releases", "agent")):
        query = f"SELECT * FROM {table} WHERE {key} = ?"  # noqa: S608 - our own words
        for row in database.execute(query, (ORIGINAL,)).fetchall():
            values = {**dict(row), key: name}
            if values.get("port"):
                values["port"] += number
            if "manifest" in values:
                manifest = json.loads(values["manifest"])
                manifest["agent"]["name"] = name
                values["manifest"] = json.dumps(manifest)
            marks = ", ".join("?" * len(values))
            insertion = f"INSERT INTO {table} VALUES ({marks})"  # noqa: S608 - the same
            database.execute(insertion, tuple(values.values()))
    database.execute(
        "INSERT INTO uids (uid, agent) SELECT uid + ?, ? FROM uids WHERE agent = ?",
        (number, name, ORIGINAL),
    )


def running_agents(server: RunningServer) -> int:
    """Count the agents that run, in one cheap request."""
    agents = server.request("GET", "/agents").json()["agents"]
    return sum(agent["status"] == "running" for agent in agents)


def boot(server: RunningServer, agents: int) -> None:
    """Start a server, and wait until so many agents run."""
    server.launch()
    wait_until(server.is_ready, _SETTLE_SECONDS, "ready")
    wait_until_running(server, agents)


def wait_until_running(server: RunningServer, agents: int) -> None:
    """Wait until so many agents run, asking seldom: questions would take the time of starts."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while (running := running_agents(server)) != agents:
        assert time.monotonic() < deadline, f"{running} of {agents} agents run"
        time.sleep(_PAUSE_SECONDS)


@contextlib.contextmanager
def running_fleet(
    root: Path,
    agents: int,
    *,
    room: int | None = None,
    interval_seconds: int = 30,
    began_file: bool = False,
) -> Iterator[RunningServer]:
    """Run a server with so many agents while the block runs; they all run when it begins.

    Args:
        root: An empty directory.
        agents: How many there are.
        room: For how many; None: no more than that.
        interval_seconds: Between two checks of an agent.
        began_file: See `package`.
    """
    with running_server(root, max_agents=(room or agents) + 10) as server:
        deploy_original(server, interval_seconds=interval_seconds, began_file=began_file)
        server.stop()
        populate(server, agents)
        boot(server, agents)
        yield server
