"""What the API answers: the shapes, as pydantic models, and how nouns are written in them."""

from __future__ import annotations

from deployer.api.documents.agent_secrets import Secret, SecretList, secret
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
from deployer.api.documents.keys import (
    AuditEntry,
    AuditList,
    Key,
    KeyList,
    NewKey,
    audit_entry,
    key,
    new_key,
)
from deployer.api.documents.limits import Limits, Mechanisms, Usage, limits_of_server
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
from deployer.api.documents.scans import Finding, Scan
from deployer.api.documents.shapes import Document, Md5, Problem, ProblemItem, Sha256
from deployer.api.documents.signatures import Signature

__all__ = [
    "Agent",
    "AgentList",
    "AuditEntry",
    "AuditList",
    "ChangedDependency",
    "Check",
    "Connection",
    "Deployment",
    "DeploymentList",
    "Document",
    "Event",
    "EventList",
    "Failure",
    "Finding",
    "ForeignPort",
    "Health",
    "Key",
    "KeyList",
    "Lease",
    "Limits",
    "Liveness",
    "LogStream",
    "Logs",
    "Md5",
    "Mechanisms",
    "NewKey",
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
    "Scan",
    "Secret",
    "SecretList",
    "Server",
    "Sha256",
    "Signature",
    "Step",
    "Usage",
    "Why",
    "agent",
    "audit_entry",
    "connection",
    "deployment",
    "event",
    "key",
    "lease",
    "limits_of_server",
    "new_key",
    "package",
    "plan",
    "release",
    "secret",
]
