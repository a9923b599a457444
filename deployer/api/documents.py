"""What the API answers: the shapes, as pydantic models, and how nouns are written in them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from deployer import model, plans
from deployer.model import DeploymentStatus, Desired, Outcome, ReleaseStatus, Strategy
from deployer.statuses import AgentStatus, AgentView

Md5 = Annotated[str, Field(pattern="^[0-9a-f]{32}$", examples=["9e107d9d372bb6826bd81d3542a419d6"])]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Document(BaseModel):
    """A JSON object of the API."""

    model_config = ConfigDict(frozen=True)


class ProblemItem(Document):
    """One of several things wrong with an input."""

    where: str
    message: str


class Problem(Document):
    """Why a request could not be met (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    cause: str | None = None
    hint: str | None = None
    errors: list[ProblemItem] | None = None
    evidence: list[str] | None = None
    deployment: dict[str, Any] | None = None
    request_id: str


class Package(Document):
    """An uploaded package that passed every rule."""

    md5: Md5
    sha256: Sha256
    size_bytes: int
    agent: str
    version: str
    received_at: datetime


class Step(Document):
    """A named part of a deployment."""

    name: str
    outcome: Outcome
    started_at: datetime
    ended_at: datetime | None
    duration_seconds: float | None
    message: str


class Failure(Document):
    """Why a deployment failed."""

    code: str
    detail: str
    cause: str
    hint: str
    evidence: list[str]


class Connection(Document):
    """Where an agent is reached."""

    name: str
    status: AgentStatus
    host: str
    port: int | None
    url: str | None
    pid: int | None
    release: int | None
    version: str
    checksum: str


class Deployment(Document):
    """One attempt to put a release live."""

    id: str
    agent: str
    package: Md5
    sha256: Sha256
    release: int | None
    is_rollback: bool
    strategy: Strategy
    start: bool
    force: bool
    status: DeploymentStatus
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    duration_seconds: float | None
    steps: list[Step]
    failure: Failure | None
    connection: Connection | None
    agent_url: str


class Health(Document):
    """What an agent answered when it was asked last."""

    healthy: bool
    degraded: bool
    detail: str
    seconds: float
    checked_at: datetime
    bad_answers: int


class Agent(Document):
    """An agent, as it is now."""

    name: str
    status: AgentStatus
    desired: Desired
    release: int | None
    previous_release: int | None
    version: str
    checksum: str
    host: str
    port: int | None
    url: str | None
    pid: int | None
    program: str | None
    started_at: datetime | None
    restarts: int
    next_try_at: datetime | None
    health: Health | None
    last_error: str


class Release(Document):
    """A numbered release of an agent."""

    number: int
    status: ReleaseStatus
    current: bool
    previous: bool
    version: str
    checksum: Md5
    sha256: Sha256
    python: str
    created_at: datetime
    rollback_ready: Literal[True] | str


class PlannedPython(Document):
    """The interpreter that a deployment would choose."""

    version: str
    path: str
    changed: bool


class ChangedDependency(Document):
    """A dependency that would have another version."""

    name: str
    before: str
    after: str


class PlannedDependencies(Document):
    """How the dependencies would differ from those of the current release."""

    lock_reused: bool
    added: list[str]
    removed: list[str]
    changed: list[ChangedDependency]
    unchanged: int
    cached: bool | None


class PlannedDisk(Document):
    """What a deployment would take of the disk, and what that has."""

    code_bytes: int
    environment_bytes: int | None
    free_bytes: int


class PlannedPort(Document):
    """The port that a deployment would ask for."""

    number: int
    kept: bool


class Plan(Document):
    """What deploying a package would do; no steps when it is live already."""

    agent: str
    package: Md5
    version: str
    release: int | None
    strategy: Strategy
    python: PlannedPython
    dependencies: PlannedDependencies
    disk: PlannedDisk
    port: PlannedPort
    restarts: bool
    steps: list[str]


class Lease(Document):
    """A port that an agent holds."""

    port: int
    agent: str
    program: str
    leased_at: datetime


class ForeignPort(Document):
    """A port of the agents' range that somebody else listens on."""

    port: int
    holder: str


class Ports(Document):
    """The agents' range, what is leased of it, and what others hold."""

    first: int
    last: int
    free: int
    leases: list[Lease]
    foreign: list[ForeignPort]


class Event(Document):
    """One line of the timeline."""

    id: int
    at: datetime
    agent: str
    kind: str
    message: str


class LogStream(StrEnum):
    """Which of an agent's logs."""

    STDOUT = "stdout"
    STDERR = "stderr"
    INSTALL = "install"


class Logs(Document):
    """The last lines of one of an agent's logs."""

    agent: str
    stream: LogStream
    lines: list[str]


class Why(Document):
    """Why an agent is not as it should be; an empty cause when it is."""

    agent: str
    status: AgentStatus
    cause: str
    hint: str
    evidence: list[str]


class Check(Document):
    """One of the things that must be so for the server to take work."""

    name: str
    ok: bool
    detail: str


class Readiness(Document):
    """Whether the server takes work, and what keeps it from doing so."""

    status: Literal["ready", "not ready"]
    checks: list[Check]


class Liveness(Document):
    """That the server answers."""

    status: Literal["alive"]


class Server(Document):
    """What this server is and how much it holds."""

    version: str
    started_at: datetime
    state_dir: str
    host: str
    api_port: int
    auth: str
    installer: str
    agents: int
    max_agents: int
    first_port: int
    last_port: int
    supervisord: str
    isolation: str


class AgentList(Document):
    """Agents by name."""

    agents: list[Agent]
    count: int
    next: str | None


class DeploymentList(Document):
    """Deployments, the newest first."""

    deployments: list[Deployment]
    count: int
    next: str | None


class ReleaseList(Document):
    """Releases of one agent, the newest first."""

    releases: list[Release]
    count: int
    next: str | None


class EventList(Document):
    """The timeline, the oldest first."""

    events: list[Event]
    count: int
    next: str | None


def package(noun: model.Package) -> Package:
    """Write a package."""
    return Package(
        md5=noun.md5,
        sha256=noun.sha256,
        size_bytes=noun.size_bytes,
        agent=noun.agent,
        version=noun.version,
        received_at=noun.received_at,
    )


def connection(view: AgentView, host: str) -> Connection:
    """Write where an agent is reached, on the host by which the client knows this machine."""
    is_up = view.is_alive and view.port is not None
    return Connection(
        name=view.agent.name,
        status=view.status,
        host=host,
        port=view.port if is_up else None,
        url=address(host, view.port) if is_up else None,
        pid=view.process.pid if view.process is not None else None,
        release=view.agent.current,
        version=view.release.version if view.release is not None else "",
        checksum=view.release.md5 if view.release is not None else "",
    )


def agent(view: AgentView, host: str) -> Agent:
    """Write an agent."""
    where = connection(view, host)
    process, reading = view.process, view.reading
    return Agent(
        name=where.name,
        status=where.status,
        desired=view.agent.desired,
        release=where.release,
        previous_release=view.agent.previous,
        version=where.version,
        checksum=where.checksum,
        host=where.host,
        port=where.port,
        url=where.url,
        pid=where.pid,
        program=None if view.release is None else view.release.program,
        started_at=process.started_at if process is not None and view.is_alive else None,
        restarts=0 if process is None else process.restarts,
        next_try_at=view.next_try_at,
        health=None
        if reading is None
        else Health(
            healthy=reading.answer.healthy,
            degraded=reading.answer.degraded,
            detail=reading.answer.detail,
            seconds=round(reading.answer.seconds, 6),
            checked_at=reading.checked_at,
            bad_answers=reading.bad_answers,
        ),
        last_error=view.agent.last_error,
    )


def deployment(noun: model.Deployment, view: AgentView | None, host: str) -> Deployment:
    """Write a deployment.

    Args:
        noun: What is written.
        view: The agent, if it is there; its connection info is shown once the deployment is over.
        host: By which the client knows this machine.
    """
    is_live = noun.status is DeploymentStatus.SUCCEEDED and view is not None
    return Deployment(
        id=noun.id,
        agent=noun.agent,
        package=noun.md5,
        sha256=noun.sha256,
        release=noun.release,
        is_rollback=noun.is_rollback,
        strategy=noun.strategy,
        start=noun.start,
        force=noun.force,
        status=noun.status,
        created_at=noun.created_at,
        started_at=noun.started_at,
        ended_at=noun.ended_at,
        duration_seconds=_seconds(noun.started_at, noun.ended_at),
        steps=[
            Step(
                name=each.name,
                outcome=each.outcome,
                started_at=each.started_at,
                ended_at=each.ended_at,
                duration_seconds=_seconds(each.started_at, each.ended_at),
                message=each.message,
            )
            for each in noun.steps
        ],
        failure=None
        if noun.failure is None
        else Failure(
            code=noun.failure.code,
            detail=noun.failure.detail,
            cause=noun.failure.cause,
            hint=noun.failure.hint,
            evidence=list(noun.failure.evidence),
        ),
        connection=connection(view, host) if is_live and view is not None else None,
        agent_url=f"/v1/agents/{noun.agent}",
    )


def release(noun: model.Release, owner: model.Agent, breach: str) -> Release:
    """Write a release.

    Args:
        noun: What is written.
        owner: Its agent.
        breach: Why it cannot be gone back to; empty when it can.
    """
    return Release(
        number=noun.number,
        status=noun.status,
        current=noun.number == owner.current,
        previous=noun.number == owner.previous,
        version=noun.version,
        checksum=noun.md5,
        sha256=noun.sha256,
        python=noun.python,
        created_at=noun.created_at,
        rollback_ready=breach or True,
    )


def plan(noun: plans.Plan) -> Plan:
    """Write what a deployment would do."""
    dependencies = noun.dependencies
    return Plan(
        agent=noun.package.agent,
        package=noun.package.md5,
        version=noun.package.version,
        release=None if noun.current is None else noun.current.number,
        strategy=noun.strategy,
        python=PlannedPython(
            version=noun.python.version, path=str(noun.python.path), changed=noun.python_changed
        ),
        dependencies=PlannedDependencies(
            lock_reused=dependencies.lock_reused,
            added=list(dependencies.added),
            removed=list(dependencies.removed),
            changed=[
                ChangedDependency(name=each.name, before=each.before, after=each.after)
                for each in dependencies.changed
            ],
            unchanged=dependencies.unchanged,
            cached=dependencies.cached,
        ),
        disk=PlannedDisk(
            code_bytes=noun.code_bytes,
            environment_bytes=noun.environment_bytes,
            free_bytes=noun.free_bytes,
        ),
        port=PlannedPort(number=noun.port, kept=noun.port_kept),
        restarts=noun.restarts,
        steps=list(noun.steps),
    )


def lease(noun: model.PortLease) -> Lease:
    """Write a port lease."""
    return Lease(port=noun.port, agent=noun.agent, program=noun.program, leased_at=noun.leased_at)


def event(noun: model.Event) -> Event:
    """Write a line of the timeline."""
    return Event(id=noun.id, at=noun.at, agent=noun.agent, kind=noun.kind, message=noun.message)


def address(host: str, port: int | None) -> str:
    """Write the address of an agent; IPv6 hosts stand in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _seconds(begin: datetime | None, end: datetime | None) -> float | None:
    if begin is None or end is None:
        return None
    return round((end - begin).total_seconds(), 3)
