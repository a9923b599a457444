"""SIGKILL of supervisord in the middle of something: the next start finds and leaves all whole.

The agents die with it at once, the API within half a second, which it may use to do harm, or at
once as well. Of the places that are reached, some are tried: the first, the last, and some between.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.fault_scenarios import (
    AGENT,
    BYSTANDER,
    SCENARIOS,
    Scenario,
    act_until_a_kill,
    check_world,
    nothing,
    server_with_faults,
    trace_of,
)
from tests.servers import RunningServer, wait_gone

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

POINTS = 5


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, installer_cache: Path
) -> Iterator[RunningServer]:
    with server_with_faults(tmp_path_factory.mktemp("g"), installer_cache) as it:
        yield it


def sample(places: list[str], points: int) -> list[int]:
    """Choose numbers of places, from 1 on."""
    last = len(places) - 1
    return sorted({1 + round(each * last / (points - 1)) for each in range(points)})


def act_and_kill(server: RunningServer, scenario: Scenario, number: int, victim: str) -> bool:
    """Carry a scenario out until the victim is killed, and serve again; tell whether it was."""
    assert server.process is not None
    api = psutil.Process(server.api_pid())
    actor = act_until_a_kill(server, scenario, f"{number} {victim}")
    if actor is None:
        return False
    server.process.wait(30)
    psutil.wait_procs([api], timeout=10)
    assert wait_gone(server.state.root) == []
    server.start()
    actor.join(60)
    assert not actor.is_alive()
    return True


@pytest.mark.parametrize(
    ("name", "victim"),
    [
        ("first deployment", "supervisord"),
        ("replace", "supervisord"),
        ("replace", "everything"),
        ("rehearse", "supervisord"),
    ],
)
def test_the_world_is_whole_wherever_supervisord_is_killed(
    server: RunningServer, name: str, victim: str
) -> None:
    scenario = SCENARIOS[name]
    places = trace_of(server, scenario)
    killed = 0
    for number in sample(places, POINTS):
        where = f"{name} killed at {number} of {len(places)} ({places[number - 1]})"
        scenario.prepare(server)
        ports = {agent.name: agent.port for agent in server.client.agents()}
        if not act_and_kill(server, scenario, number, victim):
            continue
        killed += 1
        check_world(server, where)
        latest = server.client.deployments(agent=AGENT)[0]
        agents = server.client.agents()
        found = [each for each in agents if each.name == AGENT]
        assert server.client.agent(BYSTANDER).status == "running", where
        if latest.status == "succeeded":  # killed after the point of no return
            assert [each.release for each in agents if each.name == AGENT] == [latest.release], (
                where
            )
            continue
        assert latest.status == "abandoned", f"{where}: {latest}"
        assert "during" in (latest.failure.detail if latest.failure else ""), where
        assert [(each.name, each.port) for each in agents] == list(ports.items()), where
        assert {each.version for each in found} <= {"1.0.0"}, where
    assert killed > POINTS - 2


@pytest.mark.parametrize(
    ("name", "victim"),
    [
        ("rollback", "supervisord"),
        ("start", "supervisord"),
        ("stop", "everything"),
        ("remove", "everything"),
    ],
)
def test_an_act_is_done_or_undone_wherever_supervisord_is_killed(
    server: RunningServer, name: str, victim: str
) -> None:
    scenario = SCENARIOS[name]
    nothing(server)
    places = trace_of(server, scenario)
    killed = 0
    for number in sample(places, 3):
        where = f"{name} killed at {number} of {len(places)} ({places[number - 1]})"
        scenario.prepare(server)
        killed += act_and_kill(server, scenario, number, victim)
        check_world(server, where)
        assert server.client.agent(BYSTANDER).status == "running", where
    assert killed > 1
