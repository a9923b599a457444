"""How a plan is written: what a deployment would do."""

from __future__ import annotations

from deployer import plans
from deployer.api.documents.scans import Scan, scan
from deployer.api.documents.shapes import Document, Md5
from deployer.model import Strategy


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
    environment_reused: bool


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
    missing_secrets: list[str]
    vulnerabilities: Scan
    steps: list[str]


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
            environment_reused=dependencies.environment_reused,
        ),
        disk=PlannedDisk(
            code_bytes=noun.code_bytes,
            environment_bytes=noun.environment_bytes,
            free_bytes=noun.free_bytes,
        ),
        port=PlannedPort(number=noun.port, kept=noun.port_kept),
        restarts=noun.restarts,
        missing_secrets=list(noun.missing_secrets),
        vulnerabilities=scan(noun.vulnerabilities),
        steps=list(noun.steps),
    )
