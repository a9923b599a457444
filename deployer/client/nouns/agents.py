"""Agents, how they are and why, as frozen nouns."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from deployer.client.answers import TEXTS, TIME, Answer


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
