"""Agents, their releases and deployments, packages and secrets, as frozen nouns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from deployer.client.answers import SECONDS, TEXTS, TIME, Answer
from deployer.client.scans import SCANS, Scan
from deployer.vocabulary import DeploymentStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Package(Answer):
    """A package that the server holds."""

    md5: str
    sha256: str = ""
    agent: str = ""
    version: str = ""
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection(Answer):
    """Where an agent is, for those who want to call it.

    Attributes:
        name: The agent's.
        status: The agent's status word.
        host: What to connect to, as seen from this client.
        port: A TCP port.
        url: Both, as an address.
        pid: Of the agent's process.
        release: The number of the release that runs.
        version: As its manifest says.
        checksum: The MD5 of its package.
    """

    name: str
    status: str
    host: str = ""
    port: int | None = None
    url: str | None = None
    pid: int | None = None
    release: int | None = None
    version: str = ""
    checksum: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Answer):
    """A named part of a deployment.

    Attributes:
        name: Such as ``install``; ``upload`` is the client's own.
        outcome: running, done, skipped or failed.
        started_at: When it began.
        ended_at: When it ended; None while it runs.
        duration_seconds: How long it took, or has run until now.
        message: A sentence for people; may be empty.
    """

    name: str
    outcome: str = "running"
    started_at: datetime | None = field(default=None, metadata=TIME)
    ended_at: datetime | None = field(default=None, metadata=TIME)
    duration_seconds: float | None = field(default=None, metadata=SECONDS)
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure(Answer):
    """Why a deployment failed; ``code`` names a class of `deployer.errors`."""

    code: str
    detail: str
    cause: str = ""
    hint: str = ""
    evidence: tuple[str, ...] = field(default=(), metadata=TEXTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment(Answer):
    """One attempt to put a release live, as far as it has come."""

    id: str
    agent: str
    status: str
    package: str = ""
    sha256: str = ""
    release: int | None = None
    strategy: str = ""
    created_at: datetime | None = field(default=None, metadata=TIME)
    started_at: datetime | None = field(default=None, metadata=TIME)
    ended_at: datetime | None = field(default=None, metadata=TIME)
    duration_seconds: float | None = field(default=None, metadata=SECONDS)
    steps: tuple[Step, ...] = field(
        default=(), metadata={"read": lambda each: tuple(map(Step.read, each))}
    )
    failure: Failure | None = field(default=None, metadata={"read": Failure.read})
    scans: tuple[Scan, ...] = field(default=(), metadata=SCANS)
    agent_url: str | None = None
    connection: Connection | None = field(default=None, metadata={"read": Connection.read})

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.status not in {DeploymentStatus.QUEUED, DeploymentStatus.RUNNING}

    @property
    def succeeded(self) -> bool:
        """Whether the release is live."""
        return self.status == DeploymentStatus.SUCCEEDED


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentHealth(Answer):
    """What the last health check said."""

    healthy: bool
    detail: str = ""
    checked_at: datetime | None = field(default=None, metadata=TIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentUsage(Answer):
    """What all processes of an agent use together.

    Attributes:
        cpus: CPU seconds a second; None until it was looked at twice.
        memory_bytes: Resident.
        processes: How many there are.
        pids: How many there are with their threads.
        disk_bytes: In the directories that it may write; None: not measured yet.
        measured_at: When.
    """

    cpus: float | None = None
    memory_bytes: int = 0
    processes: int = 0
    pids: int = 0
    disk_bytes: int | None = None
    measured_at: datetime | None = field(default=None, metadata=TIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentLimit(Answer):
    """How much an agent may use of one thing.

    Attributes:
        limit: Bytes, CPUs, or processes with their threads; None: as much as there is.
        mechanism: What holds the agent to it.
        hard: Whether the kernel does, for all its processes together, at every moment.
    """

    limit: float | int | None = None
    mechanism: str = ""
    hard: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentLimits(Answer):
    """What an agent may use.

    Attributes:
        memory: Bytes.
        cpu: CPUs.
        pids: Processes with their threads.
        disk: Bytes in the directories that it may write.
        clamped: A sentence for each limit that its manifest sets beyond the machine.
    """

    memory: AgentLimit = field(metadata={"read": AgentLimit.read})
    cpu: AgentLimit = field(metadata={"read": AgentLimit.read})
    pids: AgentLimit = field(metadata={"read": AgentLimit.read})
    disk: AgentLimit = field(metadata={"read": AgentLimit.read})
    clamped: tuple[str, ...] = field(default=(), metadata=TEXTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent(Answer):
    """A name under which releases run, and how it is now.

    Attributes:
        name: Unique on its server.
        status: One of installed, starting, running, degraded, stopping, stopped, crash_looping,
            failed, quarantined.
        desired: What somebody last asked for: running or stopped.
        release: The number of the current release.
        version: As its manifest says.
        host: What to connect to.
        port: A TCP port; None before the first lease.
        url: Both, as an address.
        pid: While it lives.
        checksum: The MD5 of the current release's package.
        started_at: When its process started.
        restarts: How often it was started again by itself.
        health: The last health check; None before the first.
        usage: What it uses; None while it does not run.
        limits: What it may use; None before its first release.
        isolation: How well it is kept apart, such as ``full``; None while it does not run.
        last_error: Why it is not running; empty while all is well.
        secrets_changed: It runs with secrets that were changed since it was started.
    """

    name: str
    status: str
    desired: str = ""
    release: int | None = None
    version: str = ""
    host: str = ""
    port: int | None = None
    url: str | None = None
    pid: int | None = None
    checksum: str = ""
    started_at: datetime | None = field(default=None, metadata=TIME)
    restarts: int = 0
    health: AgentHealth | None = field(default=None, metadata={"read": AgentHealth.read})
    usage: AgentUsage | None = field(default=None, metadata={"read": AgentUsage.read})
    limits: AgentLimits | None = field(default=None, metadata={"read": AgentLimits.read})
    isolation: str | None = None
    last_error: str = ""
    secrets_changed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(Answer):
    """One unpacked package with its environment.

    Attributes:
        number: Counts up from 1 for each agent.
        status: installing, installed, proven or failed.
        current: Whether it is the one that is live.
        previous: Whether it is the one that a rollback goes back to.
        version: As its manifest says.
        checksum: The MD5 of its package.
        sha256: The SHA-256 of its package.
        python: The interpreter of its environment.
        created_at: When it was made.
        rollback_ready: True: it is what was installed; else why it cannot be gone back to.
        scans: What scanners said of it while it was deployed.
    """

    number: int
    status: str = ""
    current: bool = False
    previous: bool = False
    version: str = ""
    checksum: str = ""
    sha256: str = ""
    python: str = ""
    created_at: datetime | None = field(default=None, metadata=TIME)
    rollback_ready: bool | str | None = None
    scans: tuple[Scan, ...] = field(default=(), metadata=SCANS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs(Answer):
    """Lines of one of an agent's logs.

    Attributes:
        agent: Its name.
        stream: stdout, stderr or install.
        release: The number of the release that wrote them; None: there is none yet.
        lines: Without their ends, the oldest first.
        gap: Before them lines may be missing: they were rotated away before they were read.
        next: Where to read on.
    """

    agent: str
    stream: str
    release: int | None = None
    lines: tuple[str, ...] = field(default=(), metadata=TEXTS)
    gap: bool = False
    next: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Why(Answer):
    """Why an agent is not as it should be; without a cause when it is.

    Attributes:
        status: How it is; empty: its first deployment failed, and there is no such agent.
        cause: In words.
        evidence: Lines of its log, or of the deployment's, that show it.
        hint: What to do next.
        deployment: The deployment that failed of this cause; None: what runs is at fault itself.
        secrets_changed: It runs with other secrets than it would be started with now.
    """

    status: str = ""
    cause: str = ""
    evidence: tuple[str, ...] = field(default=(), metadata=TEXTS)
    hint: str = ""
    deployment: str | None = None
    secrets_changed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret(Answer):
    """A secret, without its value.

    Attributes:
        name: What manifests call it.
        agents: Patterns of the agents that may use it.
        created_at: When it was first set.
        changed_at: When it was last set.
        problem: Why the server cannot read it; empty when it can.
    """

    name: str
    agents: tuple[str, ...] = field(default=(), metadata=TEXTS)
    created_at: datetime | None = field(default=None, metadata=TIME)
    changed_at: datetime | None = field(default=None, metadata=TIME)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Deployed:
    """What a deploy came to.

    Attributes:
        connection: Where the agent is; None when it was asked not to start.
        deployment: What was done; None when the package was installed already, so that at most
            the agent was started.
    """

    connection: Connection | None
    deployment: Deployment | None

    @property
    def document(self) -> Mapping[str, Any]:
        """The server's last answer as it came."""
        answer = self.deployment or self.connection
        return answer.document if answer else {}
