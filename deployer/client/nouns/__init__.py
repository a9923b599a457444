"""What a server tells, as frozen nouns; each is imported when it is first asked for.

To make one takes Python a millisecond, there are fifty, and a command needs about three.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from deployer.client.nouns.agents import (
        Agent,
        AgentHealth,
        AgentLimit,
        AgentLimits,
        AgentUsage,
        Why,
    )
    from deployer.client.nouns.connections import Connection
    from deployer.client.nouns.deployments import Deployed, Deployment, Failure, Step
    from deployer.client.nouns.keys import AuditEntry, Key
    from deployer.client.nouns.logs import Logs
    from deployer.client.nouns.machine import (
        Check,
        Event,
        ForeignPort,
        Health,
        PortLease,
        Ports,
        Readiness,
    )
    from deployer.client.nouns.packages import Package
    from deployer.client.nouns.plans import (
        ChangedDependency,
        Plan,
        PlannedDependencies,
        PlannedDisk,
        PlannedPort,
        PlannedPython,
    )
    from deployer.client.nouns.releases import Release
    from deployer.client.nouns.scans import Finding, Scan
    from deployer.client.nouns.secrets import Secret

__all__ = [
    "Agent",
    "AgentHealth",
    "AgentLimit",
    "AgentLimits",
    "AgentUsage",
    "AuditEntry",
    "ChangedDependency",
    "Check",
    "Connection",
    "Deployed",
    "Deployment",
    "Event",
    "Failure",
    "Finding",
    "ForeignPort",
    "Health",
    "Key",
    "Logs",
    "Package",
    "Plan",
    "PlannedDependencies",
    "PlannedDisk",
    "PlannedPort",
    "PlannedPython",
    "PortLease",
    "Ports",
    "Readiness",
    "Release",
    "Scan",
    "Secret",
    "Step",
    "Why",
]

_HOMES: Final = {
    "agents": ("Agent", "AgentHealth", "AgentLimit", "AgentLimits", "AgentUsage", "Why"),
    "connections": ("Connection",),
    "deployments": ("Deployed", "Deployment", "Failure", "Step"),
    "keys": ("AuditEntry", "Key"),
    "logs": ("Logs",),
    "machine": ("Check", "Event", "ForeignPort", "Health", "PortLease", "Ports", "Readiness"),
    "packages": ("Package",),
    "plans": (
        "ChangedDependency",
        "Plan",
        "PlannedDependencies",
        "PlannedDisk",
        "PlannedPort",
        "PlannedPython",
    ),
    "releases": ("Release",),
    "scans": ("Finding", "Scan"),
    "secrets": ("Secret",),
}
_HOME_OF: Final = {noun: home for home, nouns in _HOMES.items() for noun in nouns}


def __getattr__(name: str) -> Any:
    """Import a noun from its home."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    noun = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = noun  # the next who asks finds it without coming here
    return noun
