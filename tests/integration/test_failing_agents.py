"""Packages in which nothing is wrong, whose agents do not come up: the cause in words, no trace."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from deployer.client.nouns import Agent
from tests.package_zips import zip_package
from tests.refusals import deploy_bystander, problem_of, send, unharmed
from tests.servers import RunningServer

QUIET_START = {"start_seconds = 20": "start_seconds = 3"}
SERVING_START = {"start_seconds = 20": "start_seconds = 5"}
"""Enough on a busy machine for a first line, and for a port: without it another cause holds."""


@dataclass(frozen=True)
class Case:
    """A package whose agent fails.

    Attributes:
        package: Its folder.
        cause: What the cause must say; PORT stands for the agent's port.
        step: The step that must fail.
        code: The problem's code.
        evidence: What the last lines of the log must hold.
        replace: Changes to the folder's files.
        main: Another main.py.
        extra: More files.
    """

    package: str
    cause: str
    step: str = "health_check"
    code: str = "agent-not-healthy"
    evidence: str = ""
    replace: dict[str, str] = field(default_factory=dict)
    main: str = ""
    extra: dict[str, str] = field(default_factory=dict)

    def zip(self, name: str) -> bytes:
        extra = {"broken.txt": "other bytes", **self.extra}
        if self.main:
            extra["main.py"] = self.main
        return zip_package(self.package, name=name, replace=self.replace, extra_files=extra)


HEALTHY = '{"status": "healthy"}'
NO_PYTHON = {"[health]": '[dependencies]\npython = ">=3.99"\n\n[health]'}

CASES = {
    "exits at once": Case(
        "exits_at_once",
        "exited with code 3: cannot read colours.ini: no such file",
        evidence="cannot read colours.ini: no such file",
    ),
    "ends well at once": Case(
        "exits_at_once", "exit code 0 before it served", replace={'"3"': '"0"'}
    ),
    "misses a module": Case(
        "missing_module",
        "missing module 'seaweed_that_nobody_installed'",
        evidence="import seaweed_that_nobody_installed",
    ),
    "raises": Case(
        "stdlib_agent",
        "ValueError: the tide is 3 m too low",
        main="raise ValueError('the tide is 3 m too low')",
        evidence="Traceback",
    ),
    "cannot be parsed": Case("stdlib_agent", "SyntaxError", main="def tide(:\n"),
    "crashes": Case(
        "stdlib_agent",
        "killed by SIGSEGV",
        main="import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)",
    ),
    "never binds": Case(
        "never_binds",
        "does not listen on port PORT",
        replace=QUIET_START,
        evidence="waiting for the tide",
    ),
    "binds another port": Case("binds_other_port", "instead of PORT", replace=QUIET_START),
    "answers 500": Case("answers_500", "fails its health check: HTTP 500", replace=SERVING_START),
    "does not answer": Case(
        "stdlib_agent",
        "does not answer its health check: timed out after 0.2 s",
        main="import serving, time\nserving.serve(lambda path: time.sleep(60))",
        replace={"start_seconds = 20": "start_seconds = 5\ntimeout_seconds = 0.2"},
    ),
    "forks and dies": Case(
        "forks_and_dies",
        "exited with code 1: leaving a child behind",
        replace={'"0"': '"0.2"', "start_seconds = 20": "path = '/never'\nstart_seconds = 20"}
        | {'path = "/health"\n': "", "return 200": "return 503"},
    ),
    "asks for no such Python": Case(
        "stdlib_agent", ">=3.99", step="validate", code="no-interpreter", replace=NO_PYTHON
    ),
    "asks for no such dependency": Case(
        "stdlib_agent",
        "atoll-no-such-distribution",
        step="install",
        code="unresolvable",
        extra={"requirements.txt": "atoll-no-such-distribution==1.0\n"},
    ),
    "asks for what does not fit together": Case(
        "stdlib_agent",
        "conflict",
        step="install",
        code="unresolvable",
        extra={"requirements.txt": "waitress==3.0.2\nwaitress<3\n"},
    ),
}


@pytest.fixture(scope="module")
def server(shared_server: RunningServer) -> Iterator[RunningServer]:
    """The shared server, with an agent that must not notice anything."""
    deploy_bystander(shared_server)
    yield shared_server
    for agent in shared_server.client.agents():
        shared_server.client.remove(agent.name)


def deploy(server: RunningServer, data: bytes, **options: str) -> dict[str, Any]:
    """Deploy what must fail, in one held request."""
    return problem_of(send(server, data, "/v1/deployments", wait=60, **options))


def port_of(problem: dict[str, Any]) -> str:
    """Read the port that was tried out of the step that started the agent."""
    for step in problem["deployment"]["steps"]:
        if step["name"] == "start" and step["message"].startswith("port "):
            return str(step["message"]).split()[1].rstrip(",")
    return "no port"


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_first_deployment_that_fails_says_why_and_leaves_nothing(
    server: RunningServer, case: Case
) -> None:
    with unharmed(server):
        problem = deploy(server, case.zip("reef"))
    assert (problem["status"], problem["code"]) == (422, case.code)
    assert case.cause.replace("PORT", port_of(problem)) in problem["cause"]
    assert problem["cause"] in problem["detail"]
    assert any(case.evidence in line for line in problem.get("evidence", [""]))
    deployment = problem["deployment"]
    assert deployment["status"] == "failed"
    assert deployment["failure"]["cause"] == problem["cause"]
    assert (deployment["steps"][-1]["name"], deployment["steps"][-1]["outcome"]) == (
        case.step,
        "failed",
    )
    assert server.request("GET", "/v1/agents/reef").status_code == 404


@pytest.fixture
def lagoon(server: RunningServer) -> Agent:
    """A running agent for which new versions come."""
    if "lagoon" not in {agent.name for agent in server.client.agents()}:
        server.client.deploy(zip_package("stdlib_agent", name="lagoon"))
    return server.client.agent("lagoon")


def files_of(server: RunningServer) -> set[Path]:
    """List what is there of agents, releases, programs and their logs."""
    patterns = ("agents/*/*", "agents/*/releases/*", "conf.d/*", "policies/*", "logs/*", "tmp/*")
    return {path for pattern in patterns for path in server.state.root.glob(pattern)}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_new_version_that_fails_never_touches_the_old_one(
    server: RunningServer, lagoon: Agent, case: Case
) -> None:
    files = files_of(server)
    problem = deploy(server, case.zip("lagoon"))
    after = server.client.agent("lagoon")
    assert problem["deployment"]["status"] == "rolled_back"
    assert case.cause.replace("PORT", port_of(problem)) in problem["cause"]
    assert (after.pid, after.release, after.port) == (lagoon.pid, lagoon.release, lagoon.port)
    assert (after.status, after.checksum, after.last_error) == ("running", lagoon.checksum, "")
    assert requests.get(f"{after.url}/info", timeout=20).json()["pid"] == lagoon.pid
    assert files_of(server) == files


@pytest.mark.parametrize(
    "case", ["exits at once", "never binds", "binds another port", "answers 500"]
)
def test_a_new_version_that_fails_after_the_old_one_was_stopped_brings_it_back(
    server: RunningServer, lagoon: Agent, case: str
) -> None:
    files = files_of(server)
    problem = deploy(server, CASES[case].zip("lagoon"), strategy="replace")
    after = server.client.agent("lagoon")
    assert problem["deployment"]["status"] == "rolled_back"
    assert (after.status, after.release, after.port) == ("running", lagoon.release, lagoon.port)
    assert (after.checksum, after.last_error) == (lagoon.checksum, "")
    assert requests.get(f"{after.url}/info", timeout=20).json()["pid"] == after.pid
    assert files_of(server) == files
    began = time.monotonic()
    server.client.restart("lagoon")  # as long as it takes itself, on a machine as busy as just now
    own_seconds = time.monotonic() - began
    assert seconds_until_it_was_back(problem["deployment"]) < 20 * max(own_seconds, 0.5)


def seconds_until_it_was_back(deployment: dict[str, Any]) -> float:
    """Tell how long after the step that failed the release before served again."""
    failed, ended = deployment["steps"][-1]["ended_at"], deployment["ended_at"]
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(failed)).total_seconds()


def test_a_release_that_writes_for_ever_is_not_waited_for_for_ever(server: RunningServer) -> None:
    data = zip_package(
        "never_binds",
        name="reef",
        replace={
            "import signal": "import time",
            "signal.pause()": "while not time.sleep(0.02):\n    print('no water yet', flush=True)",
            "start_seconds = 20": "start_seconds = 1",
        },
    )
    with unharmed(server):
        problem = deploy(server, data)
    assert "does not listen on port" in problem["cause"]
    last = problem["deployment"]["steps"][-1]
    assert last["name"] == "health_check"
    assert last["duration_seconds"] < 4 + 20  # four times what it asked for, on a busy machine


def test_an_agent_that_wants_a_taken_port_of_its_own_is_told_to_use_the_given_one(
    server: RunningServer,
) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        main = (
            "import asyncio\n"
            f"asyncio.run(asyncio.start_server(lambda r, w: None, '127.0.0.1', {taken}))"
        )
        with unharmed(server):
            problem = deploy(
                server, zip_package("stdlib_agent", name="reef", extra_files={"main.py": main})
            )
    own = port_of(problem)
    in_use = f"wants port {taken}, which is in use, instead of {own}"
    forbidden = f"may not bind port {taken} instead of {own}: use the PORT variable"
    level = server.request("GET", "/v1/server").json()["isolation"]["level"]
    assert (in_use if level in {"uid", "none"} else forbidden) in problem["cause"]


def test_a_failed_deployment_is_still_shown_afterwards(server: RunningServer) -> None:
    problem = deploy(server, CASES["exits at once"].zip("reef"))
    shown = server.client.deployment(problem["deployment"]["id"])
    assert shown.failure is not None
    assert (shown.status, shown.failure.cause) == ("failed", problem["cause"])


def test_what_fails_is_no_obstacle_to_what_comes_next(server: RunningServer) -> None:
    deploy(server, CASES["exits at once"].zip("reef"))
    server.client.deploy(zip_package("stdlib_agent", name="reef"))
    assert server.client.agent("reef").status == "running"
    server.client.remove("reef")


def test_a_stopped_agent_is_installed_unproven_and_put_back_if_its_start_fails(
    server: RunningServer,
) -> None:
    server.client.deploy(zip_package("stdlib_agent", name="atollan"))
    old = server.client.agent("atollan")
    server.client.stop("atollan")
    broken = CASES["exits at once"].zip("atollan")
    assert send(server, broken, "/deploy", force=0).status_code == 200
    assert server.client.agent("atollan").checksum != old.checksum
    problem = problem_of(server.request("POST", "/start", json={"agent_name": "atollan"}))
    assert "colours.ini" in problem["cause"]
    put_back = server.client.agent("atollan")
    assert (put_back.checksum, put_back.release) == (old.checksum, old.release)
