"""What a deployment would do, as frozen nouns."""

from __future__ import annotations

from dataclasses import dataclass, field

from deployer.client.answers import TEXTS, Answer
from deployer.client.nouns.scans import Scan


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPython(Answer):
    """The interpreter that a deployment would choose."""

    version: str
    path: str = ""
    changed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedDependency(Answer):
    """A dependency that would have another version."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedDependencies(Answer):
    """How the dependencies would differ from those of the current release.

    Attributes:
        lock_reused: Whether an earlier resolution would be repeated.
        added: ``name==version`` each.
        removed: The same.
        changed: Those with another version.
        unchanged: How many are the same.
        cached: Whether nothing would have to be downloaded; None: nobody can tell.
        environment_reused: Whether an environment that is there would be shared.
    """

    lock_reused: bool = False
    added: tuple[str, ...] = field(default=(), metadata=TEXTS)
    removed: tuple[str, ...] = field(default=(), metadata=TEXTS)
    changed: tuple[ChangedDependency, ...] = field(
        default=(), metadata={"read": lambda each: tuple(map(ChangedDependency.read, each))}
    )
    unchanged: int = 0
    cached: bool | None = None
    environment_reused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedDisk(Answer):
    """What a deployment would take of the disk, and what that has."""

    code_bytes: int
    environment_bytes: int | None = None
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPort(Answer):
    """The port that a deployment would ask for."""

    number: int
    kept: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Answer):
    """What deploying a package would do.

    Attributes:
        agent: Whose package it is.
        package: Its MD5.
        version: As its manifest says.
        release: The number of the current release; None for a first deployment.
        strategy: How the new release would take over.
        python: The interpreter that it would get.
        dependencies: How they would differ.
        disk: What it would take.
        port: Where it would listen.
        restarts: Whether a process that runs now would be replaced.
        missing_secrets: Secrets that it refers to and cannot be given, with the reasons.
        vulnerabilities: Those known of the dependencies; None: the server is older.
        steps: Those of the deployment; none when the package is live already.
    """

    agent: str
    package: str
    version: str = ""
    release: int | None = None
    strategy: str = ""
    python: PlannedPython = field(metadata={"read": PlannedPython.read})
    dependencies: PlannedDependencies = field(metadata={"read": PlannedDependencies.read})
    disk: PlannedDisk = field(metadata={"read": PlannedDisk.read})
    port: PlannedPort = field(metadata={"read": PlannedPort.read})
    restarts: bool = False
    missing_secrets: tuple[str, ...] = field(default=(), metadata=TEXTS)
    vulnerabilities: Scan | None = field(default=None, metadata={"read": Scan.read})
    steps: tuple[str, ...] = field(default=(), metadata=TEXTS)
