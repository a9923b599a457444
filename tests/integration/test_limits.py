"""Real hogs under real limits: by control groups, by what stands in for them, and by nothing."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from deployer.client.nouns import Agent, AgentUsage
from deployer.processes import is_running
from deployer.state_dir import MARKER
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server, wait_until

FALLBACKS = {"rlimits": ["rlimits"], "watchdog": []}
LOOKS = 12.0
"""Seconds for the watchdog's two looks, the stop and the words about it, on a busy machine."""


def hog(name: str = "hog", resources: str = "", deployment: str = "", **files: str) -> bytes:
    """Zip the hog under a limit of 64 MB, with more lines in its manifest."""
    return zip_package(
        "hog",
        name=name,
        replace={
            'memory_limit = "64MB"': f'memory_limit = "64MB"\n{resources}',
            "max_restarts = 0": f"max_restarts = 0\n{deployment}",
        },
        extra_files=files,
    )


def ask(server: RunningServer, path: str, name: str = "hog") -> dict[str, object]:
    """Have an agent take something; it may be ended before it has answered."""
    agent = server.client.agent(name)
    with contextlib.suppress(requests.RequestException):
        answer: dict[str, object] = requests.get(f"{agent.url}{path}", timeout=10).json()
        return answer
    return {}


def dead(server: RunningServer, name: str = "hog") -> Agent:
    """Wait until an agent has died and its cause is told."""
    wait_until(lambda: server.client.agent(name).last_error, LOOKS)
    return server.client.agent(name)


def told(server: RunningServer, kind: str = "agent.over_limit") -> list[str]:
    """Give what the timeline says of the hog that is there now, and of none before it."""
    messages: list[str] = []
    for event in server.client.events(agent="hog"):
        if event.kind == "agent.removed":
            messages.clear()
        elif event.kind == kind:
            messages.append(event.message)
    return messages


@pytest.fixture(scope="module")
def kernel_server(
    tmp_path_factory: pytest.TempPathFactory, installer_cache: Path
) -> Iterator[RunningServer]:
    root = tmp_path_factory.mktemp("l") / "state"
    with running_server(root, cache_dir=installer_cache) as server:
        yield server


@pytest.fixture
def hard(kernel_server: RunningServer) -> Iterator[RunningServer]:
    """A server whose kernel holds agents to their limits."""
    mechanisms = kernel_server.request("GET", "/v1/server").json()["limits"]
    if not mechanisms["memory"]["hard"]:
        pytest.skip("no control groups are to be had here")
    yield from clean(kernel_server)


@pytest.fixture(scope="module", params=list(FALLBACKS))
def fallback_server(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    installer_cache: Path,
) -> Iterator[RunningServer]:
    root = tmp_path_factory.mktemp("l") / "state"
    limits = {"mechanisms": FALLBACKS[request.param]}
    with running_server(root, cache_dir=installer_cache, limits=limits) as server:
        yield server


@pytest.fixture
def soft(fallback_server: RunningServer) -> Iterator[RunningServer]:
    """A server where the watchdog is all there is, with resource limits and without."""
    yield from clean(fallback_server)


def clean(server: RunningServer) -> Iterator[RunningServer]:
    yield server
    for agent in server.client.agents():
        server.client.remove(agent.name)


# By control groups --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/memory/120", "/shared/120"])
def test_a_process_over_its_memory_limit_is_killed_and_the_cause_says_so(
    hard: RunningServer, path: str
) -> None:
    hard.client.deploy(hog())
    ask(hard, path)
    assert "killed: memory limit 64MB" in dead(hard).last_error
    why = hard.client.why("hog")
    assert "killed: memory limit 64MB" in why.cause
    assert "raise [resources] memory_limit" in why.hint
    assert told(hard, "process.died") == ["hog died: killed: memory limit 64MB"]


def test_children_count_towards_the_memory_limit(hard: RunningServer) -> None:
    hard.client.deploy(hog())
    ask(hard, "/children/3/30")
    wait_until(lambda: told(hard) or hard.client.agent("hog").last_error, LOOKS)
    words = [*told(hard), hard.client.agent("hog").last_error]
    assert any("killed: memory limit 64MB" in word for word in words)


