"""The server and its machine, as frozen nouns."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from deployer.client.answers import TIME, Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Health(Answer):
    """That a server is there, and what it is."""

    status: str
    version: str = ""
    auth_enabled: bool = False
    metrics_enabled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Answer):
    """One thing that must be so for the server to take work, or that is worth knowing."""

    name: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness(Answer):
    """Whether the server takes work.

    Attributes:
        status: ``ready``, or another word while it does not.
        checks: What was looked at.
    """

    status: str
    checks: tuple[Check, ...] = field(
        default=(), metadata={"read": lambda each: tuple(map(Check.read, each))}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PortLease(Answer):
    """A port that an agent holds."""

    port: int
    agent: str
    program: str = ""
    leased_at: datetime | None = field(default=None, metadata=TIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignPort(Answer):
    """A port of the agents' range that somebody else listens on."""

    port: int
    holder: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports(Answer):
    """The agents' range of ports, what is leased of it, and what others hold."""

    first: int
    last: int
    free: int | None = None
    leases: tuple[PortLease, ...] = field(
        default=(), metadata={"read": lambda leases: tuple(map(PortLease.read, leases))}
    )
    foreign: tuple[ForeignPort, ...] = field(
        default=(), metadata={"read": lambda ports: tuple(map(ForeignPort.read, ports))}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Answer):
    """One line of the timeline."""

    id: int
    kind: str
    at: datetime | None = field(default=None, metadata=TIME)
    agent: str = ""
    message: str = ""
