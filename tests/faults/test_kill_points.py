"""SIGKILL of the API after every write and every outside act: the world is as it was, or done.

Each scenario is carried out once to count the places that it reaches, then once for each of them
with the API killed just there. supervisord brings the API back, and the world must be whole.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.fault_scenarios import (
    AGENT,
    NEW,
    SCENARIOS,
    Scenario,
    act_till_the_end,
    check_world,
    fault_file,
    nothing,
    old_runs,
    server_with_faults,
    trace_of,
)
from tests.servers import RunningServer, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, installer_cache: Path
) -> Iterator[RunningServer]:
    with server_with_faults(tmp_path_factory.mktemp("f"), installer_cache) as it:
        yield it


def act_and_die(server: RunningServer, scenario: Scenario, number: int) -> None:
    """Carry a scenario out until the API is killed at a place."""
    api = psutil.Process(server.api_pid())
    fault_file(server).write_text(str(number))
    actor = threading.Thread(target=act_till_the_end, args=(server, scenario))
    actor.start()
    wait_until(lambda: not fault_file(server).exists() or not actor.is_alive(), 60)
    if fault_file(server).exists():  # what it does depends on timing: this time it did less
        fault_file(server).unlink()
        return
    api.wait(20)
    server.start_api()
    actor.join(60)
    assert not actor.is_alive()
    wait_until(server.is_ready, 30, server.describe())


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_world_is_whole_wherever_the_api_is_killed(server: RunningServer, name: str) -> None:
    scenario = SCENARIOS[name]
    places = trace_of(server, scenario)
    assert places
    for number, place in enumerate(places, start=1):
        scenario.prepare(server)
        act_and_die(server, scenario, number)
        check_world(server, f"{name} killed at {number} ({place})")


@pytest.mark.parametrize("strategy", ["rehearse", "parallel"])
def test_the_old_process_serves_on_while_the_new_one_is_not_proven(
    server: RunningServer, strategy: str
) -> None:
    scenario = Scenario(old_runs, lambda it: it.client.deploy(NEW, strategy=strategy))
    places = trace_of(server, scenario)
    nothing(server)
    first_stop = places.index("agents.stop") + 1
    abandoned = 0
    for number in range(1, first_stop, 7):
        old_runs(server)
        before = server.client.agent(AGENT)
        act_and_die(server, scenario, number)
        after = server.client.agent(AGENT)
        check_world(server, f"{strategy} killed at {number} ({places[number - 1]})")
        if server.client.deployments(agent=AGENT)[0].status == "abandoned":
            assert (after.pid, after.version) == (before.pid, "1.0.0"), places[number - 1]
            abandoned += 1
    assert abandoned > 3