def test_a_child_without_parent_and_session_counts_too(hard: RunningServer) -> None:
    hard.client.deploy(hog())
    ask(hard, "/escaped/120")
    wait_until(lambda: told(hard), LOOKS)
    assert told(hard) == ["hog: 1 of its processes were killed: memory limit 64MB"]
    assert hard.client.agent("hog").pid is not None


def test_a_deployment_that_dies_of_its_limit_says_so(hard: RunningServer) -> None:
    main = "b = []\nwhile True:\n    b.append(b'x' * 1_000_000)\n"
    answer = hard.request(
        "POST",
        "/v1/deployments?wait=60",
        data=hog(**{"main.py": main}),
        headers={"Content-Type": "application/zip"},
    )
    assert answer.json()["cause"] == "killed: memory limit 64MB"


def test_three_spinning_children_share_half_a_cpu(hard: RunningServer) -> None:
    hard.client.deploy(hog(resources="cpu_limit = 0.5"))
    ask(hard, "/spin/3")
    assert 0.2 < cpus_over(hard, 3.0) < 0.65


def test_a_fork_bomb_stops_at_its_limit_and_its_agent_lives(hard: RunningServer) -> None:
    hard.client.deploy(hog(resources="pids_limit = 20"))
    answer = ask(hard, "/fork/60")
    assert "Resource temporarily unavailable" in str(answer["error"])
    wait_until(lambda: told(hard), LOOKS)
    assert told(hard) == ["hog: it has reached its limit of 20 processes and threads"]
    assert usage_of(hard).pids <= 20


def test_what_escaped_ends_with_its_agent_and_so_do_its_groups(hard: RunningServer) -> None:
    hard.client.deploy(hog())
    ask(hard, "/escaped/5")
    wait_until(lambda: usage_of(hard).processes == 2)
    groups = groups_of(hard)
    pids = {int(pid) for group in groups for pid in (group / "cgroup.procs").read_text().split()}
    hard.client.stop("hog")
    wait_until(lambda: not any(is_running(pid) for pid in pids), LOOKS)
    wait_until(lambda: not any(group.exists() for group in groups), LOOKS)


def test_a_death_while_the_api_was_away_is_still_explained(hard: RunningServer) -> None:
    hard.client.deploy(hog())
    url = hard.client.agent("hog").url
    os.kill(hard.api_pid(), 9)
    with contextlib.suppress(requests.RequestException):
        requests.get(f"{url}/memory/120", timeout=10)
    wait_until(hard.is_ready)
    assert "killed: memory limit 64MB" in dead(hard).last_error


def test_a_server_that_ends_leaves_no_groups_behind(tmp_path: Path, installer_cache: Path) -> None:
    with running_server(tmp_path / "state", cache_dir=installer_cache) as server:
        roots = [Path(line) for line in server.state.group_roots.read_text().splitlines()]
        if not roots:
            pytest.skip("no control groups are to be had here")
        server.client.deploy(hog())
        assert groups_of(server)
    assert not any(root.exists() for root in roots)


def test_groups_that_a_killed_server_left_are_removed_by_the_next(
    tmp_path: Path, installer_cache: Path
) -> None:
    with running_server(tmp_path / "state", cache_dir=installer_cache) as server:
        server.client.deploy(hog())
        groups = groups_of(server)
        if not groups:
            pytest.skip("no control groups are to be had here")
        assert server.process is not None
        server.process.kill()
        server.process.wait(30)
        server.start()
        wait_until(lambda: not any(group.exists() for group in groups))


# Without them -------------------------------------------------------------------------------------


def test_a_process_over_its_limit_for_two_looks_is_ended(soft: RunningServer) -> None:
    soft.client.deploy(hog())
    ask(soft, "/memory/120")
    assert "killed: memory limit 64MB" in dead(soft).last_error
    assert [message.startswith("hog: it uses 1") for message in told(soft)] == [True]


