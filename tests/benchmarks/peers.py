"""Other process managers at the same job: pm2, circus and supervisord as it comes.

Each is installed into a temporary directory, where a registry is reachable, and given the same
Python, the same main.py and its own defaults. scrapyd is left out: it starts no job again.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
import uv

from tests.benchmarks import bare_agents, fleets, memory
from tests.benchmarks.figures import Figure, median
from tests.benchmarks.options import Options
from tests.free_ports import free_ports
from tests.servers import wait_until

_PROCESSES = 20
_KILLS = 3
_LISTS = 5
_LONGEST_SECONDS = 120
_INSTALL_SECONDS = 240
_QUIET_SECONDS = 3
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Result:
    """What a manager did with so many processes.

    Attributes:
        start: Seconds from its command to the last main.
        kill: Seconds from a SIGKILL to the main of the successor; None: it starts none.
        listing: Seconds of its command that lists them all; None: it has none.
        memory: Bytes that its own processes share with nobody, divided by the managed ones.
    """

    start: float
    kill: float | None
    listing: float | None
    memory: float


@dataclass(frozen=True, slots=True)
class Job:
    """The processes to manage: the same code, each with a place to say when its main began."""

    root: Path
    code: Path
    first_port: int

    @classmethod
    def make(cls, root: Path) -> Job:
        """Prepare code and places."""
        code = bare_agents.copy_code(root / "code")
        main = (code / "main.py").read_text()
        (code / "main.py").write_text(main.replace("import os\nimport sys", fleets.BEGAN))
        return cls(root, code, free_ports(_PROCESSES))

    @property
    def names(self) -> list[str]:
        """Name the processes."""
        return [f"agent-{number}" for number in range(_PROCESSES)]

    def variables(self, number: int) -> dict[str, str]:
        """Give the variables of one."""
        data = self.root / "data" / f"agent-{number}"
        data.mkdir(parents=True, exist_ok=True)
        port = self.first_port + number
        return {"PORT": str(port), "HOST": "127.0.0.1", "ATOLL_AGENT_DATA_DIR": str(data)}

    def file(self, number: int) -> Path:
        """Name the file in which one says when its main began."""
        return self.root / "data" / f"agent-{number}" / "began"

    def clear(self) -> None:
        """Forget what began."""
        for number in range(_PROCESSES):
            self.file(number).unlink(missing_ok=True)


def measure(root: Path, options: Options) -> Iterator[Figure]:
    """Measure ours, and then each peer that can be had, as the floor of the same figures."""
    del options
    job = Job.make(root)
    ours = _ours(root)
    peers: dict[str, Callable[[Path, Job], Result]] = {
        "supervisord": _supervisord,
        "circus": _circus,
        "pm2": _pm2,
    }
    for name, run in peers.items():
        directory = root / name
        directory.mkdir()
        job.clear()
        try:
            theirs = run(directory, job)
        except (subprocess.SubprocessError, OSError, AssertionError) as error:
            sys.stderr.write(f"  {name} is skipped: {type(error).__name__} {str(error)[:200]}\n")
            continue
        yield from _compare(name, ours, theirs)


def _compare(name: str, ours: Result, theirs: Result) -> Iterator[Figure]:
    note = f"floor: {name}"
    yield Figure(f"{name}: start of {_PROCESSES}", "s", ours.start, theirs.start, note=note)
    if theirs.kill is not None and ours.kill is not None:
        yield Figure(
            f"{name}: kill -9 to the new main()",
            "ms",
            1000 * ours.kill,
            1000 * theirs.kill,
            note=note,
        )
    if theirs.listing is not None and ours.listing is not None:
        yield Figure(
            f"{name}: list of {_PROCESSES}, by command",
            "s",
            ours.listing,
            theirs.listing,
            note=note,
        )
    yield Figure(
        f"{name}: memory per managed process",
        "KiB",
        ours.memory / _KIB,
        theirs.memory / _KIB,
        note=f"{note}; with its own processes, divided by {_PROCESSES}",
    )


def _ours(root: Path) -> Result:
    with fleets.running_fleet(root / "s", _PROCESSES, began_file=True) as server:
        files = [
            server.state.agent_data(f"agent-{number}") / "began" for number in range(_PROCESSES)
        ]
        server.stop()
        for file in files:
            file.unlink()
        began = time.monotonic()
        server.launch()
        start = _last_main(files) - began
        fleets.wait_until_running(server, _PROCESSES)
        kill = median([_kill(file) for file in files[:_KILLS]])
        program = Path(sys.executable).with_name("atoll-deployer")
        variables = {**os.environ, "ATOLL_DEPLOYER_TOKEN": server.token}
        listing = _listing([str(program), "list", "--server", server.url], variables)
        pids = memory.pids(server).values()
        return Result(start, kill, listing, _per_process(pids))


def _supervisord(directory: Path, job: Job) -> Result:
    conf = directory / "supervisord.conf"
    text = (
        f"[supervisord]\nnodaemon=true\nlogfile={directory}/log\npidfile={directory}/pid\n"
        f"[unix_http_server]\nfile={directory}/socket\n"
        f"[supervisorctl]\nserverurl=unix://{directory}/socket\n"
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
    )
    for number, name in enumerate(job.names):
        pairs = ",".join(f'{key}="{value}"' for key, value in job.variables(number).items())
        text += (
            f"[program:{name}]\ncommand={sys.executable} main.py\ndirectory={job.code}\n"
            f"environment={pairs}\n"
        )
    conf.write_text(text)
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(conf)]
    listing = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(conf), "status"]
    return _manage(command, listing, job, dict(os.environ))


def _circus(directory: Path, job: Job) -> Result:
    venv = _install(directory, "circus")
    conf = directory / "circus.ini"
    text = (
        f"[circus]\nendpoint = ipc://{directory}/endpoint\n"
        f"pubsub_endpoint = ipc://{directory}/pubsub\n"
    )
    for number, name in enumerate(job.names):
        text += (
            f"[watcher:{name}]\ncmd = {sys.executable} main.py\nworking_dir = {job.code}\n"
            f"copy_env = True\n[env:{name}]\n"
        )
        text += "".join(f"{key} = {value}\n" for key, value in job.variables(number).items())
    conf.write_text(text)
    command = [str(venv / "bin" / "circusd"), str(conf)]
    ctl = str(venv / "bin" / "circusctl")
    listing = [ctl, "--endpoint", f"ipc://{directory}/endpoint", "status"]
    return _manage(command, listing, job, dict(os.environ))


def _pm2(directory: Path, job: Job) -> Result:
    install = ["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(directory)]
    subprocess.run(
        [*install, "pm2"], check=True, timeout=_INSTALL_SECONDS, stdout=subprocess.DEVNULL
    )
    pm2 = str(directory / "node_modules" / ".bin" / "pm2")
    apps = directory / "apps.json"
    document = [
        {
            "name": name,
            "script": "main.py",
            "interpreter": sys.executable,
            "cwd": str(job.code),
            "env": job.variables(number),
        }
        for number, name in enumerate(job.names)
    ]
    apps.write_text(json.dumps({"apps": document}))
    variables = {**os.environ, "PM2_HOME": str(directory / "home")}
    with ExitStack() as stack:
        stack.callback(_quietly, [pm2, "kill"], variables)
        began = time.monotonic()
        _quietly([pm2, "start", str(apps)], variables)
        files = [job.file(number) for number in range(_PROCESSES)]
        start = _last_main(files) - began
        daemon = int((directory / "home" / "pm2.pid").read_text())
        return _result(start, [daemon], [pm2, "jlist"], files, variables)


def _manage(
    command: Sequence[str], listing: Sequence[str], job: Job, variables: dict[str, str]
) -> Result:
    """Run a manager in the foreground, and end it with all that it started."""
    files = [job.file(number) for number in range(_PROCESSES)]
    began = time.monotonic()
    process = subprocess.Popen(
        command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        start = _last_main(files) - began
        return _result(start, [process.pid], listing, files, variables)
    finally:
        left = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait(60)
        for child in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def _result(
    start: float,
    pids: Sequence[int],
    listing: Sequence[str],
    files: Sequence[Path],
    variables: dict[str, str],
) -> Result:
    time.sleep(_QUIET_SECONDS)  # what dies within its first second counts as a failed start
    kill = median([_kill(file) for file in files[:_KILLS]])
    return Result(start, kill, _listing(listing, variables), _per_process(pids))


def _last_main(files: Sequence[Path]) -> float:
    """Wait until every process has said when its main began, and give the last of these."""
    wait_until(lambda: all(file.exists() for file in files), _LONGEST_SECONDS, "all began")
    return max(float(file.read_text().split()[1]) for file in files)


def _kill(file: Path) -> float:
    """Kill the process that wrote a file; give the seconds until its successor's main began."""
    pid = int(file.read_text().split()[0])
    killed_at = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: int(file.read_text().split()[0]) != pid, _LONGEST_SECONDS, "began anew")
    return float(file.read_text().split()[1]) - killed_at


def _listing(command: Sequence[str], variables: dict[str, str]) -> float:
    seconds = []
    for _ in range(_LISTS):
        began = time.perf_counter()
        _quietly(command, variables)
        seconds.append(time.perf_counter() - began)
    return median(seconds)


def _per_process(pids: Iterator[int] | Sequence[int]) -> float:
    return sum(psutil.Process(pid).memory_full_info().uss for pid in pids) / _PROCESSES


def _install(directory: Path, *names: str) -> Path:
    """Install from the package index into an environment of its own."""
    venv = directory / "venv"
    for words in (["venv", "--python", sys.executable], ["pip", "install", "--python"]):
        command = [uv.find_uv_bin(), *words, str(venv)]
        command += list(names) if "install" in words else []
        subprocess.run(command, check=True, timeout=_INSTALL_SECONDS, capture_output=True)
    return venv


def _quietly(command: Sequence[str], variables: dict[str, str]) -> None:
    subprocess.run(
        command,
        env=variables,
        check=True,
        timeout=_LONGEST_SECONDS,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
