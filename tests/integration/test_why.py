"""`why` names what is behind a failure: the file, port, module or limit, and what to do next."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deployer.client import Why
from deployer.errors import DeployerError, NoSpaceError, StartError
from tests.loopback import served, thief
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server, wait_until
from tests.small_disks import fill_up
from tests.wheels import make_index, make_wheel

MakeServer = Callable[..., RunningServer]
SERVING_START = {"start_seconds = 20": "start_seconds = 5"}
"""Enough on a busy machine for a port: without it another cause holds."""


@dataclass(frozen=True)
class Case:
    """An agent that fails, and what must be said of it.

    Attributes:
        main: Its main.py.
        cause: What the cause holds.
        hint: What the hint holds.
        evidence: What one of the lines holds.
        replace: Changes to the manifest of the package.
        requirements: Its requirements.txt.
    """

    main: str
    cause: str
    hint: str
    evidence: str = ""
    replace: dict[str, str] = field(default_factory=dict)
    requirements: str = ""

    def zip(self, name: str = "reef") -> bytes:
        extra = {"main.py": self.main} if self.main else {}
        extra |= {"requirements.txt": self.requirements} if self.requirements else {}
        return zip_package("stdlib_agent", name=name, extra_files=extra, replace=self.replace)


def python(range_: str) -> dict[str, str]:
    return {"[health]": f'[dependencies]\npython = "{range_}"\n\n[health]'}


CASES = {
    "missing dependency": Case(
        "import os\nimport seaweed_that_nobody_installed\n",
        "missing module 'seaweed_that_nobody_installed'",
        "main.py:2 imports it: add the package that has seaweed_that_nobody_installed to"
        " requirements.txt",
        "ModuleNotFoundError",
    ),
    "a Python that is not here": Case(
        "",
        "no Python >=3.99 here; found ",
        "python.search",
        sys.version.split()[0],
        python(">=3.99"),
    ),
    "written for another Python": Case(
        "import distutils_of_3_11 if False else None\n",
        "SyntaxError in main.py:1",
        "[dependencies] python in agent.toml; this is Python 3.",
        "import distutils_of_3_11",
    ),
    "import error": Case(
        "from serving import coral\n",
        "ImportError: cannot import name 'coral' from 'serving'",
        "raised in main.py:1; ",
        "from serving import coral",
    ),
    "import error of a dependency": Case(
        "from reefkit import Chart\n",
        "ImportError: cannot import name 'Chart' from 'reefkit'",
        "the version of reefkit that is installed has no Chart",
        "from reefkit import Chart",
        requirements="reefkit\n",
    ),
    "exit at once": Case(
        "import sys\nsys.exit('cannot read colours.ini')\n",
        "exited with code 1: cannot read colours.ini",
        "mend what its last line says",
        "cannot read colours.ini",
    ),
    "exit at once without a word": Case(
        "import sys\nsys.exit(3)\n",
        "exited with code 3 and printed nothing",
        "must keep running and serve on the port in the PORT variable",
    ),
    "health path 404": Case(
        "",
        "fails its health check: HTTP 404 at /ready",
        "nothing is served at /ready: set [health] path",
        replace=SERVING_START | {'path = "/health"': 'path = "/ready"'},
    ),
    "health path 500": Case(
        "import serving\nserving.serve(lambda path: (500, {}))\n",
        "fails its health check: HTTP 500 at /health",
        "its own code failed at /health",
        replace=SERVING_START,
    ),
    "health path slow": Case(
        "import serving, time\nserving.serve(lambda path: time.sleep(60))\n",
        "does not answer its health check: timed out after 0.2 s at /health",
        "[health] timeout_seconds",
        replace={"start_seconds = 20": "start_seconds = 5\ntimeout_seconds = 0.2"},
    ),
    "no wheel for this Python": Case(
        "",
        "coralreef==1.0 has no wheel that fits",
        "choose a version that has one for this Python",
        "coralreef",
        requirements="coralreef==1.0\n",
    ),
    "a dependency that needs another Python": Case(
        "",
        "needs Python",
        "[dependencies] python in agent.toml",
        "futurekit",
        requirements="futurekit\n",
    ),
    "writes into its release": Case(
        "open('cache.json', 'w')\n",
        "may not write 'cache.json': a release never changes",
        "ATOLL_AGENT_DATA_DIR",
        "'cache.json'",
    ),
}


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningServer]:
    """A server whose index, on loopback, has a few strange wheels."""
    root = tmp_path_factory.mktemp("why")
    wheels = [
        make_wheel(root / "wheels", "reefkit"),
        make_wheel(root / "wheels", "futurekit", python=">=3.99"),
    ]
    coral = make_wheel(root / "wheels", "coralreef")
    wheels.append(coral.rename(coral.with_name("coralreef-1.0-cp38-cp38-linux_riscv64.whl")))
    with (
        served(make_index(root / "index", wheels)) as url,
        running_server(root / "s", cache_dir=root / "cache", index_url=f"{url}/simple") as it,
    ):
        yield it


def failed(server: RunningServer, package: bytes, name: str = "reef") -> Why:
    """Deploy what fails, and ask why."""
    with pytest.raises(DeployerError):
        server.client.deploy(package)
    return server.client.why(name)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_why_tells_of_a_first_deployment_that_failed(server: RunningServer, case: Case) -> None:
    why = failed(server, case.zip())

    assert case.cause in why.cause
    assert case.hint in why.hint
    assert any(case.evidence in line for line in why.evidence or ("",))
    assert (why.status, why.deployment) == ("", server.client.deployments(agent="reef")[0].id)


def test_why_tells_of_a_failed_update_of_an_agent_that_serves_on(server: RunningServer) -> None:
    server.client.deploy(zip_package("stdlib_agent", name="lagoon"))

    why = failed(server, CASES["missing dependency"].zip("lagoon"), "lagoon")

    assert why.status == "running"
    assert "missing module 'seaweed_that_nobody_installed'" in why.cause
    assert why.cause.endswith("; release 1 serves on")
    server.client.deploy(zip_package("stdlib_agent", name="lagoon", version="2.0.0"))
    assert server.client.why("lagoon").cause == ""
    server.client.remove("lagoon")


def test_an_index_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    with served(tmp_path) as url:
        pass  # nobody listens there any more
    index_url = f"{url}/simple"
    with running_server(tmp_path / "s", cache_dir=tmp_path / "c", index_url=index_url) as server:
        why = failed(server, Case("", "", "", requirements="reefkit\n").zip())

    assert f"cannot reach {url}: Connection refused" in why.cause
    assert "index_url" in why.hint
    assert any("reefkit" in line for line in why.evidence)


def test_whoever_holds_the_last_port_is_named_with_pid_and_command(
    make_server: MakeServer,
) -> None:
    server = make_server(max_agents=1)
    port = server.base_port
    with thief(port) as pid:
        why = failed(server, zip_package("stdlib_agent", name="reef"))

    assert f"of the 1 ports in {port}-{port}" in why.cause
    (line,) = why.evidence
    assert line.startswith(f"port {port} is held by pid {pid} ")
    assert "socket.create_server" in line


def test_whoever_has_the_port_that_an_agent_insists_on_is_named(make_server: MakeServer) -> None:
    server = make_server(isolation={"use": "none"})  # else nothing but its own can be bound
    taken = server.base_port + 5
    main = f"import asyncio\nasyncio.run(asyncio.start_server(print, '127.0.0.1', {taken}))\n"
    with thief(taken) as pid:
        why = failed(server, Case(main, "", "").zip())

    assert f"wants port {taken}, which is in use by pid {pid} " in why.cause
    assert "socket.create_server" in why.cause
    assert "PORT variable" in why.hint


def test_the_port_that_an_agent_listens_on_instead_is_named(server: RunningServer) -> None:
    package = zip_package("binds_other_port", name="reef", replace=SERVING_START)

    why = failed(server, package)

    said = re.search(r"listens on (\d+) instead of (\d+): use the PORT variable", why.cause)
    assert said is not None, why.cause
    assert f"listening on {said[1]}" in why.evidence
    assert said[1] != said[2]
    assert "bind the port in the PORT variable" in why.hint


def test_an_agent_that_is_ended_for_its_health_is_not_said_to_be_killed_by_others(
    server: RunningServer,
) -> None:
    mood = "os.path.join(os.environ['ATOLL_AGENT_DATA_DIR'], 'broken')"
    answer = f"(500 if os.path.exists({mood}) else 200, {{}})"
    main = f"import os, serving\nserving.serve(lambda path: {answer})\n"
    health = "start_seconds = 5\ninterval_seconds = 0.2\nfailures = 2"
    replace = {
        "start_seconds = 20": health,
        "[health]": "[deployment]\nmax_restarts = 0\n\n[health]",
    }
    server.client.deploy(Case(main, "", "", replace=replace).zip("moody"))
    (server.state.agent_data("moody") / "broken").touch()

    wait_until(lambda: server.client.agent("moody").status == "failed")

    why = server.client.why("moody")
    assert "moody is unhealthy: HTTP 500" in why.cause
    assert "its own code failed at /health" in why.hint
    deaths = [
        each.message for each in server.client.events(agent="moody") if each.kind == "process.died"
    ]
    assert deaths == [
        "moody died: ended by this server: it fails its health check: HTTP 500 at /health"
    ]
    server.client.remove("moody")


def test_a_silent_death_is_not_explained_by_what_an_earlier_run_wrote(
    server: RunningServer,
) -> None:
    main = """
