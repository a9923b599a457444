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
    """Where an agent is reached.

    Attributes:
        name: The agent's.
        status: How it is.
        host: The name by which the client called this machine, unless the settings name another.
        port: Its TCP port; null while it does not run.
        url: Both, as an address.
        pid: Its process; null while there is none.
        release: The number of the current release.
        version: As the manifest of that release says.
        checksum: The MD5 of its package.
    """

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
    """What an agent answered when it was asked last.

    Attributes:
        healthy: Whether the answer was good.
        degraded: Whether it was good, and the agent says itself that something is wrong.
        detail: The answer in a few words.
        seconds: How long it took.
        checked_at: When that was.
        bad_answers: How many in a row were bad.
    """

    healthy: bool
    degraded: bool
    detail: str
    seconds: float
    checked_at: datetime
    bad_answers: int


class Agent(Document):
    """An agent, as it is now.

    Attributes:
        name: Unique on this server.
        status: How it is.
        desired: What somebody last asked for.
        release: The number of the current release.
        previous_release: The number of the release that a rollback goes back to.
        version: As the manifest of the current release says.
        checksum: The MD5 of the current release's package.
        host: The name by which the client called this machine, unless the settings name another.
        port: Its TCP port; null while it does not run.
        url: Both, as an address.
        pid: Its process; null while there is none.
        program: What supervisord calls the current release.
        started_at: When its process started.
        restarts: How often that was started again by itself.
        next_try_at: When an agent that failed is tried again.
        health: What it answered when it was asked last; null before that.
        usage: What it uses; null while it does not run.
        limits: What it may use; null before its first release.
        isolation: How well its process is kept apart; null while it does not run.
        last_error: Why it does not run; empty while all is well.
        secrets_changed: It runs with secrets that were changed since it was started.
    """

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
    """Lines that one release of an agent wrote.

    Attributes:
        agent: Whose they are.
        stream: Of which log.
        release: Which release wrote them; null: none has yet.
        lines: The oldest first.
        gap: Before them lines may be missing.
        next: Where to go on, as `after`.
    """

    agent: str
    stream: LogStream
    release: int | None
    lines: list[str]
    gap: bool
    next: str


class Why(Document):
    """Why an agent is not as it should be; an empty cause when it is.

    Without a status there is no such agent: its first deployment failed.
    """

    agent: str
    status: AgentStatus | None
    cause: str
    hint: str
    evidence: list[str]
    deployment: str | None
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
    word = view.agent.isolation  # one that a later server knows counts as none, like no word
    return IsolationLevel(word) if word in set(IsolationLevel) else IsolationLevel.NONE


def address(host: str, port: int | None) -> str:
    """Write the address of an agent; IPv6 hosts stand in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
