"""Releases of an agent: listed, gone back to, deleted."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import falcon
from pydantic import BaseModel, ConfigDict, Field

from deployer import model
from deployer.api import documents, inputs, problem_sets
from deployer.api.answers import write
from deployer.api.deployments import follow
from deployer.api.idempotency import idempotency_id
from deployer.api.operations import PAGE, WAIT, operation
from deployer.api.permissions import caller_of
from deployer.api.services import Services
from deployer.errors import (
    AgentBusyError,
    DeployerError,
    ReleaseInUseError,
    ReleaseUnknownError,
)
from deployer.keys import Scope
from deployer.launches import find_obstacle
from deployer.parts import Parts

_DELETE_SECONDS: Final = 60.0


class RollbackRequest(BaseModel):
    """Where to go back to.

    Attributes:
        to: The number of a release; None: the good one before the current.
    """

    model_config = ConfigDict(extra="forbid")

    to: int | None = Field(default=None, ge=1, le=999_999_999)


class Releases:
    """The releases of an agent, at ``/v1/agents/{agent}/releases``."""

    def __init__(self, services: Services) -> None:
        """Read through services."""
        self._parts = services.parts
        self._store = services.parts.store

    @operation(
        "List an agent's releases",
        {HTTPStatus.OK: documents.ReleaseList},
        scope=Scope.READ,
        problems=problem_sets.AGENT,
        query=PAGE,
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, agent: str) -> None:
        """List them, the newest first, a page at a time."""
        limit, before = inputs.page_limit(req), inputs.cursor(req)
        owner = self._store.agents.get(agent)
        found = [
            each
            for each in self._store.releases.of_agent(agent)
            if before is None or each.number < before
        ]
        page, more = inputs.cut_page(found, limit, lambda each: str(each.number))
        items = [_document(self._parts, each, owner) for each in page]
        write(resp, documents.ReleaseList(releases=items, count=len(items), next=more))


class OneRelease:
    """A release, at ``/v1/agents/{agent}/releases/{number}``."""

    def __init__(self, services: Services) -> None:
        """Read and delete through services."""
        self._services = services
        self._parts = services.parts
        self._store = services.parts.store

    @operation(
        "Show a release",
        {HTTPStatus.OK: documents.Release},
        scope=Scope.READ,
        problems=(*problem_sets.AGENT, ReleaseUnknownError),
    )
    def on_get(self, _req: falcon.Request, resp: falcon.Response, agent: str, number: int) -> None:
        """Show one."""
        owner = self._store.agents.get(agent)
        found = self._store.releases.get(agent, number)
        write(resp, _document(self._parts, found, owner))

    @operation(
        "Delete a release",
        {HTTPStatus.NO_CONTENT: None, HTTPStatus.ACCEPTED: None},
        scope=Scope.DEPLOY,
        problems=(*problem_sets.AGENT, ReleaseUnknownError, ReleaseInUseError, AgentBusyError),
        query=WAIT,
    )
    def on_delete(
        self, req: falcon.Request, resp: falcon.Response, agent: str, number: int
    ) -> None:
        """Delete it, unless it is current or the one to go back to.

        204 when that is done within the wait, else 202.
        """
        seconds = inputs.wait_seconds(req, _DELETE_SECONDS)
        future = self._services.worker.delete_release(agent, number)
        if self._services.waiting.hold(future, seconds, inputs.is_gone(req), caller_of(req).who):
            future.result()
            resp.status = HTTPStatus.NO_CONTENT
        else:
            resp.status = HTTPStatus.ACCEPTED
            resp.location = f"/v1/agents/{agent}/releases/{number}"


def _document(parts: Parts, release: model.Release, owner: model.Agent) -> documents.Release:
    voucher = parts.trust.voucher(release.agent, release.sha256)
    reports = parts.store.scans.of_release(release)
    return documents.release(release, owner, rollback_obstacle(parts, release), voucher, reports)


def rollback_obstacle(parts: Parts, release: model.Release) -> str:
    """Say why a rollback to a release would be refused; empty when it would not."""
    try:
        parts.trust.require_vouched(release.agent, release.version, release.sha256)
        parts.secrets.require(release.agent, release.manifest)
    except DeployerError as error:
        return error.cause
    return find_obstacle(parts, release)


class Rollback:
    """A way back to an earlier release, at ``/v1/agents/{agent}/rollback``."""

    def __init__(self, services: Services) -> None:
        """Hand rollbacks to services."""
        self._services = services

    @operation(
        "Roll an agent back",
        {HTTPStatus.ACCEPTED: documents.Deployment, HTTPStatus.OK: documents.Deployment},
        scope=Scope.DEPLOY,
        problems=(
            *problem_sets.AGENT,
            *problem_sets.JSON_BODY,
            *problem_sets.DEPLOYMENT,
            ReleaseUnknownError,
            ReleaseInUseError,
        ),
        query=WAIT,
        body=RollbackRequest,
        is_body_optional=True,
        is_repeatable=True,
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, agent: str) -> None:
        """Queue a rollback and answer with its deployment."""
        seconds = inputs.wait_seconds(req)  # refused before anything is begun
        wanted = inputs.json_body(req, RollbackRequest, is_optional=True)
        deployment = self._services.worker.submit_rollback(agent, wanted.to, idempotency_id(req))
        follow(req, resp, self._services, deployment, seconds)
