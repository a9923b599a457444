"""What a refusal must be, and what it must leave alone: checks that many tests share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import requests

from deployer.leftovers import find_leftovers
from deployer.model import agent_of_program
from deployer.supervisord import connect
from deployer.supervisord_confs import read_credentials
from tests.package_zips import zip_package
from tests.servers import RunningServer, wait_until

BYSTANDER: Final = "bystander"
_REAP_SECONDS: Final = (
    20.0  # what just ended may not have been reaped, bytecode may be compiled still
)


def problem_of(response: requests.Response) -> dict[str, Any]:
    """Give the problem document of a refusal, after checking that it is a good one."""
    assert 400 <= response.status_code < 500, (response.status_code, response.text)
    assert response.headers["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == response.status_code
    assert document["request_id"] == response.headers["X-Request-Id"]
    assert document["code"]
    assert document["detail"]
    return document


def send(
    server: RunningServer, data: bytes, route: str = "/v1/packages", **query: object
) -> requests.Response:
    """Send bytes as a package; to ATOLL's routes as its client does, as a form."""
    if route.endswith("/deploy"):
        form = {"file": ("package.zip", data, "application/zip")}
        return server.request("POST", route, files=form, params=query)
    headers = {"Content-Type": "application/zip"}
    return server.request("POST", route, data=data, headers=headers, params=query)


def deploy_bystander(server: RunningServer) -> None:
    """Deploy an agent that has nothing to do with what is tested."""
    server.client.deploy(zip_package("stdlib_agent", name=BYSTANDER))


@dataclass(frozen=True, slots=True)
class Traces:
    """What a server holds, on disk, in its rows and in supervisord.

    Attributes:
        paths: Agents' directories, releases, policies, program configs, logs and temporary files,
            relative to the state directory.
        leases: Which program holds which port.
        programs: What supervisord knows of agents, with the pid of each.
        processes: Every process of the server's, in or out of supervisord.
    """

    paths: frozenset[str]
    leases: frozenset[tuple[int, str]]
    programs: frozenset[tuple[str, int | None]]
    processes: frozenset[int]


def traces_of(server: RunningServer) -> Traces:
    """Look what a server holds now; its API's own process does not count."""
    state = server.state
    patterns = ("agents/*", "agents/*/releases/*", "policies/*", "conf.d/**/*", "tmp/*", "logs/*")
    paths = {path for pattern in patterns for path in state.root.glob(pattern)}
    credentials = read_credentials(state)
    supervisord = connect(
        f"unix://{state.supervisor_socket}", credentials.username, credentials.password
    )
    known = supervisord.states()
    return Traces(
        paths=frozenset(str(path.relative_to(state.root)) for path in paths),
        leases=frozenset((each.port, each.program) for each in server.client.ports().leases),
        programs=frozenset((name, it.pid) for name, it in known.items() if agent_of_program(name)),
        processes=frozenset(each.pid for each in find_leftovers(state.root)),
    )


@contextlib.contextmanager
def unharmed(server: RunningServer) -> Iterator[None]:
    """Check that a block leaves no trace, and every process that ran before as it was."""
    before = traces_of(server)
    yield
    wait_until(lambda: _is_unharmed(before, traces_of(server)), seconds=_REAP_SECONDS)


def _is_unharmed(before: Traces, after: Traces) -> bool:
    """Tell whether nothing came and no agent went; work of the server's own may have ended."""
    is_new = after.paths - before.paths or after.processes - before.processes
    gone = {path for path in before.paths - after.paths if not path.startswith("tmp/")}
    kept = (before.leases, before.programs) == (after.leases, after.programs)
    return kept and not is_new and not gone


def packages_of(server: RunningServer) -> set[str]:
    """Name the files of all packages that a server keeps."""
    return {path.name for path in server.state.packages.iterdir()}