def test_children_and_those_that_escaped_are_ended_with_it(soft: RunningServer) -> None:
    soft.client.deploy(hog())
    ask(soft, "/children/1/40")
    ask(soft, "/escaped/41")
    wait_until(lambda: usage_of(soft).processes == 3)
    members = pids_below(soft)
    assert "killed: memory limit 64MB" in dead(soft).last_error
    wait_until(lambda: not any(is_running(pid) for pid in members), LOOKS)


def test_pages_that_children_share_with_their_parent_count_once(soft: RunningServer) -> None:
    main = (Path(__file__).parents[1] / "packages/hog/main.py").read_text()
    main = main.replace("CHILDREN = []", "CHILDREN = []\nBLOCK = bytearray(b'x') * 30 * MB")
    soft.client.deploy(hog(**{"main.py": main}))
    ask(soft, "/fork/4")
    wait_until(lambda: usage_of(soft).processes == 5)
    assert usage_of(soft).memory_bytes > 150e6
    for _ in range(4):
        look = usage_of(soft).measured_at
        wait_until(lambda look=look: usage_of(soft).measured_at != look)
    assert (soft.client.agent("hog").status, told(soft)) == ("running", [])


def test_a_fork_bomb_is_ended(soft: RunningServer) -> None:
    if counts_by_user(soft):
        pytest.skip("the kernel counts the processes of each agent's user here")
    soft.client.deploy(hog(resources="pids_limit = 20"))
    ask(soft, "/fork/60")
    assert "killed: limit of 20 processes and threads" in dead(soft).last_error


def test_a_fork_bomb_of_a_user_of_its_own_stops_and_its_agent_lives(soft: RunningServer) -> None:
    if not counts_by_user(soft):
        pytest.skip("agents have no users of their own here, or resource limits are left out")
    soft.client.deploy(hog(resources="pids_limit = 20"))
    soft.client.deploy(hog("other", "pids_limit = 20"))
    answer = ask(soft, "/fork/60")
    assert "Resource temporarily unavailable" in str(answer["error"])
    assert usage_of(soft).pids <= 20
    assert ask(soft, "/fork/5", "other") == {"children": 5}
    assert soft.client.agent("hog").pid is not None


def test_an_agent_that_is_ended_comes_back_by_its_policy(soft: RunningServer) -> None:
    soft.client.deploy(
        zip_package("hog", replace={"max_restarts = 0": "max_restarts = 3\nrestart_delay = 0.1"})
    )
    before = soft.client.agent("hog").pid
    ask(soft, "/memory/120")
    wait_until(lambda: soft.client.agent("hog").restarts == 1, LOOKS)
    agent = wait_until(lambda: running(soft), LOOKS)
    assert agent.pid != before


def test_the_server_tells_which_mechanism_holds_what(soft: RunningServer) -> None:
    told_by_server = soft.request("GET", "/v1/server").json()["limits"]
    assert {kind for kind, each in told_by_server.items() if each["hard"]} == (
        {"pids"} if counts_by_user(soft) else set()
    )
    assert told_by_server["pids"]["mechanism"] == ("rlimit" if counts_by_user(soft) else "watchdog")
    assert told_by_server["memory"]["mechanism"] in {"rlimit+watchdog", "watchdog"}


# In any case --------------------------------------------------------------------------------------


def test_a_memory_error_names_the_limit(server: RunningServer) -> None:
    server.client.deploy(hog())
    ask(server, "/raise")
    assert "out of memory in main.py:1: memory limit 64MB" in dead(server).last_error


def test_an_agent_shows_what_it_may_use_and_what_it_does(server: RunningServer) -> None:
    server.client.deploy(hog(resources='cpu_limit = 1.0\npids_limit = 50\ndisk_limit = "1GB"'))
    wait_until(lambda: usage_of(server).cpus is not None)
    agent = server.client.agent("hog")
    assert agent.limits is not None
    limits = agent.limits
    assert [each.limit for each in (limits.memory, limits.cpu, limits.pids, limits.disk)] == [
        64_000_000,
        1.0,
        50,
        1_000_000_000,
    ]
    usage = usage_of(server)
    assert (usage.processes, 5e6 < usage.memory_bytes < 50e6) == (1, True)


