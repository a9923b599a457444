"""An agent that is installed, until it answers: started, started anew, and after it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks import bare_agents, fleets
from tests.benchmarks.figures import Figure, at_most, median
from tests.benchmarks.options import Options
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server, wait_until

_NAME = "starting"
_ADDED_SECONDS = 0.06
_KILLS = 10
_PAUSE_SECONDS = 0.3
_FEW_MS, _MOST_MS = 60, 150


def measure(root: Path, options: Options) -> Iterator[Figure]:
    """Start and restart an agent, in turns with Popen and the first answer."""
    code = bare_agents.copy_code(root / "code")
    with running_server(root / "state") as server:
        server.client.deploy(zip_package("stdlib_agent", name=_NAME))
        python = server.state.venv(_NAME, 1) / "bin" / "python"
        client = server.client
        bare, started, restarted = [], [], []
        for _ in range(2 * options.rounds):
            with bare_agents.started(python, code) as agent:
                bare.append(agent.seconds)
            restarted.append(_seconds(lambda: client.restart(_NAME)))
            client.stop(_NAME)
            started.append(_seconds(lambda: client.start(_NAME)))
    floor = median(bare)
    goal = at_most("<= floor + 60 ms", floor + _ADDED_SECONDS)
    note = "floor: Popen + answer"
    yield Figure("start to healthy", "s", median(started), floor, goal, note)
    yield Figure("restart to healthy", "s", median(restarted), floor, goal, note)


def measure_kills(root: Path, options: Options) -> Iterator[Figure]:
    """Kill agents one after another, each for the first time, and see when their main began."""
    code = bare_agents.copy_code(root / "code")
    main = (code / "main.py").read_text()
    (code / "main.py").write_text(main.replace("import os\nimport sys", fleets.BEGAN))
    sizes = {options.few: _FEW_MS, options.most: _MOST_MS}
    for agents, most in sizes.items():
        state = root / f"s{agents}"
        with fleets.running_fleet(state, agents, began_file=True) as server:
            python = server.state.venv(fleets.ORIGINAL, 1) / "bin" / "python"
            bare, ours = [], []
            for number in range(min(_KILLS, agents)):
                time.sleep(_PAUSE_SECONDS)
                bare.append(_spawn(python, code, root))
                ours.append(_kill(server, f"agent-{number}"))
        yield Figure(
            f"kill -9 to the new main(), {agents} agents",
            "ms",
            1000 * median(ours),
            1000 * median(bare),
            at_most(f"<= {most} ms", most),
            "floor: fork + exec, to main()",
        )


def _seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _spawn(python: Path, code: Path, data: Path) -> float:
    """Give the seconds from Popen to an agent's main."""
    file = data / "began"
    file.unlink(missing_ok=True)
    variables = {"PORT": "0", "ATOLL_AGENT_DATA_DIR": str(data)}
    began = time.monotonic()
    with subprocess.Popen([str(python), "main.py"], cwd=code, env=variables) as process:
        wait_until(file.exists)
        process.kill()
    return _began(file)[1] - began


def _kill(server: RunningServer, name: str) -> float:
    """Give the seconds from SIGKILL to the main of the process that takes its place."""
    file = server.state.agent_data(name) / "began"
    pid, _ = _began(file)
    killed_at = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: _began(file)[0] != pid)
    return _began(file)[1] - killed_at


def _began(file: Path) -> tuple[int, float]:
    """Read which process wrote when its main began; both clocks are the machine's."""
    pid, moment = file.read_text().split()
    return int(pid), float(moment)
