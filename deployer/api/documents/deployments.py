"""How a deployment is written, with its steps."""

from __future__ import annotations

from datetime import datetime

from deployer import model
from deployer.api.documents.agents import Connection, connection
from deployer.api.documents.scans import Scan, scan
from deployer.api.documents.shapes import Document, Md5, Sha256
from deployer.api.documents.signatures import Signature, signature
from deployer.model import DeploymentStatus, Outcome, Strategy
from deployer.statuses import AgentView
from deployer.trust import Voucher


class Step(Document):
    """A named part of a deployment.

    Attributes:
        name: Such as install.
        outcome: How it ended, or that it runs.
        started_at: When it began.
        ended_at: When it ended; null while it runs.
        duration_seconds: How long it took; null while it runs.
        message: A sentence for people; may be empty.
    """

    name: str
    outcome: Outcome
    started_at: datetime
    ended_at: datetime | None
    duration_seconds: float | None
    message: str


class Failure(Document):
    """Why a deployment failed."""

    code: str
    detail: str
    cause: str
    hint: str
    evidence: list[str]


class Deployment(Document):
    """One attempt to put a release live.

    Attributes:
        id: By which it is asked for.
        agent: Whose release it is.
        package: The MD5 of the package.
        sha256: The SHA-256 of the package.
        signature: Who vouches for the package; null: nobody.
        release: The number of the release; null before that is made.
        is_rollback: Whether the release was there before.
        strategy: How it takes over from the one before.
        start: Whether it is started, or only installed.
        force: Whether a new release is made even of the package that is current.
        status: How far it is, or how it ended.
        created_at: When it was asked for.
        started_at: When it began; null while it waits for its turn.
        ended_at: When it was over.
        duration_seconds: How long it took; null until it is over.
        steps: What was done so far, in that order.
        scans: What scanners said of the release.
        failure: Why it failed; null: it did not.
        connection: Where the agent is reached, once it succeeded.
        agent_url: The agent's address in this API.
    """

    id: str
    agent: str
    package: Md5
    sha256: Sha256
    signature: Signature | None
    release: int | None
    is_rollback: bool
    strategy: Strategy
    start: bool
    force: bool
    status: DeploymentStatus
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    duration_seconds: float | None
    steps: list[Step]
    scans: list[Scan]
    failure: Failure | None
    connection: Connection | None
    agent_url: str


class DeploymentList(Document):
    """Deployments, the newest first."""

    deployments: list[Deployment]
    count: int
    next: str | None


def deployment(
    noun: model.Deployment, view: AgentView | None, host: str, voucher: Voucher | None
) -> Deployment:
    """Write a deployment.

    Args:
        noun: What is written.
        view: The agent, if it is there; its connection info is shown once the deployment is over.
        host: By which the client knows this machine.
        voucher: The signature of its package, if there is one.
    """
    is_live = noun.status is DeploymentStatus.SUCCEEDED and view is not None
    return Deployment(
        id=noun.id,
        agent=noun.agent,
        package=noun.md5,
        sha256=noun.sha256,
        signature=signature(voucher),
        release=noun.release,
        is_rollback=noun.is_rollback,
        strategy=noun.strategy,
        start=noun.start,
        force=noun.force,
        status=noun.status,
        created_at=noun.created_at,
        started_at=noun.started_at,
        ended_at=noun.ended_at,
        duration_seconds=_seconds(noun.started_at, noun.ended_at),
        steps=[step(each) for each in noun.steps],
        scans=[scan(each) for each in noun.scans],
        failure=None
        if noun.failure is None
        else Failure(
            code=noun.failure.code,
            detail=noun.failure.detail,
            cause=noun.failure.cause,
            hint=noun.failure.hint,
            evidence=list(noun.failure.evidence),
        ),
        connection=connection(view, host) if is_live and view is not None else None,
        agent_url=f"/v1/agents/{noun.agent}",
    )


def step(noun: model.Step) -> Step:
    """Write a step."""
    return Step(
        name=noun.name,
        outcome=noun.outcome,
        started_at=noun.started_at,
        ended_at=noun.ended_at,
        duration_seconds=_seconds(noun.started_at, noun.ended_at),
        message=noun.message,
    )


def _seconds(begin: datetime | None, end: datetime | None) -> float | None:
    if begin is None or end is None:
        return None
    return round((end - begin).total_seconds(), 3)
