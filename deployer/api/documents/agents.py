"""How an agent is written: what it is, where it is reached, what it says, what ails it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from deployer.api.documents.limits import Limits, Usage, limits, usage
from deployer.api.documents.shapes import Document
from deployer.isolation_levels import IsolationLevel
from deployer.limits.footprints import Footprint
from deployer.model import Desired
from deployer.statuses import AgentStatus, AgentView


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
    usage: Usage | None
    limits: Limits | None
    isolation: IsolationLevel | None
    last_error: str
    secrets_changed: bool


class AgentList(Document):
    """Agents by name."""

    agents: list[Agent]
    count: int
    next: str | None


class LogStream(StrEnum):
    """Which of an agent's logs."""

    STDOUT = "stdout"
    STDERR = "stderr"
    INSTALL = "install"


class Logs(Document):
    """Lines that one release of an agent wrote; ``gap``: before them lines may be missing."""

    agent: str
    stream: LogStream
    release: int | None
    lines: list[str]
    gap: bool
    next: str


class Why(Document):
    """Why an agent is not as it should be; an empty cause when it is."""

    agent: str
    status: AgentStatus
    cause: str
    hint: str
    evidence: list[str]
    secrets_changed: bool


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


def agent(
    view: AgentView, host: str, footprint: Footprint | None, *, secrets_changed: bool
) -> Agent:
    """Write an agent.

    Args:
        view: What is known of it.
        host: By which the client knows this machine.
        footprint: What it may use and does; None before it has a release.
        secrets_changed: It runs with other secrets than it would be started with now.
    """
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
        usage=None if footprint is None else usage(footprint),
        limits=None if footprint is None else limits(footprint),
        isolation=_isolation(view),
        last_error=view.agent.last_error,
        secrets_changed=secrets_changed,
    )


def _isolation(view: AgentView) -> IsolationLevel | None:
    """Give the level at which its process was started; None when none runs."""
    if not view.is_alive:
        return None
    return IsolationLevel(view.agent.isolation or IsolationLevel.NONE)


def address(host: str, port: int | None) -> str:
    """Write the address of an agent; IPv6 hosts stand in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
