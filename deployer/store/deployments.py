"""Rows about deployments and their steps."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final

from deployer.agent_patterns import EVERY_AGENT
from deployer.errors import DeploymentUnknownError, RowDamagedError
from deployer.model import (
    Deployment,
    DeploymentStatus,
    Failure,
    Outcome,
    Package,
    Step,
    Strategy,
)
from deployer.store.damaged_rows import CarefulReader
from deployer.store.database import UNKNOWN_TIME, Database, now, to_text, to_time
from deployer.store.scans import read_reports

_STATUSES: Final = json.dumps(list(DeploymentStatus))
_UNKNOWN: Final = DeploymentStatus.FAILED
_DEPLOYMENT_ID: Final = re.compile(r"[1-9][0-9]{0,17}")
"""As SQLite counts them, in the one spelling that was given out."""

"""What a status that cannot be read is taken for."""


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks of a deployment.

    Attributes:
        package: What to deploy.
        strategy: How the new release takes over.
        start: False: install and make current only.
        force: Make a new release even of the current package.
        release: A release that exists already; None: make one.
        idempotency_id: Of the row about the key that the request came with; None: without one.
    """

    package: Package
    strategy: Strategy
    start: bool = True
    force: bool = False
    release: int | None = None
    idempotency_id: str | None = None


def _failure(text: str | None) -> Failure | None:
    if text is None:
        return None
    fields = json.loads(text)
    return Failure(**{**fields, "evidence": tuple(fields["evidence"])})


def _damage_failure(deployment_id: int, damage: str) -> Failure:
    return Failure(
        code=RowDamagedError.code,
        detail=f"cannot read deployment {deployment_id} whole: its row in state.db is damaged:"
        f" {damage}",
        cause="its row in state.db is damaged",
        hint="deploy again, if it did not end as it was to",
    )


def _watched(deployment_id: str) -> str:
    return f"deployment {deployment_id.lstrip('0')}"


def _step(row: sqlite3.Row) -> Step:
    reader = CarefulReader(row)
    step = Step(
        name=row["name"],
        started_at=reader.read("started_at", datetime.fromisoformat, UNKNOWN_TIME),
        ended_at=reader.read("ended_at", to_time, None),
        outcome=reader.read("outcome", Outcome, Outcome.FAILED),
        message=row["message"],
    )
    if not reader.damage:
        return step
    return replace(step, message=f"its row in state.db is damaged: {reader.damage}")


