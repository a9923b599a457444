"""A real supervisord on a state directory of its own, for tests; it and all its children end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import psutil

from deployer.launch_policies import LaunchPolicy
from deployer.model import Process, RestartPolicy, State
from deployer.programs import Programs
from deployer.state_dir import StateDir
from deployer.supervisord import Supervisord, connect
from deployer.supervisord_confs import Credentials

SLEEP = "import time; time.sleep(600)"
NAME = "weather--7"
CRASH = "import sys; sys.exit(3)"
IGNORE_TERM = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True);"
    " time.sleep(600)"
)
AT_ONCE = RestartPolicy(delay_seconds=0.1)

_STOCK_CONF = """\
[supervisord]
nodaemon=true
silent=true
nocleanup=true
minfds=256
minprocs=1
logfile={root}/logs/supervisord.log
pidfile={root}/run/supervisord.pid
[unix_http_server]
file={root}/run/supervisor.sock
username=operator
password=secret
[supervisorctl]
serverurl=unix://{root}/run/supervisor.sock
username=operator
password=secret
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[include]
files=programs.d/*.conf
"""


def seconds_until(condition: Callable[[], object], seconds: float = 30.0) -> float:
    """Wait for a condition, and tell how many seconds it took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"not so after {seconds} s")
        time.sleep(0.005)
    return time.monotonic() - began


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


class SupervisordProcess:
    """A supervisord with our plugin, or a stock one with a conf.d that is not ours.

    Attributes:
        state: Its state directory.
        programs: What writes into the conf.d that it reads.
        supervisord: The way to it.
        pid: Its process.
    """

    def __init__(
        self,
        root: Path,
        *,
        has_plugin: bool = True,
        service_command: Sequence[str] = (sys.executable, "-I", "-S", "-c", SLEEP),
        start_seconds: float = 60.0,
    ) -> None:
        """Write its configuration below root, which must be short: a socket lies in there."""
        self._start_seconds = start_seconds
        self.state = StateDir(root.resolve())
        self.has_plugin = has_plugin
        if has_plugin:
            self.programs = Programs(self.state)
            self.credentials = self.programs.write_supervisord_conf(service_command)
        else:
            foreign = self.state.root / "programs.d"
            for directory in (foreign, self.state.logs, self.state.run):
                directory.mkdir(parents=True, exist_ok=True)
            self.programs = Programs(self.state, conf_d=foreign)
            self.credentials = Credentials("operator", "secret")
            self.state.supervisord_conf.write_text(_STOCK_CONF.format(root=self.state.root))

    def __enter__(self) -> Self:
        """Start it and wait until it answers."""
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """End it, and whatever it has started."""
        self.end()

    @property
    def supervisord(self) -> Supervisord:
        """The way to it."""
        return connect(
            f"unix://{self.state.supervisor_socket}",
            self.credentials.username,
            self.credentials.password,
            has_plugin=self.has_plugin,
        )

    def start(self) -> None:
        """Start it and wait until it answers."""
        conf = str(self.state.supervisord_conf)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "-c", conf],
            start_new_session=True,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
            cwd=Path(__file__).parents[1],
        )
        self.pid = self.process.pid
        seconds_until(self._answers, self._start_seconds)

    def end(self) -> None:
        """Ask it to stop, insist, and kill what it leaves behind."""
        if self.process.poll() is None and self.has_plugin:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=15)
        self.process.kill()  # a stock one would stop its programs one after another
        self.process.wait(timeout=20)
        url = f"unix://{self.state.supervisor_socket}"
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("SUPERVISOR_SERVER_URL") == url:
                    process.kill()  # nobody whom it started outlives it

    def ctl(self, *arguments: str) -> str:
        """Run supervisorctl, as an operator would, and give what it prints."""
        conf = str(self.state.supervisord_conf)
        command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", conf, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return done.stdout + done.stderr

    def state_of(self, program: str) -> State | None:
        """Give the state of a program, or None while supervisord does not know it."""
        process = self.supervisord.states().get(program)
        return process.state if process else None

    def wait_for(self, program: str, *states: State, seconds: float = 30.0) -> float:
        """Wait until a program is in one of the states."""
        return seconds_until(lambda: self.state_of(program) in states, seconds)

    def children(self) -> set[int]:
        """Give the pids of its children without asking it: a question would wake it."""
        return {child.pid for child in psutil.Process(self.pid).children()}

    def wait_until_reloaded(self) -> None:
        """Wait until it has gone through SIGHUP and answers again."""
        log = self.state.logs / "supervisord.log"
        seconds_until(lambda: log.read_text().count("supervisord started with pid") == 2)
        seconds_until(self._answers)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def _answers(self) -> bool:
        assert self.process.poll() is None, "supervisord has ended"
        try:
            self.supervisord.ping()
        except Exception:  # noqa: BLE001 - whatever it is, it does not answer yet
            return False
        return True


def script_policy(state: StateDir, program: str, code: str = SLEEP, **fields: Any) -> LaunchPolicy:
    """Make a policy that runs a piece of Python, quick to start."""
    values: dict[str, object] = {
        "program": program,
        "executable": Path(sys.executable),
        "arguments": ("-I", "-S", "-c", code),
        "directory": state.root,
        "port": 8100,
    }
    return LaunchPolicy(**(values | fields))  # type: ignore[arg-type]  # of any field


def put(
    running: SupervisordProcess,
    code: str | None = None,
    program: str = NAME,
    restarts: RestartPolicy = AT_ONCE,
    **fields: Any,
) -> None:
    """Write a program that runs a piece of Python, and apply it."""
    more = {} if code is None else {"code": code}
    running.programs.write(script_policy(running.state, program, **more, **fields), restarts)
    running.supervisord.apply(program, restarts)


def start(running: SupervisordProcess, *arguments: Any, **fields: Any) -> Process:
    """Put a program as `put` does, start it, and give what supervisord says of it then."""
    put(running, *arguments, **fields)
    program = str(fields.get("program", NAME))
    running.supervisord.start(program)
    return running.supervisord.states()[program]


def settle(running: SupervisordProcess, program: str = NAME) -> int:
    """Wait until a program has been up for a second, and give its pid."""
    running.wait_for(program, State.RUNNING)
    pid = running.supervisord.states()[program].pid
    assert pid is not None
    return pid


def kill_and_wait(running: SupervisordProcess, pid: int) -> float:
    """Kill a process and wait until another one is there; give the seconds that it took."""
    others = running.children()
    os.kill(pid, signal.SIGKILL)
    return seconds_until(lambda: running.children() - others)


def is_back_within(running: SupervisordProcess, seconds: float, program: str = NAME) -> bool:
    """Kill a program until it is back as quickly as that, three times at most; tell if it ever was.

    A busy machine may hold it up once; what waits for supervisord's next turn waits each time.
    """
    return any(kill_and_wait(running, settle(running, program)) < seconds for _ in range(3))
