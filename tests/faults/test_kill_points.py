"""SIGKILL of the API after every write and every outside act: the world is as it was, or done.

Each scenario is carried out once to count the places that it reaches, then once for each of them
with the API killed just there. supervisord brings the API back, and the world must be whole:
nothing is left over, a deployment that was undone says during which step that was, and an agent
whom it did not concern is the very process that it was.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deployer.client import Deployment
from deployer.errors import DeployerError
from tests.fault_scenarios import (
    AGENT,
    BYSTANDER,
    NEW,
    SCENARIOS,
    Scenario,
    act_till_the_end,
    act_until_a_kill,
    check_outcome,
    check_world,
    fault_file,
    latest_deployment,
    nothing,
    old_runs,
    server_with_faults,
    standing,
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
    actor = act_until_a_kill(server, scenario, str(number))
    if actor is None:
        return
    api.wait(20)
    server.start_api()
    actor.join(60)
    assert not actor.is_alive()
    wait_until(server.is_ready, 30, server.describe())


def check_what_is_said(server: RunningServer, before: Deployment | None, where: str) -> None:
    """A deployment that was undone is called abandoned, and names the step that it was in."""
    deployment = latest_deployment(server)
    if deployment is None or deployment.status != "abandoned" or deployment == before:
        return
    step = deployment.steps[-1].name if deployment.steps else "its first step"
    assert deployment.failure is not None, where
    assert deployment.failure.cause == f"the server ended during {step}", where


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_world_is_whole_wherever_the_api_is_killed(server: RunningServer, name: str) -> None:
    scenario = SCENARIOS[name]
    places = trace_of(server, scenario)
    assert places
    bystander = server.client.agent(BYSTANDER).pid
    for number, place in enumerate(places, start=1):
        where = f"{name} killed at {number} ({place})"
        scenario.prepare(server)
        was, before = standing(server), latest_deployment(server)
        act_and_die(server, scenario, number)
        check_world(server, where)
        check_what_is_said(server, before, where)
        check_outcome(server, scenario, number, (was, before), where)
        assert server.client.agent(BYSTANDER).pid == bystander, where


def act_and_die_twice(server: RunningServer, scenario: Scenario, first: int, then: int) -> int:
    """Have the API killed at a place, and its successor where it sets right what that left.

    Args:
        server: Whose API.
        scenario: What the API is killed in.
        first: Number of the place there.
        then: Number of the place that its successor is killed at; 0: it is not.

    Returns:
        How many places the successor reached.
    """
    api = psutil.Process(server.api_pid())
    trace = fault_file(server).with_name("fault.trace")
    trace.unlink(missing_ok=True)
    fault_file(server).write_text(f"{first}\n{then} recovery")
    actor = threading.Thread(target=act_till_the_end, args=(server, scenario))
    actor.start()
    wait_until(lambda: not api.is_running() or not actor.is_alive(), 60)
    wait_until(lambda: comes_up(server), 60, server.describe())
    actor.join(60)
    assert not actor.is_alive()
    fault_file(server).unlink(missing_ok=True)
    return len(trace.read_text().splitlines()) - first


def comes_up(server: RunningServer) -> bool:
    """Have the API started if it is down, and tell whether it is ready."""
    with contextlib.suppress(DeployerError):
        server.start_api()
    return server.is_ready()


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("first deployment", "agents.start"),
        ("replace", "agents.start"),
        ("rollback", "agents.start"),
        ("remove", "agents.remove"),
    ],
)
def test_the_world_is_whole_though_the_next_api_is_killed_as_well(
    server: RunningServer, name: str, last: str
) -> None:
    scenario = SCENARIOS[name]
    nothing(server)
    places = trace_of(server, scenario)
    first = len(places) - places[::-1].index(last)
    bystander = server.client.agent(BYSTANDER).pid
    scenario.prepare(server)
    count = act_and_die_twice(server, scenario, first, 0)
    check_world(server, f"{name} killed at {first} ({last})")
    reached = set()
    for then in sorted({1 + round(at * (count - 1) / 3) for at in range(4)}):
        where = f"{name} killed at {first} ({last}), and at {then} of {count} after that"
        scenario.prepare(server)
        reached.add(act_and_die_twice(server, scenario, first, then))
        check_world(server, where)
        assert server.client.agent(BYSTANDER).pid == bystander, where
    assert len(reached) > 2


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