class DeploymentRows:
    """Attempts to put a release live."""

    def __init__(self, database: Database) -> None:
        """Keep rows in database."""
        self._database = database

    def submit(self, request: Request, canceled: Collection[str] = ()) -> Deployment:
        """Queue a deployment, or join the one that already waits or runs for the very same.

        Ten pushes of one package at once thus make one release, by the strategy of the first: the
        look and the insert are one transaction.

        Args:
            request: What is to be deployed, and how.
            canceled: Ids of those that run and are about to end all the same: none is joined.
        """
        with self._database.transaction() as connection:
            twin = connection.execute(
                "SELECT id FROM deployments WHERE status IN ('queued', 'running')"
                " AND agent = ? AND sha256 = ? AND start = ? AND force = ? AND is_rollback = ?"
                " AND (? IS NULL OR release = ?)"
                " AND id NOT IN (SELECT value FROM json_each(?))",
                (
                    request.package.agent,
                    request.package.sha256,
                    request.start,
                    request.force,
                    request.release is not None,
                    request.release,
                    request.release,
                    json.dumps([int(each) for each in canceled]),
                ),
            ).fetchone()
            number = self._add(connection, request) if twin is None else twin["id"]
            connection.execute(
                "UPDATE idempotency_keys SET deployment = ? WHERE id = ?",
                (number, request.idempotency_id),
            )
        return self.get(str(number))

    @staticmethod
    def _add(connection: sqlite3.Connection, request: Request) -> int | None:
        return connection.execute(
            "INSERT INTO deployments"
            " (agent, sha256, md5, strategy, start, force, status, created_at, release,"
            " is_rollback) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                request.package.agent,
                request.package.sha256,
                request.package.md5,
                request.strategy,
                request.start,
                request.force,
                DeploymentStatus.QUEUED,
                to_text(now()),
                request.release,
                request.release is not None,
            ),
        ).lastrowid

    def get(self, deployment_id: str, patterns: tuple[str, ...] = EVERY_AGENT) -> Deployment:
        """Read one deployment with its steps, if its agent's name fits one of patterns.

        Raises:
            DeploymentUnknownError: There is none of this id.
        """
        row = None
        if _DEPLOYMENT_ID.fullmatch(deployment_id):
            row = self._database.find(
                "SELECT * FROM deployments WHERE id = ?"
                " AND EXISTS (SELECT 1 FROM json_each(?) WHERE agent GLOB value)",
                (int(deployment_id), json.dumps(patterns)),
            )
        if row is None:
            raise DeploymentUnknownError(
                f"cannot find deployment {deployment_id}: there is none of this id",
                cause=f"No such deployment: {deployment_id}",
                hint="GET /v1/deployments lists what there is",
            )
        return self._deployment(row)

    def watching(self, deployment_id: str) -> AbstractContextManager[threading.Event]:
        """Give what is set whenever this deployment, or a step of it, was changed.

        Who waits for any commit reads a deployment for each step of all the others.
        """
        return self._database.watching(_watched(deployment_id))

    def before(
        self,
        cursor: int | None,
        *,
        limit: int,
        agent: str | None = None,
        patterns: tuple[str, ...] = EVERY_AGENT,
    ) -> tuple[Deployment, ...]:
        """Read deployments older than the cursor, the newest first.

        Args:
            cursor: The id of the oldest one that is known; None to begin with the newest.
            limit: How many at most.
            agent: Only those of this agent.
            patterns: Only those of agents of such names.
        """
        rows = self._database.read(
            "SELECT * FROM deployments WHERE (? IS NULL OR id < ?) AND (? IS NULL OR agent = ?)"
            " AND EXISTS (SELECT 1 FROM json_each(?) WHERE agent GLOB value)"
            " ORDER BY id DESC LIMIT ?",
            (cursor, cursor, agent, agent, json.dumps(patterns), limit),
        )
        return tuple(self._deployment(row) for row in rows)

    def count_by_status(self) -> dict[DeploymentStatus, int]:
        """Count all deployments there have been; a status that none has is left out."""
        rows = self._database.read("SELECT status, count(*) FROM deployments GROUP BY status")
        counts: dict[DeploymentStatus, int] = {}
        for status, count in rows:
            word = DeploymentStatus(status) if status in set(DeploymentStatus) else _UNKNOWN
            counts[word] = counts.get(word, 0) + count
        return counts

    def reopen_damaged(self) -> None:
        """Take what has not ended, and says garbage of how it stands, for running.

        Meant for the start of a server, which then undoes it as it does all that runs.
        """
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE OR IGNORE deployments SET status = ? WHERE ended_at IS NULL"
                " AND status NOT IN (SELECT value FROM json_each(?))",
                (DeploymentStatus.RUNNING, _STATUSES),
            )

    def unfinished(self) -> tuple[Deployment, ...]:
        """Read what waits or runs, the oldest first."""
        rows = self._database.read(
            "SELECT * FROM deployments WHERE status IN ('queued', 'running') ORDER BY id"
        )
        return tuple(self._deployment(row) for row in rows)

    def begin(self, deployment: Deployment) -> bool:
        """Write down that a worker took it, unless it was canceled while it waited.

        Returns:
            Whether it is the worker's now.
        """
        return self._leave_queue(
            deployment, "status = ?, started_at = ?", DeploymentStatus.RUNNING, to_text(now())
        )

    def cancel_queued(self, deployment: Deployment) -> bool:
        """Write down that it was canceled, if no worker has taken it yet.

        Returns:
            Whether it is over now.
        """
        return self._leave_queue(
            deployment, "status = ?, ended_at = ?", DeploymentStatus.CANCELED, to_text(now())
        )

    def set_release(self, deployment: Deployment, number: int) -> None:
        """Write down the release it makes."""
        self._set(deployment.id, release=number)

    def end(
        self, deployment: Deployment, status: DeploymentStatus, failure: Failure | None = None
    ) -> None:
        """Write down that it is over, and why it failed; one that is over stays as it ended."""
        self._set(
            deployment.id,
            status=status,
            ended_at=to_text(now()),
            failure=None if failure is None else json.dumps(asdict(failure)),
        )

    def begin_step(self, deployment: Deployment, name: str) -> int:
        """Add a step that begins now; return its position."""
        with self._database.transaction() as connection:
            self._database.tell(_watched(deployment.id))
            (position,) = connection.execute(
                "INSERT INTO steps (deployment, position, name, started_at, outcome)"
                " SELECT ?, coalesce(max(position), 0) + 1, ?, ?, ? FROM steps"
                " WHERE deployment = ? RETURNING position",
                (int(deployment.id), name, to_text(now()), Outcome.RUNNING, int(deployment.id)),
            ).fetchone()
            return int(position)

    def end_step(
        self, deployment: Deployment, position: int, outcome: Outcome, message: str
    ) -> None:
        """Write down how a step ended."""
        with self._database.transaction() as connection:
            self._database.tell(_watched(deployment.id))
            connection.execute(
                "UPDATE steps SET ended_at = ?, outcome = ?, message = ?"
                " WHERE deployment = ? AND position = ?",
                (to_text(now()), outcome, message, int(deployment.id), position),
            )

    def _leave_queue(self, deployment: Deployment, assignments: str, *values: str | None) -> bool:
        """Change what is queued, in one statement: a worker and a cancel may come at once."""
        with self._database.transaction() as connection:
            self._database.tell(_watched(deployment.id))
            cursor = connection.execute(
                f"UPDATE deployments SET {assignments}"  # noqa: S608 - our own words
                " WHERE id = ? AND status = 'queued'",
                (*values, int(deployment.id)),
            )
        return cursor.rowcount == 1

    def _set(self, deployment_id: str, **columns: str | int | None) -> None:
        assignments = ", ".join(f"{name} = ?" for name in columns)
        with self._database.transaction() as connection:
            self._database.tell(_watched(deployment_id))
            connection.execute(
                f"UPDATE deployments SET {assignments}"  # noqa: S608 - our own words
                " WHERE id = ? AND status IN ('queued', 'running')",
                (*columns.values(), int(deployment_id)),
            )

    def _deployment(self, row: sqlite3.Row) -> Deployment:
        steps = self._database.read(
            "SELECT * FROM steps WHERE deployment = ? ORDER BY position", (row["id"],)
        )
        reader = CarefulReader(row)
        deployment = Deployment(
            id=str(row["id"]),
            agent=row["agent"],
            sha256=row["sha256"],
            md5=row["md5"],
            strategy=reader.read("strategy", Strategy, Strategy.REHEARSE),
            start=bool(row["start"]),
            force=bool(row["force"]),
            status=reader.read("status", DeploymentStatus, _UNKNOWN),
            created_at=reader.read("created_at", datetime.fromisoformat, UNKNOWN_TIME),
            release=row["release"],
            is_rollback=bool(row["is_rollback"]),
            started_at=reader.read("started_at", to_time, None),
            ended_at=reader.read("ended_at", to_time, None),
            failure=reader.read("failure", _failure, None),
            steps=tuple(_step(step) for step in steps),
            scans=reader.read("id", partial(read_reports, self._database), ()),
        )
        if not reader.damage:
            return deployment
        return replace(deployment, failure=_damage_failure(row["id"], reader.damage))
