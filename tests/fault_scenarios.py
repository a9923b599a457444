"""Things that change state, interrupted by tests at the places that `deployer.faults` names."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import requests

from deployer.client import Deployment
from deployer.environments.shared import SEAL
from deployer.errors import AgentUnknownError, DeployerError
from deployer.faults import VARIABLE
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server, wait_until
from tests.wheels import make_index, make_wheel

AGENT = "stdlib_agent"
BYSTANDER = "bystander"
"""An agent whom nothing concerns that is done to the other one."""

OLD = zip_package(AGENT, version="1.0.0")
NEW = zip_package(AGENT, version="2.0.0")
NEEDY = zip_package(AGENT, version="1.0.0", extra_files={"requirements.txt": "alpha\n"})
"""It needs an environment that the bystander does not share."""

BROKEN = zip_package("exits_at_once", name=AGENT, version="9.0.0")


@contextlib.contextmanager
def server_with_faults(root: Path, cache_dir: Path) -> Iterator[RunningServer]:
    """Run a server that can be told to die, with a bystander."""
    os.environ[VARIABLE] = str(root / "fault")
    try:
        index = f"file://{make_index(root / 'index', [])}/simple"
        links = [str(make_wheel(root / "wheels", "alpha").parent)]
        with running_server(
            root / "state", cache_dir=cache_dir, index_url=index, find_links=links
        ) as it:
            it.client.deploy(zip_package(AGENT, name=BYSTANDER))
            yield it
    finally:
        del os.environ[VARIABLE]


@dataclass(frozen=True)
class Standing:
    """What there is of the agent, as users see it.

    Attributes:
        release: The number of the current one.
        version: As its manifest says.
        status: Running or stopped.
    """

    release: int | None
    version: str
    status: str


@dataclass(frozen=True)
class Scenario:
    """Something that changes state.

    Attributes:
        prepare: Brings the server to where the act begins; it may be there already.
        act: What is interrupted.
        version: What is current when it was done, if that is another than before.
        status: How the agent is then; empty: it is gone.
        certain_from: The place from which on an act that is no deployment is done in any case. The
            first one may belong to what a deployment before it ends with.
        is_else_so: What holds besides, by the place where it was interrupted.
    """

    prepare: Callable[[RunningServer], None]
    act: Callable[[RunningServer], object]
    version: str = ""
    status: str = "running"
    certain_from: int = 2
    is_else_so: Callable[[RunningServer, int], bool] = lambda _server, _number: True


def is_running(server: RunningServer, version: str) -> bool:
    try:
        agent = server.client.agent(AGENT)
    except DeployerError:
        return False
    return agent.status == "running" and agent.version == version


def nothing(server: RunningServer) -> None:
    with contextlib.suppress(DeployerError):
        server.client.remove(AGENT)


def no_environments(server: RunningServer) -> None:
    """Have no agent but the bystander, and no environment but its own."""
    nothing(server)
    own = server.state.venv(BYSTANDER, 1).readlink()
    for environment in server.state.environments.iterdir():
        if environment != own:
            wait_until(partial(_deleted, environment), what="gone")


def _deleted(environment: Path) -> bool:
    """Delete an environment, into which bytecode may be compiled still."""
    shutil.rmtree(environment, ignore_errors=True)
    return not environment.exists()


def old_runs(server: RunningServer) -> None:
    if not is_running(server, "1.0.0"):
        server.client.deploy(OLD)


def two_releases(server: RunningServer) -> None:
    if is_running(server, "2.0.0") and len(server.client.releases(AGENT)) > 1:
        return
    nothing(server)
    server.client.deploy(OLD)
    server.client.deploy(NEW)


def three_releases(server: RunningServer) -> None:
    """Have releases 1 to 3, so that the first is neither current nor the one to go back to."""
    nothing(server)
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        server.client.deploy(zip_package(AGENT, version=version))


def old_is_stopped(server: RunningServer) -> None:
    old_runs(server)
    server.client.stop(AGENT)


def fail(server: RunningServer, strategy: str) -> None:
    with pytest.raises(DeployerError):
        server.client.deploy(BROKEN, strategy=strategy)


def has_first(server: RunningServer) -> bool:
    return 1 in {release.number for release in server.client.releases(AGENT)}


def old_runs_with_data(server: RunningServer) -> None:
    old_runs(server)
    data_file(server).write_text("dear")


def data_file(server: RunningServer) -> Path:
    """Something that the agent keeps."""
    return server.state.agent_data(AGENT) / "dear"


def data_kept(server: RunningServer, agent: str) -> Path:
    """Say what marks data that outlives its agent."""
    return server.state.agent(agent) / "data-kept"


def deploy_new(strategy: str) -> Scenario:
    return Scenario(
        old_runs, lambda server: server.client.deploy(NEW, strategy=strategy), version="2.0.0"
    )


SCENARIOS = {
    "first deployment": Scenario(nothing, lambda server: server.client.deploy(OLD), "1.0.0"),
    "first deployment, environment new": Scenario(
        no_environments, lambda server: server.client.deploy(NEEDY), "1.0.0"
    ),
    "rehearse": deploy_new("rehearse"),
    "replace": deploy_new("replace"),
    "parallel": deploy_new("parallel"),
    "rollback": Scenario(two_releases, lambda server: server.client.rollback(AGENT), "1.0.0"),
    "start": Scenario(old_is_stopped, lambda server: server.client.start(AGENT)),
    "stop": Scenario(old_runs, lambda server: server.client.stop(AGENT), status="stopped"),
    "restart": Scenario(old_runs, lambda server: server.client.restart(AGENT)),
    "first deployment that fails": Scenario(nothing, lambda server: fail(server, "rehearse")),
    "replace that fails": Scenario(old_runs, lambda server: fail(server, "replace")),
    "delete a release": Scenario(
        three_releases,
        lambda server: server.client.delete_release(AGENT, 1),
        is_else_so=lambda server, number: number == 1 or not has_first(server),
    ),
    "remove": Scenario(old_runs, lambda server: server.client.remove(AGENT), status=""),
    "remove, data kept": Scenario(
        old_runs_with_data,
        lambda server: server.client.remove(AGENT, keep_data=True),
        status="",
        certain_from=3,  # it begins with saying what is to be kept
        is_else_so=lambda server, _number: data_file(server).read_text() == "dear",
    ),
}


def fault_file(server: RunningServer) -> Path:
    return server.state.root.parent / "fault"


def trace_of(server: RunningServer, scenario: Scenario) -> list[str]:
    """Carry a scenario out undisturbed, and list the places it reaches."""
    scenario.prepare(server)
    trace = fault_file(server).with_name("fault.trace")
    trace.unlink(missing_ok=True)
    fault_file(server).write_text("0")
    scenario.act(server)
    fault_file(server).unlink()
    places = trace.read_text().splitlines()
    trace.unlink()
    return places


def act_till_the_end(server: RunningServer, scenario: Scenario) -> None:
    """Carry a scenario out, whatever becomes of it."""
    with contextlib.suppress(DeployerError, requests.RequestException):
        scenario.act(server)


def act_until_a_kill(
    server: RunningServer, scenario: Scenario, fault: str
) -> threading.Thread | None:
    """Begin to carry a scenario out and wait until something is killed in it.

    Args:
        server: Whose API or supervisord.
        scenario: What is carried out.
        fault: The number of the place, and who is killed there if not the API.

    Returns:
        The thread that goes on with it; None: it was over without coming to that place, for what a
        scenario does depends on timing.
    """
    fault_file(server).write_text(fault)
    actor = threading.Thread(target=act_till_the_end, args=(server, scenario))
    actor.start()
    wait_until(lambda: not fault_file(server).exists() or not actor.is_alive(), 60)
    if fault_file(server).exists():
        fault_file(server).unlink()
        return None
    return actor


def check_world(server: RunningServer, where: str) -> None:
    """Whatever was interrupted: what is said is what is there, and nothing else is there."""
    client, state = server.client, server.state

    def is_settled() -> bool:
        over = all(
            each.status not in {"queued", "running"} for each in client.deployments(limit=20)
        )
        agents = client.agents()
        return over and all(
            each.status == ("running" if each.document["desired"] == "running" else each.status)
            and each.status in {"running", "stopped", "installed"}
            for each in agents
        )

    wait_until(is_settled, 30, f"settled after {where}: {client.agents()}")
    agents = client.agents()
    names = {agent.name for agent in agents}
    left = {path.name for path in state.agents.iterdir()} - names
    assert left <= {AGENT}, where
    for name in left:  # what was to outlive its agent, and that alone
        kept = {data_kept(server, name), state.agent_data(name)}
        assert set(state.agent(name).iterdir()) == kept, where
    assert not any(data_kept(server, name).exists() for name in names), where
    assert all(state.agent(name).is_dir() for name in names), where
    programs = {path.stem for path in state.conf_d.glob("*.conf")}
    assert {path.name for path in state.policies.iterdir()} == programs, where
    assert list(state.tmp.iterdir()) == [], where
    environments = set(state.environments.iterdir())
    assert all((path / SEAL).exists() for path in environments), where
    links = {link.readlink() for link in state.agents.glob("*/releases/*/venv")}
    assert links <= environments, where
    for agent in agents:
        numbers = {str(release.number) for release in client.releases(agent.name)}
        assert {path.name for path in (state.agent(agent.name) / "releases").iterdir()} == numbers
        assert all(
            program.rpartition("--")[2] == str(agent.release)
            for program in programs
            if program.startswith(f"{agent.name}--")
        ), f"{where}: {programs}"
    leases = {lease.agent: lease.port for lease in client.ports().leases}
    assert leases == {a.name: a.port for a in agents if a.status == "running"}, where
    for agent in agents:
        if agent.status == "running":
            info = requests.get(f"{agent.url}/info", timeout=10).json()
            assert info["pid"] == agent.pid, where


def latest_deployment(server: RunningServer) -> Deployment | None:
    return next(iter(server.client.deployments(agent=AGENT, limit=1)), None)


def standing(server: RunningServer) -> Standing | None:
    """Tell what there is of the agent; None: nothing."""
    try:
        agent = server.client.agent(AGENT)
    except AgentUnknownError:
        return None
    return Standing(agent.release, agent.version, agent.status)


def check_outcome(
    server: RunningServer,
    scenario: Scenario,
    number: int,
    before: tuple[Standing | None, Deployment | None],
    where: str,
) -> None:
    """Whatever was interrupted: the agent is as it was, or as it was to be; nothing in between.

    Args:
        server: One whose world is whole again.
        scenario: What was interrupted.
        number: Of the place where it was.
        before: What there was of the agent until then, and its latest deployment.
        where: What to call the place.
    """
    was, deployment = before
    latest = latest_deployment(server)
    release, version = (was.release, was.version) if was is not None else (None, "")
    is_deployment = latest is not None and latest != deployment
    if is_deployment:
        release = latest.release
    done = Standing(release, scenario.version or version, scenario.status)
    expected = [done if scenario.status else None]
    if is_deployment and latest.status != "succeeded":
        expected = [was]
    elif not is_deployment and number < scenario.certain_from:
        expected.append(was)
    assert standing(server) in expected, where
    assert scenario.is_else_so(server, number), where