def test_the_terminal_shows_what_is_used_of_what_may_be(server: RunningServer) -> None:
    server.client.deploy(hog(resources="pids_limit = 50"))
    usage_of(server)
    command = [sys.executable, "-m", "deployer.cli", "status", "hog"]
    shown = subprocess.run(
        [*command, "--server", server.url, "--token", server.token],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    ).stdout
    assert re.search(r"memory +[0-9.]+[KM]iB of 64MB\n", shown)
    assert re.search(r"processes +[0-9]+ of 50\n", shown)


def test_limits_beyond_the_machine_are_lowered_and_told(server: RunningServer) -> None:
    server.client.deploy(zip_package("hog", replace={'"64MB"': '"512TB"\ncpu_limit = 4000'}))
    agent = server.client.agent("hog")
    assert agent.status == "running"
    assert agent.limits is not None
    assert agent.limits.cpu.limit == len(os.sched_getaffinity(0))
    assert [sentence.split(" is ")[0] for sentence in agent.limits.clamped] == [
        "memory_limit 512TB",
        "cpu_limit 4000",
    ]
    assert len(told(server, "agent.limit_clamped")) == 2


def test_libraries_are_told_how_many_threads_are_of_use(server: RunningServer) -> None:
    server.client.deploy(hog(resources="cpu_limit = 1.5"))
    variables = ask(server, "/variables")
    assert (variables["OMP_NUM_THREADS"], variables["PYTHON_CPU_COUNT"]) == ("2", "2")


def test_an_author_decides_about_threads(server: RunningServer) -> None:
    server.client.deploy(
        zip_package(
            "hog",
            replace={"[deployment]": 'cpu_limit = 1\n[env]\nOMP_NUM_THREADS = "7"\n[deployment]'},
        )
    )
    variables = ask(server, "/variables")
    assert (variables["OMP_NUM_THREADS"], variables["GOMAXPROCS"]) == ("7", "1")


def test_the_kernel_is_told_to_end_agents_before_the_server(server: RunningServer) -> None:
    server.client.deploy(hog())
    pid = server.client.agent("hog").pid
    scores = {int(Path(f"/proc/{each}/oom_score_adj").read_text()) for each in (pid, os.getpid())}
    assert max(scores) == int(Path(f"/proc/{pid}/oom_score_adj").read_text()) >= 500


def counts_by_user(server: RunningServer) -> bool:
    """Tell whether resource limits may hold processes: each agent has a user of its own."""
    level = server.request("GET", "/v1/server").json()["isolation"]["level"]
    mechanisms = server.settings["limits"]["mechanisms"]
    return level in {"full", "uid"} and "rlimits" in mechanisms


def running(server: RunningServer) -> Agent | None:
    agent = server.client.agent("hog")
    return agent if agent.status == "running" else None


def usage_of(server: RunningServer) -> AgentUsage:
    usage: AgentUsage = wait_until(lambda: server.client.agent("hog").usage)
    return usage


def cpus_over(server: RunningServer, seconds: float) -> float:
    """Measure the CPU time of an agent's process tree, by its parents' word and ours."""
    ticks = os.sysconf("SC_CLK_TCK")
    before, began = cpu_ticks(pids_below(server)), time.monotonic()
    time.sleep(seconds)
    return (cpu_ticks(pids_below(server)) - before) / ticks / (time.monotonic() - began)


def cpu_ticks(pids: set[int]) -> int:
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total


def pids_below(server: RunningServer) -> set[int]:
    """Find an agent's processes by the marker that they carry, whatever they did since."""
    found = set()
    marker = f"{MARKER}={server.state.root}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            variables = path.read_bytes().split(b"\0")
            if {b"ATOLL_AGENT_NAME=hog", marker} <= set(variables):
                found.add(int(path.parent.name))
    return found


def groups_of(server: RunningServer) -> list[Path]:
    """List the groups of a server's runs."""
    roots = server.state.group_roots.read_text().splitlines()
    return [group for root in roots for group in Path(root).glob("hog--*")]
