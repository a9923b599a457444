"""How it is written what agents may use, what holds them to it, and what they do use."""

from __future__ import annotations

from datetime import datetime

from deployer.api.documents.shapes import Document
from deployer.limits import mechanisms
from deployer.limits.footprints import Footprint


class Mechanism(Document):
    """What holds agents to one kind of limit, and whether the kernel does it at every moment."""

    mechanism: str
    hard: bool


class Mechanisms(Document):
    """What holds agents to their limits on this machine."""

    memory: Mechanism
    cpu: Mechanism
    pids: Mechanism
    disk: Mechanism


class Limit(Document):
    """How much an agent may use of one thing; a limit of null is none."""

    limit: float | int | None
    mechanism: str
    hard: bool


class Limits(Document):
    """What an agent may use: bytes, CPUs, processes with their threads, bytes."""

    memory: Limit
    cpu: Limit
    pids: Limit
    disk: Limit
    clamped: list[str]


class Usage(Document):
    """What all processes of an agent use together.

    Attributes:
        cpus: CPU seconds a second; null until it was looked at twice.
        memory_bytes: Resident.
        processes: How many there are.
        pids: How many there are with their threads.
        disk_bytes: In the directories that it may write; null: not measured yet.
        measured_at: When that was.
    """

    cpus: float | None
    memory_bytes: int
    processes: int
    pids: int
    disk_bytes: int | None
    measured_at: datetime


_DISK = Mechanism(mechanism="watchdog", hard=False)


def limits_of_server(noun: mechanisms.Mechanisms) -> Mechanisms:
    """Write what holds agents to their limits here."""
    return Mechanisms(
        memory=_mechanism(noun.memory),
        cpu=_mechanism(noun.cpu),
        pids=_mechanism(noun.pids),
        disk=_DISK,
    )


def limits(noun: Footprint) -> Limits:
    """Write what an agent may use."""
    allowance, held = noun.allowance, limits_of_server(noun.mechanisms)
    return Limits(
        memory=_limit(allowance.memory_bytes, held.memory),
        cpu=_limit(allowance.cpus, held.cpu),
        pids=_limit(allowance.pids, held.pids),
        disk=_limit(allowance.disk_bytes, held.disk),
        clamped=list(allowance.clamped),
    )


def usage(noun: Footprint) -> Usage | None:
    """Write what an agent uses; None while it does not run."""
    used = noun.usage
    if used is None:
        return None
    return Usage(
        cpus=None if used.cpus is None else round(used.cpus, 3),
        memory_bytes=used.memory_bytes,
        processes=used.processes,
        pids=used.pids,
        disk_bytes=None if noun.disk is None else noun.disk.size_bytes,
        measured_at=used.measured_at,
    )


def _mechanism(noun: mechanisms.Mechanism) -> Mechanism:
    return Mechanism(mechanism=noun.name, hard=noun.hard)


def _limit(value: float | None, held: Mechanism) -> Limit:
    return Limit(limit=value, mechanism=held.mechanism, hard=held.hard)
