"""Deployments and their steps, as frozen nouns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from deployer.client.answers import SECONDS, TEXTS, TIME, Answer
from deployer.client.nouns.connections import Connection
from deployer.client.nouns.scans import SCANS, Scan
from deployer.vocabulary import DeploymentStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Answer):
    """A named part of a deployment.

    Attributes:
        name: Such as ``install``; ``upload`` is the client's own.
        outcome: running, done or failed.
        started_at: When it began.
        ended_at: When it ended; None while it runs.
        duration_seconds: How long it took, or has run until now.
        message: A sentence for people; may be empty.
    """

    name: str
    outcome: str = "running"
    started_at: datetime | None = field(default=None, metadata=TIME)
    ended_at: datetime | None = field(default=None, metadata=TIME)
    duration_seconds: float | None = field(default=None, metadata=SECONDS)
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure(Answer):
    """Why a deployment failed; ``code`` names a class of `deployer.errors`."""

    code: str
    detail: str
    cause: str = ""
    hint: str = ""
    evidence: tuple[str, ...] = field(default=(), metadata=TEXTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment(Answer):
    """One attempt to put a release live, as far as it has come."""

    id: str
    agent: str
    status: str
    package: str = ""
    sha256: str = ""
    release: int | None = None
    strategy: str = ""
    created_at: datetime | None = field(default=None, metadata=TIME)
    started_at: datetime | None = field(default=None, metadata=TIME)
    ended_at: datetime | None = field(default=None, metadata=TIME)
    duration_seconds: float | None = field(default=None, metadata=SECONDS)
    steps: tuple[Step, ...] = field(
        default=(), metadata={"read": lambda each: tuple(map(Step.read, each))}
    )
    failure: Failure | None = field(default=None, metadata={"read": Failure.read})
    scans: tuple[Scan, ...] = field(default=(), metadata=SCANS)
    agent_url: str | None = None
    connection: Connection | None = field(default=None, metadata={"read": Connection.read})

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.status not in {DeploymentStatus.QUEUED, DeploymentStatus.RUNNING}

    @property
    def succeeded(self) -> bool:
        """Whether the release is live."""
        return self.status == DeploymentStatus.SUCCEEDED


@dataclass(frozen=True, slots=True)
class Deployed:
    """What a deploy came to.

    Attributes:
        connection: Where the agent is; None when it was asked not to start.
        deployment: What was done; None when the package was installed already, so that at most
            the agent was started.
    """

    connection: Connection | None
    deployment: Deployment | None

    @property
    def document(self) -> Mapping[str, Any]:
        """The server's last answer as it came."""
        answer = self.deployment or self.connection
        return answer.document if answer else {}
