"""A server as root with no more than what a container engine gives by default.

CAP_SYS_PTRACE is missing: descriptors and variables of agents' processes cannot be read.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deployer.errors import StartError
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server, wait_until

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to give up"),
    pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv of util-linux"),
]

CAPABILITIES = (
    "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw,"
    "sys_chroot,mknod,audit_write,setfcap"
)
"""Docker's default."""

LIMITED = f"-all,+{CAPABILITIES.replace(',', ',+')}"


WRAPPER = ("setpriv", f"--bounding-set={LIMITED}", "--inh-caps=-all")
EXAMINE = """\
import os, sys
from pathlib import Path
from deployer.doctor.patients import Patient
from deployer.doctor.port_ranges import examine_ports
from deployer.settings import Settings
from deployer.state_dir import StateDir
state = StateDir(Path(sys.argv[1]))
print(examine_ports(Patient(Settings.read(state.settings), state, state.tmp, os.environ)).detail)
"""


@pytest.fixture(scope="module")
def contained(installer_cache: Path) -> Iterator[RunningServer]:
    with tempfile.TemporaryDirectory(prefix="contained-", dir="/tmp") as name:
        root = Path(name)
        root.chmod(0o755)  # agents pass through it as users of their own
        with running_server(
            root / "state",
            cache_dir=installer_cache,
            wrapper=WRAPPER,
            limits={"mechanisms": []},  # engines give no control groups
        ) as server:
            yield server


def processes_of(uid: int) -> list[int]:
    return [
        each.pid
        for each in psutil.process_iter(["uids", "status"])
        if each.info["uids"].real == uid and each.info["status"] != psutil.STATUS_ZOMBIE
    ]


def test_an_agent_is_deployed_and_its_port_known_to_be_its_own(contained: RunningServer) -> None:
    contained.client.deploy(zip_package("stdlib_agent", name="ada"))

    agent = contained.client.agent("ada")
    assert agent.status == "running"
    assert agent.health is not None
    assert agent.health.healthy
    assert psutil.Process(agent.pid).uids().real != 0


def test_doctor_knows_the_ports_of_agents(contained: RunningServer) -> None:
    contained.client.deploy(zip_package("stdlib_agent", name="dov"))

    command = [*WRAPPER, sys.executable, "-c", EXAMINE, str(contained.state.root)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)

    assert "by agents of this server" in said.stdout
    assert "held by" not in said.stdout


@pytest.fixture
def escaping(contained: RunningServer) -> Iterator[int]:
    """The user of agent bob, of whom a process has escaped; nothing of it stays."""
    contained.client.deploy(zip_package("escapes", name="bob"))
    uid = contained.state.agent_data("bob").stat().st_uid
    assert uid != 0
    try:
        wait_until(lambda: len(processes_of(uid)) == 2)
        yield uid
    finally:
        contained.client.remove("bob")
        for pid in processes_of(uid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_what_escaped_is_counted_and_ends_with_its_agent(
    contained: RunningServer, escaping: int
) -> None:
    wait_until(lambda: (usage := contained.client.agent("bob").usage) and usage.processes == 2)

    contained.client.stop("bob")

    assert processes_of(escaping) == []


def test_an_agent_that_binds_another_port_is_told_which(contained: RunningServer) -> None:
    contained.client.deploy(zip_package("stdlib_agent", name="cem"))
    soon = {"start_seconds = 20": "start_seconds = 4"}

    with pytest.raises(StartError, match=r"listens on \d+ instead of") as caught:
        contained.client.deploy(zip_package("binds_other_port", name="cem", replace=soon))

    assert f"listens on {contained.client.agent('cem').port}" not in str(caught.value)
