"""What the ATOLL 2.x wire takes and answers: the shapes captured from ATOLL 2.0.1."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from deployer.api.documents.shapes import Document
from deployer.isolation_levels import IsolationLevel


class WireHealth(Document):
    """ATOLL's own question whether a server is there."""

    status: Literal["healthy"]
    version: str
    auth_enabled: bool
    metrics_enabled: bool
    isolation: IsolationLevel


class WireAgent(Document):
    """An agent of ATOLL's list."""

    name: str
    status: str
    port: int | None
    pid: int | None
    checksum: str
    config_path: str


class WireAgents(Document):
    """ATOLL's list of agents."""

    agents: list[WireAgent]
    count: int


class WireFound(Document):
    """A package that is installed as somebody's current release."""

    exists: Literal[True] = True
    name: str
    status: str
    port: int | None
    running: bool


class WireMissing(Document):
    """A package that is not."""

    exists: Literal[False] = False
    message: str


class WireDeployed(Document):
    """A package that is installed now, or was already."""

    status: Literal["deployed", "already_installed"]
    name: str
    checksum: str
    config_path: str
    message: str


class WireDeploying(Document):
    """A deployment that takes longer than the client waits."""

    status: Literal["deploying"] = "deploying"
    name: str
    checksum: str
    config_path: Literal[""] = ""
    message: str
    status_url: str


class WireServing(Document):
    """An agent that was started or restarted, or still is about to be."""

    status: Literal["started", "restarted", "starting", "restarting"]
    name: str
    port: int | None
    pid: int | None


class WireStopped(Document):
    """An agent that was stopped, or still is about to be."""

    status: Literal["stopped", "stopping"]
    name: str


class WireStatus(Document):
    """One agent, as ATOLL shows it."""

    name: str
    status: str
    port: int | None
    pid: int | None
    checksum: str
    start_time: str | None
    restart_count: int
    health_status: str
    error_message: str | None


class WireDiagnostics(Document):
    """Everything that ATOLL shows of an agent that failed."""

    agent_name: str
    status: str
    diagnostics: dict[str, Any]
    error_message: str | None
    exit_code: int | None
    stdout: str
    stderr: str
    config_path: str
    timestamp: str


class NamedAgent(BaseModel):
    """The body of a start, stop or restart.

    Attributes:
        agent_name: Which agent.
    """

    agent_name: Annotated[str, Field(min_length=1, max_length=1000)]
