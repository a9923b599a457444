"""A client of the deployment server, on requests.

    with Client("http://127.0.0.1:8080", token) as client:
        deployed = client.deploy("greeter.zip")
        print(deployed.connection.url)

Errors are those of `deployer.errors`, as the server raised them.
"""

from typing import TYPE_CHECKING, Any

from deployer.client import nouns
from deployer.client.clients import Client
from deployer.client.problems import deployment_of

if TYPE_CHECKING:
    from deployer.client.nouns import (
        Agent,
        AgentHealth,
        AuditEntry,
        Check,
        Connection,
        Deployed,
        Deployment,
        Event,
        Failure,
        Finding,
        ForeignPort,
        Health,
        Key,
        Logs,
        Package,
        Plan,
        PortLease,
        Ports,
        Readiness,
        Release,
        Scan,
        Secret,
        Step,
        Why,
    )

__all__ = [
    "Agent",
    "AgentHealth",
    "AuditEntry",
    "Check",
    "Client",
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
    "PortLease",
    "Ports",
    "Readiness",
    "Release",
    "Scan",
    "Secret",
    "Step",
    "Why",
    "deployment_of",
]


def __getattr__(name: str) -> Any:
    """Import a noun when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(nouns, name)
