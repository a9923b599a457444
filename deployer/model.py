"""The nouns that every part shares: frozen, without I/O, times in UTC, quantities with units."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from deployer.scan_reports import ScanReport
from deployer.vocabulary import AGENT_NAME as AGENT_NAME  # noqa: PLC0414 - a word of the model too
from deployer.vocabulary import DeploymentStatus as DeploymentStatus  # noqa: PLC0414 - the same


class State(StrEnum):
    """What supervisord says of a process, in its own words (supervisor.states.ProcessStates)."""

    STOPPED = "STOPPED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    BACKOFF = "BACKOFF"
    STOPPING = "STOPPING"
    EXITED = "EXITED"
    FATAL = "FATAL"
    UNKNOWN = "UNKNOWN"

    @property
    def is_alive(self) -> bool:
        """Whether a process of the operating system stands behind it."""
        return self in {State.STARTING, State.RUNNING, State.STOPPING}


class Desired(StrEnum):
    """What somebody last asked for, by deploying, starting, stopping or removing."""

    RUNNING = "running"
    STOPPED = "stopped"
    REMOVED = "removed"  # for as long as that takes; a new server process goes on with it


@dataclass(frozen=True, slots=True)
class Act:
    """A start or a stop that somebody asked supervisord for.

    Attributes:
        desired: What was asked for: RUNNING or STOPPED.
        is_operators: Asked for by supervisord's own ways, such as supervisorctl; else by us.
        at: When.
    """

    desired: Desired
    is_operators: bool
    at: datetime


@dataclass(frozen=True, slots=True)
class Process:
    """What supervisord last said about one program.

    Attributes:
        program: The program's name, ``NAME--N`` for release N of agent NAME.
        state: supervisord's word.
        pid: The process, while it lives.
        started_at: Start of the latest run; None before the first.
        stopped_at: End of the latest run that ended; None before.
        exit_code: Of the run that ended last; None when a signal ended it, or none ended.
        signal: The number of the signal that ended it, such as 9.
        restarts: How often it was started again by itself since somebody last asked for a start.
        next_try_at: When it will be started again; None when it will not by itself.
        message: supervisord's own sentence about a start that failed; may be empty.
        throttled_at: Since when its output is read slowly, for it floods its log; None: it is not.
        last_act: Who last had it started or stopped; None: nobody under this supervisord, or it
            does not tell.
        told_at: When supervisord said so, in nanoseconds of the machine's monotonic clock; 0: it
            does not tell. What it says twice is the same at both times.
    """

    program: str
    state: State
    pid: int | None = None
    started_at: datetime | None = None
    stopped_at: datetime | None = None
    exit_code: int | None = None
    signal: int | None = None
    restarts: int = 0
    next_try_at: datetime | None = None
    message: str = ""
    throttled_at: datetime | None = None
    last_act: Act | None = None
    told_at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How often and how fast supervisord starts a program again that died by itself.

    The first death after ``window_seconds`` without one restarts at once; the k-th after it waits
    ``delay_seconds * 2**(k-1)``, at most ``max_delay_seconds``, with jitter; after
    ``max_restarts`` restarts within the window it is left FATAL.

    Attributes:
        enabled: False: a program that dies stays dead.
        max_restarts: Restarts within the window; None: for ever.
        delay_seconds: The first delay that is not zero.
        window_seconds: How long a death counts, and how long a quiet time forgets all.
        max_delay_seconds: The longest delay.
    """

    enabled: bool = True
    max_restarts: int | None = 3
    delay_seconds: float = 5.0
    window_seconds: float = 60.0
    max_delay_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """The question that tells whether a release serves.

    Attributes:
        path: An HTTP path that must answer 2xx or 3xx; None: the port accepts a connection.
        start_seconds: How long a new process may take until the first good answer.
        interval_seconds: Between two questions while it runs.
        timeout_seconds: For one answer.
        failures: Bad answers in a row until it counts as unhealthy.
    """

    path: str | None = None
    start_seconds: float = 60.0
    interval_seconds: float = 30.0
    timeout_seconds: float = 5.0
    failures: int = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of asking a release how it is.

    Attributes:
        healthy: Whether it serves.
        detail: What was seen, in a few words, such as ``HTTP 200`` or ``refused``.
        seconds: How long the answer took, or how long it was waited for.
        degraded: It lives, but says itself that something is wrong, such as a dependency that is
            away: restarting it would not help.
    """

    healthy: bool
    detail: str
    seconds: float
    degraded: bool = False


@dataclass(frozen=True, slots=True)
class Package:
    """An uploaded ZIP that passed every rule.

    Attributes:
        md5: Lower-case hex of the ZIP's bytes: the protocol's name for it, never trusted alone.
        sha256: Lower-case hex of the same bytes: ours.
        size_bytes: Of the ZIP.
        agent: The name in its manifest.
        version: The version in its manifest; may be empty.
        received_at: When it was uploaded first.
        manifest: Its manifest as JSON text.
        requirements: What it asks for, as normalised lines.
        entry_point: What is started: ``script main.py``, ``module NAME`` or ``runner agent.toml``.
        unpacked_bytes: What its files take.
        entries: How many they are.
    """

    md5: str
    sha256: str
    size_bytes: int
    agent: str
    version: str
    received_at: datetime
    manifest: str
    requirements: tuple[str, ...]
    entry_point: str
    unpacked_bytes: int
    entries: int


@dataclass(frozen=True, slots=True)
class Agent:
    """A name under which releases run.

    Attributes:
        name: Unique on this server.
        desired: What somebody last asked for.
        desired_at: When.
        current: The number of the release that is live; None before the first.
        previous: The number of the release to go back to; None when there is none.
        port: The port it had last and asks for again; None before the first lease.
        created_at: When the name was first deployed.
        last_error: Why it is not running, in words; empty while all is well.
        last_hint: What to do about that; may be empty.
        quarantine: What of its own is damaged, so that it is not even tried; else empty.
        isolation: The level at which its process was started last; empty before.
        is_readable: Whether its row could be read whole; if not, what is said here stands for what
            nobody knows, and nothing is done for it.
    """

    name: str
    desired: Desired
    desired_at: datetime
    current: int | None
    previous: int | None
    port: int | None
    created_at: datetime
    last_error: str = ""
    last_hint: str = ""
    quarantine: str = ""
    isolation: str = ""
    is_readable: bool = True


class ReleaseStatus(StrEnum):
    """How far a release has come."""

    INSTALLING = "installing"  # half-done: undone at the next start
    INSTALLED = "installed"  # whole, but it has not yet proven that it serves
    PROVEN = "proven"  # was healthy at least once
    FAILED = "failed"
    DISCARDED = "discarded"  # being deleted; a new server process goes on with it


@dataclass(frozen=True, slots=True)
class Release:
    """One unpacked package with its environment; immutable once installed.

    Attributes:
        agent: Whose it is.
        number: Counts up from 1 for each agent and is never used twice.
        status: How far it has come.
        md5: The package's MD5.
        sha256: The package's SHA-256.
        version: As the manifest says; may be empty.
        manifest: The manifest as JSON text.
        entry_point: What is started: ``script main.py``, ``module NAME`` or ``runner agent.toml``.
        python: The interpreter its environment was made with; empty until then.
        created_at: When its directory was made.
    """

    agent: str
    number: int
    status: ReleaseStatus
    md5: str
    sha256: str
    version: str
    manifest: str
    entry_point: str
    python: str
    created_at: datetime

    @property
    def program(self) -> str:
        """The supervisord program that runs it."""
        return program_name(self.agent, self.number)


def program_name(agent: str, number: int) -> str:
    """Name the supervisord program of a release: each release has one of its own."""
    return f"{agent}--{number}"


def agent_of_program(program: str) -> tuple[str, int] | None:
    """Read a program's name back, or tell with None that the program is not an agent's."""
    agent, separator, number = program.rpartition("--")
    if not separator or not number.isdecimal() or not AGENT_NAME.fullmatch(agent):
        return None
    return agent, int(number)


@dataclass(frozen=True, slots=True)
class PortLease:
    """A port that an agent holds, whether it listens there yet or not."""

    port: int
    agent: str
    program: str
    leased_at: datetime


class Strategy(StrEnum):
    """How a new release takes the place of the one that serves."""

    REHEARSE = "rehearse"
    REPLACE = "replace"
    PARALLEL = "parallel"


class Outcome(StrEnum):
    """How a step ended."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Step:
    """A named part of a deployment."""

    name: str
    started_at: datetime
    ended_at: datetime | None = None
    outcome: Outcome = Outcome.RUNNING
    message: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something went wrong, as it is kept with a deployment and shown for an agent.

    Attributes:
        code: A stable code out of `deployer.errors`.
        detail: One sentence: cannot X: why.
        cause: The reason alone, a few words.
        hint: What to do next; may be empty.
        evidence: The last lines of the log that shows it; at most 50.
    """

    code: str
    detail: str
    cause: str = ""
    hint: str = ""
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deployment:
    """One attempt to put a release live.

    Attributes:
        id: Sorts by age.
        agent: Whose release it is.
        sha256: The package it deploys.
        md5: The same package, by its protocol name.
        release: The number, once there is one.
        is_rollback: The release was there before; none is made, and none is deleted on failure.
        strategy: How the new release takes over.
        start: False: install and make current, but do not start.
        force: True: make a new release even when this package is the current one.
        status: How it stands.
        created_at: When it was asked for.
        started_at: When a worker took it.
        ended_at: When it was over.
        failure: Why it failed; None unless it did.
        steps: What it did, in order.
        scans: What scanners said of the release it made.
    """

    id: str
    agent: str
    sha256: str
    md5: str
    strategy: Strategy
    start: bool
    force: bool
    status: DeploymentStatus
    created_at: datetime
    release: int | None = None
    is_rollback: bool = False
    started_at: datetime | None = None
    ended_at: datetime | None = None
    failure: Failure | None = None
    steps: tuple[Step, ...] = field(default=())
    scans: tuple[ScanReport, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Run:
    """One start of a release.

    Attributes:
        release: What runs.
        port: Where it listens.
        pid: Its main process.
        began: When its start began, on the monotonic clock.
        is_gapless: Its socket was held all the time: clients waited, and none was refused.
    """

    release: Release
    port: int
    pid: int
    began: float
    is_gapless: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the timeline.

    Attributes:
        id: Counts up; the cursor of the list.
        at: When it happened.
        agent: Whom it concerns; empty for the server itself.
        kind: A value of `deployer.event_kinds.EventKind`; older rows may hold others.
        message: A sentence for people.
    """

    id: int
    at: datetime
    agent: str
    kind: str
    message: str
