"""The server beside a supervisord that was there before it, with our plugin and without."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deployer.client import Agent
from tests.package_zips import zip_package
from tests.servers import RunningServer, wait_gone, wait_until
from tests.supervisord_process import SLEEP, is_alive

SERVICE_CONF = Path(__file__).parents[2] / "conf.d" / "atoll-deployer.conf"
PLUGIN = """
[rpcinterface:agents]
supervisor.rpcinterface_factory=deployer.supervisor_plugin:make_agents_interface
conf_d={root}/conf.d
events_socket={root}/state/run/events.sock
service=atoll-deployer
[ctlplugin:agents]
supervisor.ctl_factory=deployer.supervisorctl_plugin:make_commands
state_dir={root}/state
"""


class ForeignSupervisord:
    """A supervisord as an operator has set it up, with a program of the operator's own.

    Attributes:
        server: A deployment server whose settings name this supervisord.
        conf_d: What it includes.
        process: It runs.
    """

    def __init__(self, root: Path, cache_dir: Path, *, has_plugin: bool) -> None:
        """Write its configuration, and that of the server."""
        self.conf_d = root / "conf.d"
        self.conf_d.mkdir()
        self._conf = root / "supervisord.conf"
        self._log = root / "supervisord.log"
        (self.conf_d / "theirs--2.conf").write_text(
            f"[program:theirs--2]\ncommand={sys.executable} -I -S -c '{SLEEP}'\n"
        )
        self._conf.write_text(
            "[supervisord]\nnodaemon=true\nsilent=true\nminfds=256\nnocleanup=true\n"
            f"logfile={self._log}\npidfile={root}/supervisord.pid\n"
            f"[unix_http_server]\nfile={root}/it.sock\nusername=ops\npassword=secret\n"
            f"[supervisorctl]\nserverurl=unix://{root}/it.sock\nusername=ops\npassword=secret\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
            f"{PLUGIN.format(root=root) if has_plugin else ''}"
            "[include]\nfiles=conf.d/*.conf\n"
        )
        self.server = RunningServer(
            root / "state",
            cache_dir=cache_dir,
            supervisor={
                "url": f"unix://{root}/it.sock",
                "conf_d": str(self.conf_d),
                "username": "ops",
                "password": "secret",
            },
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._conf)],
            start_new_session=True,
            cwd=Path(__file__).parents[2],
        )
        wait_until((root / "it.sock").exists)

    def ctl(self, *arguments: str) -> str:
        """Run supervisorctl."""
        command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(self._conf)]
        done = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=30, check=False
        )
        return done.stdout + done.stderr

    def status_of(self, program: str) -> str:
        """Give supervisorctl's word for a program; empty when there is none."""
        found = re.search(rf"^{program}\s+(\w+)", self.ctl("status"), re.MULTILINE)
        return found[1] if found else ""

    def end(self) -> None:
        """End it and everything below it, as quickly as may be."""
        with contextlib.suppress(psutil.NoSuchProcess):
            below = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            for child in below:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            psutil.wait_procs(below, timeout=5)
        self.process.wait(30)


@pytest.fixture(params=["plugin", "stock"])
def foreign(
    request: pytest.FixtureRequest, tmp_path: Path, installer_cache: Path
) -> Iterator[ForeignSupervisord]:
    it = ForeignSupervisord(tmp_path, installer_cache, has_plugin=request.param == "plugin")
    try:
        yield it
    finally:
        if it.server.process is not None:
            it.server.process.kill()
            it.server.process.wait(30)
        it.end()
        assert wait_gone(it.server.state.root) == []


def running(server: RunningServer, name: str) -> Agent:
    agent: Agent = wait_until(
        lambda: (found := server.client.agent(name)).status == "running" and found
    )
    return agent


def test_agents_are_deployed_stopped_restarted_and_removed_there(
    foreign: ForeignSupervisord,
) -> None:
    server = foreign.server.start()
    assert server.process is not None
    assert "deployer.cli" in psutil.Process(server.process.pid).cmdline()

    server.client.deploy(zip_package("stdlib_agent", version="1"))
    first = server.client.agent("stdlib_agent")
    assert first.pid is not None
    assert psutil.Process(first.pid).ppid() == foreign.process.pid
    assert (os.getsid(first.pid), os.getpgid(first.pid)) == (first.pid, first.pid)
    wait_until(lambda: foreign.status_of("stdlib_agent--1") == "RUNNING")

    server.client.restart("stdlib_agent")
    second = server.client.agent("stdlib_agent")
    assert (second.port, second.pid != first.pid) == (first.port, True)

    server.client.deploy(zip_package("stdlib_agent", version="2"))
    assert server.client.agent("stdlib_agent").release == 2
    assert foreign.status_of("stdlib_agent--1") == ""

    server.client.stop("stdlib_agent")
    assert foreign.status_of("stdlib_agent--2") == "STOPPED"
    server.client.remove("stdlib_agent")
    assert [path.name for path in foreign.conf_d.iterdir()] == ["theirs--2.conf"]
    assert foreign.status_of("theirs--2") in {"STARTING", "RUNNING"}


