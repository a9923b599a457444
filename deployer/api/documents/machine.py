"""How the server itself is written: its checks, its ports, its timeline."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from deployer import isolation, model
from deployer.api.documents.limits import Mechanisms
from deployer.api.documents.shapes import Document
from deployer.isolation_levels import IsolationLevel


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


class IsolationFact(Document):
    """One thing about isolation that was tried."""

    name: str
    holds: bool
    detail: str


class Isolation(Document):
    """How well agents are kept apart, and how well they must be."""

    level: IsolationLevel
    require: IsolationLevel | None
    facts: list[IsolationFact]


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
    isolation: Isolation
    limits: Mechanisms


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


class EventList(Document):
    """The timeline, the oldest first."""

    events: list[Event]
    count: int
    next: str | None


def server_isolation(noun: isolation.Isolation, require: IsolationLevel | None) -> Isolation:
    """Write how well agents are kept apart."""
    return Isolation(
        level=noun.level,
        require=require,
        facts=[
            IsolationFact(name=fact.name, holds=fact.holds, detail=fact.detail)
            for fact in noun.facts
        ],
    )


def lease(noun: model.PortLease) -> Lease:
    """Write a port lease."""
    return Lease(port=noun.port, agent=noun.agent, program=noun.program, leased_at=noun.leased_at)


def event(noun: model.Event) -> Event:
    """Write a line of the timeline."""
    return Event(id=noun.id, at=noun.at, agent=noun.agent, kind=noun.kind, message=noun.message)
