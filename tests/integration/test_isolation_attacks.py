"""One agent attacks another at every level of isolation that this machine has, as root and not.

Both are deployed as any agent is, and run by a real supervisord. Each attack has an answer for each
level: ``open``, or the error that it must meet. Then an honest agent does what it has to be able to
do, at the same levels.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import pty
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from deployer.isolation.surroundings import SHARED
from deployer.landlock import find_abi
from tests.certificates import Authority
from tests.free_ports import free_ports
from tests.ordinary_users import OrdinaryUser, ordinary_user
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server

pytestmark = pytest.mark.skipif(find_abi() < 6, reason="needs Landlock ABI 6, Linux 6.12")

LEVELS = ("full", "uid", "landlock+ns", "landlock", "none")
AS_ROOT = ("full", "uid")
SYSV_KEY = 0x41544F4C  # as in the package
IPC_RMID = 0

# What each attack meets at each of LEVELS.
ATTACKS = """
read B secret             | ENOENT | ENOENT | ENOENT | EACCES | open
list B dir                | ENOENT | ENOENT | ENOENT | EACCES | open
stat B secret             | ENOENT | ENOENT | ENOENT | open   | open
list agents dir           | EACCES | EACCES | EACCES | EACCES | open
write B data              | ENOENT | ENOENT | ENOENT | EACCES | open
chmod B data              | ENOENT | ENOENT | ENOENT | open   | open
utime B data              | ENOENT | ENOENT | ENOENT | open   | open
chmod own code            | EROFS  | EROFS  | EROFS  | open   | open
write own code            | EACCES | EACCES | EROFS  | EACCES | open
create in own code        | EROFS  | EROFS  | EROFS  | EACCES | open
write own venv            | EROFS  | EROFS  | EROFS  | EACCES | open
symlink to B secret       | ENOENT | ENOENT | ENOENT | EACCES | open
hardlink B secret         | ENOENT | ENOENT | ENOENT | EXDEV  | open
read server config        | ENOENT | ENOENT | ENOENT | EACCES | open
read secrets.key          | ENOENT | ENOENT | ENOENT | EACCES | open
read state.db             | ENOENT | ENOENT | ENOENT | EACCES | open
write state.db            | EACCES | EACCES | EACCES | EACCES | open
read token                | ENOENT | ENOENT | ENOENT | EACCES | open
read /etc/shadow          | EACCES | EACCES | EACCES | EACCES | EACCES
read /root                | EACCES | EACCES | EACCES | EACCES | EACCES
list /tmp                 | open   | open   | EACCES | EACCES | open
write /tmp                | open   | open   | EACCES | EACCES | open
/tmp file of B            | ENOENT | ENOENT | ENOENT | ENOENT | open
/proc/B/environ           | ENOENT | ENOENT | EACCES | EACCES | open
/proc/B/cmdline           | ENOENT | ENOENT | open   | open   | open
/proc/B/root              | ENOENT | ENOENT | EACCES | EACCES | open
/proc/B/cwd               | ENOENT | ENOENT | EACCES | EACCES | open
/proc/B/fd                | ENOENT | ENOENT | open   | open   | open
/proc/B/mem               | ENOENT | ENOENT | EACCES | EACCES | open
/proc/parent/environ      | ENOENT | ENOENT | EACCES | EACCES | open
kill -0 B                 | EPERM  | EPERM  | EPERM  | EPERM  | open
kill -CONT B              | EPERM  | EPERM  | EPERM  | EPERM  | open
pidfd signal B            | EPERM  | EPERM  | EPERM  | EPERM  | open
kill -0 supervisord       | EPERM  | EPERM  | EPERM  | EPERM  | open
ptrace attach B           | EPERM  | EPERM  | EPERM  | EPERM  | open
prlimit B NOFILE          | EPERM  | EPERM  | open   | open   | open
setpriority B             | EPERM  | EPERM  | open   | open   | open
sched_setaffinity B       | EPERM  | EPERM  | open   | open   | open
abstract socket of B      | EPERM  | open   | EPERM  | EPERM  | open
pathname socket of B      | ENOENT | ENOENT | ENOENT | open   | open
supervisord's socket      | ENOENT | ENOENT | ENOENT | open   | open
connect B's TCP port      | open   | open   | open   | open   | open
bind B's TCP port         | EACCES | open   | EACCES | EACCES | open
bind third port           | EACCES | open   | EACCES | EACCES | open
listen without bind       | open   | open   | open   | open   | open
bind UDP B's port         | open   | open   | open   | open   | open
B's shared memory by name | ENOENT | ENOENT | ENOENT | open   | open
list /dev/shm             | open   | open   | open   | EACCES | open
SysV memory of B          | ENOENT | ENOENT | ENOENT | open   | open
gain privileges           | EPERM  | EPERM  | EPERM  | EPERM  | EPERM
setuid program            | EPERM  | EPERM  | EPERM  | EPERM  | EPERM
unshare and mount         | EPERM  | open   | EPERM  | EPERM  | open
plant a policy            | ENOENT | ENOENT | ENOENT | EACCES | open
list policies             | ENOENT | ENOENT | ENOENT | EACCES | open
read own policy           | ENOENT | ENOENT | ENOENT | EACCES | open
write a log               | ENOENT | ENOENT | ENOENT | EACCES | open
move own data away        | EACCES | EACCES | EACCES | EACCES | open
open /dev/tty             | ENXIO  | ENXIO  | ENXIO  | ENXIO  | ENXIO
open the terminal         | EACCES | EACCES | open   | open   | open
type on the terminal      | EACCES | EACCES | EPERM  | EPERM  | EPERM
take its foreground       | EACCES | EACCES | ENOTTY | ENOTTY | ENOTTY
take over the terminal    | EACCES | EACCES | EPERM  | EPERM  | EPERM
join B's process group    | EPERM  | EPERM  | EPERM  | EPERM  | EPERM
join supervisord's group  | EPERM  | EPERM  | EPERM  | EPERM  | EPERM
umount /tmp               | EPERM  | EPERM  | EPERM  | EPERM  | EPERM
"""
ROWS = [[cell.strip() for cell in line.split("|")] for line in ATTACKS.strip().splitlines()]
CASES = """
temporary file
sqlite WAL
rename tmp to data
socket in run
own port
any free port
files of the resolver
lookup of localhost
certificates
https
subprocess
shell
own interpreter
fork
spawn
forkserver
lock and queue
pool
manager
shared memory
process pool executor
asyncio
fifty threads
pseudo terminal
terminal of its own
ctypes callback
time zones
signals to children
mapped file
/dev/null and randomness
home
what the machine has
"""

Reports = Callable[[str], dict[str, Any]]


def report(root: Path, cache_dir: Path | None, level: str, **options: Any) -> dict[str, Any]:
    """Deploy intruder and victim at a level, and hear what each could do."""
    server_settings = {"isolation": {"use": level}, **options}
    with (
        nothing_left_to_share(),
        terminal_of(options.get("user")) as terminal,
        running_server(root, cache_dir=cache_dir, terminal=terminal, **server_settings) as server,
    ):
        server.client.set_secret("KEPT", "what neither is given")  # so that there is a key
        for name in ("victim", "intruder"):
            server.client.deploy(zip_package("intruder", name=name))
        agents = {name: server.client.agent(name) for name in ("victim", "intruder")}
        assert {agent.isolation for agent in agents.values()} == {level}
        victim = agents["victim"]
        assert victim.pid is not None
        facts = {
            "pid": victim.pid,
            "port": victim.port,
            "state": str(server.state.root),
            "parent": psutil.Process(victim.pid).ppid(),
            "free_port": free_ports(1),
            "terminal": os.ttyname(terminal),
        }
        argument = urllib.parse.quote(json.dumps(facts))
        url = agents["intruder"].url
        return {
            "server": server.request("GET", "/v1/server").json()["isolation"],
            "health": server.request("GET", "/health").json(),
            "attacks": ask(f"{url}/attacks?{argument}"),
            "works": ask_what_works(f"{url}/works", root.with_name("tls")),
            "owners": owners(server),
            "leads": [os.getsid(agent.pid or 0) == agent.pid for agent in agents.values()],
        }


@contextmanager
def terminal_of(user: OrdinaryUser | None) -> Iterator[int]:
    """Make a terminal that is owned by whoever is to start a server from it."""
    ours, theirs = pty.openpty()
    try:
        os.fchown(theirs, os.geteuid() if user is None else user.uid, -1)
        os.fchmod(theirs, 0o600)
        yield theirs
    finally:
        os.close(theirs)
        os.close(ours)


@contextmanager
def nothing_left_to_share() -> Iterator[None]:
    """Remove what agents leave, at the lower levels, where all of this machine can see it."""
    try:
        yield
    finally:
        for name in ("victim", "intruder"):
            for directory in SHARED:
                (directory / name).unlink(missing_ok=True)
        libc = ctypes.CDLL(None)
        memory = libc.shmget(SYSV_KEY, 0, 0)
        if memory >= 0:
            libc.shmctl(memory, IPC_RMID, None)


def ask_what_works(url: str, folder: Path) -> dict[str, str]:
    """Hear what an agent could do as an honest one, while somebody serves HTTPS to it."""
    authority = Authority(folder, "Authority of an index")
    certificate = authority.issue("index", "CN=index")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate.files)
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as index:
        index.socket = context.wrap_socket(index.socket, server_side=True)
        threading.Thread(target=index.serve_forever, daemon=True).start()
        try:
            facts = {"port": index.server_port, "authority": authority.cert.read_text()}
            return ask(f"{url}?{urllib.parse.quote(json.dumps(facts))}")
        finally:
            index.shutdown()


def ask(url: str) -> dict[str, str]:
    answer = requests.get(url, timeout=90).json()
    assert answer["out"], answer["err"]
    answers: dict[str, str] = json.loads(answer["out"])
    return answers


def owners(server: RunningServer) -> dict[str, tuple[int, int, str]]:
    """Tell user, group and mode of what lies below the intruder's directory."""
    directory = server.state.agent("intruder")
    release = server.state.release("intruder", 1)
    paths = {"directory": directory, "code": release / "code", "venv": release / "venv"}
    paths |= {name: directory / name for name in ("data", "tmp", "run")}
    status = {name: path.stat() for name, path in paths.items()}
    return {
        name: (each.st_uid, each.st_gid, f"{each.st_mode & 0o7777:04o}")
        for name, each in status.items()
    }


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory, installer_cache: Path) -> Iterator[Reports]:
    """A maker of reports, one for each level, at the first test that asks for it."""
    if os.geteuid() != 0:
        pytest.skip("only root can be root, and somebody else as well")
    with ExitStack() as users:

        @functools.cache
        def made(level: str) -> dict[str, Any] | Exception:
            try:
                return make(level)
            except Exception as error:  # noqa: BLE001 - made once, and raised for each test
                return error

        def make(level: str) -> dict[str, Any]:
            if level in AS_ROOT:
                return report(tmp_path_factory.mktemp("i") / "state", installer_cache, level)
            user = users.enter_context(ordinary_user())
            return report(user.home / "state", None, level, user=user)

        def get(level: str) -> dict[str, Any]:
            it = made(level)
            if isinstance(it, Exception):
                raise it
            return it

        yield get


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_an_attack_meets(reports: Reports, level: str, row: list[str]) -> None:
    name, *expected = row

    assert reports(level)["attacks"][name] == expected[LEVELS.index(level)]


def test_every_attack_has_its_row(reports: Reports) -> None:
    assert set(reports("full")["attacks"]) == {row[0] for row in ROWS}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("case", CASES.strip().splitlines())
def test_an_honest_agent_can_use(reports: Reports, level: str, case: str) -> None:
    assert reports(level)["works"][case] == "fine"


@pytest.mark.parametrize("level", LEVELS)
def test_each_agent_leads_a_session_of_its_own(reports: Reports, level: str) -> None:
    assert reports(level)["leads"] == [True, True]


@pytest.mark.parametrize("level", LEVELS)
def test_the_server_says_its_level(reports: Reports, level: str) -> None:
    said = reports(level)

    assert (said["server"]["level"], said["health"]["isolation"]) == (level, level)


def test_an_agent_owns_its_data_and_nothing_else(reports: Reports) -> None:
    owned = reports("full")["owners"]
    uid = owned["data"][0]

    assert uid in range(70_000, 100_000)
    assert owned == {
        "directory": (0, uid, "0750"),
        "code": (0, 0, "0755"),
        "venv": (0, 0, "0755"),
        **dict.fromkeys(("data", "tmp", "run"), (uid, uid, "0700")),
    }