@pytest.mark.parametrize("foreign", ["plugin"], indirect=True)
def test_its_supervisorctl_knows_the_agents(foreign: ForeignSupervisord) -> None:
    server = foreign.server.start()
    server.client.deploy(zip_package("stdlib_agent"))

    assert "stdlib_agent  running" in foreign.ctl("agents")
    server.stop()
    assert "supervisord has no program atoll-deployer" in foreign.ctl("agents")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_agents_go_on_while_the_server_is_away(
    foreign: ForeignSupervisord, number: signal.Signals
) -> None:
    server = foreign.server.start()
    server.client.deploy(zip_package("stdlib_agent"))
    before = server.client.agent("stdlib_agent")
    assert before.pid is not None
    assert server.process is not None
    wait_until(lambda: foreign.status_of("theirs--2") == "RUNNING")
    theirs = foreign.ctl("pid", "theirs--2")

    server.process.send_signal(number)
    assert server.process.wait(30) == (0 if number is not signal.SIGKILL else -number)
    assert is_alive(before.pid)

    server.start()
    after = running(server, "stdlib_agent")
    assert (after.pid, after.port) == (before.pid, before.port)
    assert foreign.ctl("pid", "theirs--2") == theirs  # though it is called like one of ours


@pytest.mark.parametrize("foreign", ["stock"], indirect=True)
def test_an_agent_that_dies_again_and_again_is_stopped_at_last(
    foreign: ForeignSupervisord,
) -> None:
    server = foreign.server.start()
    package = zip_package(
        "crashes_after",
        replace={
            'CRASH_AFTER_SECONDS = ""': 'CRASH_AFTER_SECONDS = "3"',
            "[health]": "[deployment]\nmax_restarts = 1\n[health]",
        },
    )
    server.client.deploy(package)

    agent = wait_until(
        lambda: (found := server.client.agent("crashes_after")).status == "crash_looping" and found
    )

    assert "gave up after 1 restarts" in agent.last_error
    assert foreign.status_of("crashes_after--1") == "STOPPED"
    server.client.kill("crashes_after")
    killed = server.client.agent("crashes_after")
    assert (killed.status, killed.last_error) == ("stopped", "")


@pytest.mark.parametrize("foreign", ["stock"], indirect=True)
def test_the_server_can_be_a_program_of_that_supervisord(
    foreign: ForeignSupervisord, tmp_path: Path
) -> None:
    server = foreign.server
    config = tmp_path / "atoll-deployer.json"
    document = {"state_dir": str(server.state.root), **server.settings}
    config.write_text(json.dumps({"deployment_server": document}))
    text = SERVICE_CONF.read_text()
    for theirs, ours in (
        ("/opt/atoll-deployer/bin/atoll-deployer", f"{sys.executable} -m deployer.cli"),
        ("/etc/atoll-deployer.json", str(config)),
        ("/var/log/atoll-deployer.log", f"{tmp_path}/atoll-deployer.log"),
    ):
        assert theirs in text
        text = text.replace(theirs, ours)
    (foreign.conf_d / "atoll-deployer.conf").write_text(text)

    assert "added process group" in foreign.ctl("update")
    wait_until(server.is_ready)
    server.client.deploy(zip_package("stdlib_agent"))
    before = server.client.agent("stdlib_agent")
    wait_until(lambda: foreign.status_of("atoll-deployer") == "RUNNING")
    pid = int(foreign.ctl("pid", "atoll-deployer"))
    psutil.Process(pid).kill()
    wait_until(lambda: foreign.ctl("pid", "atoll-deployer").strip() not in {str(pid), "0"})
    wait_until(server.is_ready)

    assert running(server, "stdlib_agent").pid == before.pid
    assert foreign.ctl("stop", "atoll-deployer") == "atoll-deployer: stopped\n"
    assert before.pid is not None
    assert is_alive(before.pid)