import os, sys, threading, time
import serving

def watch():
    data = os.environ["ATOLL_AGENT_DATA_DIR"]
    while not os.path.exists(os.path.join(data, "die")):
        time.sleep(0.02)
    os.remove(os.path.join(data, "die"))
    first = os.path.join(data, "has_died")
    if not os.path.exists(first):
        open(first, "w").close()
        sys.stderr.write('  File "x.py", line 1\\n    x\\n')
        sys.stderr.write("KeyError: 'x'\\n")
    os._exit(3)

threading.Thread(target=watch, daemon=True).start()
serving.serve(serving.healthy)
"""
    replace = {"[health]": "[deployment]\nmax_restarts = 1\nrestart_delay = 0\n\n[health]"}
    server.client.deploy(Case(main, "", "", replace=replace).zip("silent"))
    die = server.state.agent_data("silent") / "die"
    die.touch()
    wait_until(
        lambda: (
            "KeyError" in server.client.agent("silent").last_error
            or server.client.agent("silent").restarts
        )
    )
    wait_until(lambda: server.client.agent("silent").status == "running")
    die.touch()

    wait_until(lambda: server.client.agent("silent").status == "crash_looping")

    messages = [e.message for e in server.client.events(agent="silent") if e.kind == "process.died"]
    assert messages == [
        "silent died: KeyError: 'x'",
        "silent died: exited with code 3 and printed nothing",
    ]
    server.client.remove("silent")


@pytest.mark.parametrize("is_in_tmp", [True, False], ids=["hidden", "refused"])
def test_a_file_that_isolation_refuses_is_named_with_the_level(
    server: RunningServer,
    tmp_path: Path,
    is_in_tmp: bool,  # noqa: FBT001 - parametrized
) -> None:
    level = server.request("GET", "/v1/server").json()["isolation"]["level"]
    if level in {"none", "uid"}:
        pytest.skip(f"level {level} refuses nothing of this kind")
    with contextlib.ExitStack() as undo:
        folder = tmp_path
        if not is_in_tmp:
            folder = Path("/srv") / tmp_path.name
            folder.mkdir()
            undo.callback(shutil.rmtree, folder)
        model = folder / "model.bin"
        model.write_text("weights")
        why = failed(server, Case(f"open({str(model)!r})\n", "", "").zip())

    assert f"isolation level {level} keeps it from '{model}'" in why.cause
    assert "isolation.readable" in why.hint
    assert "raised in main.py:1" in why.hint


def test_a_file_that_is_not_there_is_not_blamed_on_isolation(server: RunningServer) -> None:
    why = failed(server, Case("open('/srv/no/such/file')\n", "", "").zip())

    assert "FileNotFoundError: [Errno 2] No such file or directory" in why.cause
    assert "isolation" not in why.cause + why.hint


def test_a_log_directory_that_is_gone_is_named(make_server: MakeServer) -> None:
    server = make_server()
    server.client.deploy(zip_package("stdlib_agent", name="reef"))
    server.client.stop("reef")
    shutil.rmtree(server.state.logs)

    with pytest.raises(StartError):
        server.client.start("reef")

    why = server.client.why("reef")
    assert f"the log directory {server.state.logs} is gone" in why.cause
    assert f"mkdir -m 700 {server.state.logs}" in why.hint


def test_an_agent_that_fills_the_disk_is_told_what_is_left_of_it(
    small_disk: Path, installer_cache: Path
) -> None:
    main = (
        "import os\npath = os.path.join(os.environ['ATOLL_AGENT_DATA_DIR'], 'x')\n"
        "try:\n    with open(path, 'wb', buffering=0) as file:\n"
        "        while file.write(bytes(2**20)):\n            pass\n"
        "finally:\n    os.remove(path)\n"  # or the server could not write down why it failed
    )
    limits = {"free_bytes": "4MB"}
    with running_server(small_disk / "s", cache_dir=installer_cache, limits=limits) as server:
        why = failed(server, Case(main, "", "").zip())

    assert "disk full: OSError: [Errno 28] No space left on device" in why.cause
    assert f"the disk of {server.state.root} has " in why.hint


def test_a_start_on_a_full_disk_says_so(small_disk: Path, installer_cache: Path) -> None:
    limits = {"free_bytes": "4MB"}
    with running_server(small_disk / "s", cache_dir=installer_cache, limits=limits) as server:
        server.client.deploy(zip_package("stdlib_agent", name="reef"))
        server.client.stop("reef")
        filler = small_disk / "filler"
        fill_up(filler)

        with pytest.raises(NoSpaceError, match="the disk is full"):
            server.client.start("reef")

        filler.unlink()
        server.client.start("reef")
        assert server.client.agent("reef").status == "running"


def test_a_deployment_that_a_full_disk_holds_up_says_so(
    small_disk: Path, installer_cache: Path
) -> None:
    main = (
        "import os, time\npath = os.path.join(os.environ['ATOLL_AGENT_DATA_DIR'], 'x')\n"
        "with open(path, 'wb', buffering=0) as file:\n"
        "    try:\n        while file.write(bytes(2**20)):\n            pass\n"
        "    except OSError:\n        time.sleep(60)\n"
    )
    limits = {"free_bytes": "4MB"}
    with running_server(small_disk / "s", cache_dir=installer_cache, limits=limits) as server:
        server.client.upload(Case(main, "", "").zip("filler"))
        md5 = hashlib.md5(Case(main, "", "").zip("filler"), usedforsecurity=False).hexdigest()
        server.request("POST", "/v1/deployments", json={"package": md5}, params={"wait": 0})

        wait_until(lambda: "cannot go on" in server.client.why("filler").cause, seconds=15)

        why = server.client.why("filler")
        assert re.search(r"deployment \S+ cannot go on: the disk of \S+ has .* left", why.cause)
        assert "free space there" in why.hint
        assert why.deployment
