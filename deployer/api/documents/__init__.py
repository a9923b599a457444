"""What the API answers: the shapes, as pydantic models, and how nouns are written in them."""

from __future__ import annotations

from deployer.api.documents.agents import (
    Agent,
    AgentList,
    Connection,
    Health,
    Logs,
    LogStream,
    Why,
    agent,
    connection,
)
from deployer.api.documents.deployments import Deployment, DeploymentList, Failure, Step, deployment
from deployer.api.documents.machine import (
    Check,
    Event,
    EventList,
    ForeignPort,
    Lease,
    Liveness,
    Ports,
    Readiness,
    Server,
    event,
    lease,
)
from deployer.api.documents.packages import Package, package
from deployer.api.documents.plans import (
    ChangedDependency,
    Plan,
    PlannedDependencies,
    PlannedDisk,
    PlannedPort,
    PlannedPython,
    plan,
)
from deployer.api.documents.releases import Release, ReleaseList, release
from deployer.api.documents.shapes import Document, Md5, Problem, ProblemItem, Sha256
from deployer.api.documents.signatures import Signature

__all__ = [
    "Agent",
    "AgentList",
    "ChangedDependency",
    "Check",
    "Connection",
    "Deployment",
    "DeploymentList",
    "Document",
    "Event",
    "EventList",
    "Failure",
    "ForeignPort",
    "Health",
    "Lease",
    "Liveness",
    "LogStream",
    "Logs",
    "Md5",
    "Package",
    "Plan",
    "PlannedDependencies",
    "PlannedDisk",
    "PlannedPort",
    "PlannedPython",
    "Ports",
    "Problem",
    "ProblemItem",
    "Readiness",
    "Release",
    "ReleaseList",
    "Server",
    "Sha256",
    "Signature",
    "Step",
    "Why",
    "agent",
    "connection",
    "deployment",
    "event",
    "lease",
    "package",
    "plan",
    "release",
]
