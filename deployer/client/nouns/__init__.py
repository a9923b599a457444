"""What a server tells, as frozen nouns; each is imported when it is first asked for.

To make one takes Python a millisecond, there are fifty, and a command needs about three.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from deployer.client.nouns.agents import Agent as Agent
    from deployer.client.nouns.agents import AgentHealth as AgentHealth
    from deployer.client.nouns.agents import AgentLimit as AgentLimit
    from deployer.client.nouns.agents import AgentLimits as AgentLimits
    from deployer.client.nouns.agents import AgentUsage as AgentUsage
    from deployer.client.nouns.agents import Why as Why
    from deployer.client.nouns.connections import Connection as Connection
    from deployer.client.nouns.deployments import Deployed as Deployed
    from deployer.client.nouns.deployments import Deployment as Deployment
    from deployer.client.nouns.deployments import Failure as Failure
    from deployer.client.nouns.deployments import Step as Step
    from deployer.client.nouns.keys import AuditEntry as AuditEntry
    from deployer.client.nouns.keys import Key as Key
    from deployer.client.nouns.logs import Logs as Logs
    from deployer.client.nouns.machine import Check as Check
    from deployer.client.nouns.machine import Event as Event
    from deployer.client.nouns.machine import ForeignPort as ForeignPort
    from deployer.client.nouns.machine import Health as Health
    from deployer.client.nouns.machine import PortLease as PortLease
    from deployer.client.nouns.machine import Ports as Ports
    from deployer.client.nouns.machine import Readiness as Readiness
    from deployer.client.nouns.packages import Package as Package
    from deployer.client.nouns.plans import ChangedDependency as ChangedDependency
    from deployer.client.nouns.plans import Plan as Plan
    from deployer.client.nouns.plans import PlannedDependencies as PlannedDependencies
    from deployer.client.nouns.plans import PlannedDisk as PlannedDisk
    from deployer.client.nouns.plans import PlannedPort as PlannedPort
    from deployer.client.nouns.plans import PlannedPython as PlannedPython
    from deployer.client.nouns.releases import Release as Release
    from deployer.client.nouns.scans import Finding as Finding
    from deployer.client.nouns.scans import Scan as Scan
    from deployer.client.nouns.secrets import Secret as Secret

HOMES: Final = {
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
_HOME_OF: Final = {noun: home for home, nouns in HOMES.items() for noun in nouns}


def __getattr__(name: str) -> Any:
    """Import a noun from its home."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    noun = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = noun  # the next who asks finds it without coming here
    return noun
