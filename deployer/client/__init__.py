"""A client of the deployment server, on requests.

    with Client("http://127.0.0.1:8080", token) as client:
        deployed = client.deploy("greeter.zip")
        print(deployed.connection.url)

Errors are those of `deployer.errors`, as the server raised them.
"""

from deployer.client.clients import Client
from deployer.client.keys import AuditEntry, Key
from deployer.client.machine import Check, Event, ForeignPort, Health, PortLease, Ports, Readiness
from deployer.client.nouns import (
    Agent,
    AgentHealth,
    Connection,
    Deployed,
    Deployment,
    Failure,
    Logs,
    Package,
    Release,
    Secret,
    Step,
    Why,
)
from deployer.client.plans import Plan
from deployer.client.problems import deployment_of
from deployer.client.scans import Finding, Scan

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
