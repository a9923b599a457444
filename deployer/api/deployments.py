"""Deployments: asked for, watched, canceled."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from concurrent.futures import Future
from http import HTTPStatus
from typing import Annotated, Final

import falcon
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from deployer import model
from deployer.api import documents, inputs, problem_sets
from deployer.api.agents import answer_act, called_host
from deployer.api.answers import write
from deployer.api.idempotency import idempotency_id
from deployer.api.operations import PAGE, WAIT, operation
from deployer.api.packages import UPLOAD_TYPES, PackageReceiver
from deployer.api.permissions import caller_of
from deployer.api.problems import write_problem
from deployer.api.services import LOOK_UP_SECONDS, Services
from deployer.errors import (
    AgentUnknownError,
    DeployerError,
    DeploymentCanceledError,
    DeploymentUnknownError,
    error_class,
)
from deployer.keys import Scope
from deployer.model import DeploymentStatus
from deployer.statuses import AgentView
from deployer.store import Request
from deployer.strategies import choose_strategy

_START_SECONDS: Final = 60.0
_OPTIONS: Final = ("strategy", "start", "force")
_QUERY: Final = {
    **WAIT,
    "strategy": "rehearse, replace or parallel; by default what the manifest says",
    "force": "Make a new release even of the package that is current",
    "start": "false: install only",
}

Checksum = Annotated[
    str,
    BeforeValidator(lambda value: value.strip().lower() if isinstance(value, str) else value),
    Field(pattern="^([0-9a-f]{32}|[0-9a-f]{64})$"),
]


class DeploymentRequest(BaseModel):
    """What to deploy, and how.

    Attributes:
        package: The MD5 or SHA-256 of an uploaded package.
        strategy: How it takes over; by default what its manifest says.
        force: Make a new release even when this package is current.
        start: False: install only.
    """

    model_config = ConfigDict(extra="forbid")

    package: Checksum
    strategy: str | None = None
    force: bool = False
    start: bool = True


class Deployments:
    """All deployments, at ``/v1/deployments``."""

    def __init__(self, services: Services, receiver: PackageReceiver) -> None:
        """Ask services for deployments; a ZIP in the body is taken in by receiver."""
        self._services = services
        self._receiver = receiver
        self._rows = services.parts.store.deployments

    @operation(
        "List deployments, the newest first",
        {HTTPStatus.OK: documents.DeploymentList},
        scope=Scope.READ,
        query={**PAGE, "agent": "Only those of this agent"},
        is_filtered=True,
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List deployments, a page at a time."""
        limit = inputs.page_limit(req)
        rows = self._rows.before(
            inputs.cursor(req),
            limit=limit + 1,
            agent=req.get_param("agent") or None,
            patterns=caller_of(req).agents,
        )
        page, more = inputs.cut_page(rows, limit, lambda each: each.id)
        host = called_host(req, self._services)
        trust = self._services.parts.trust
        items = [
            documents.deployment(each, None, host, trust.voucher(each.agent, each.sha256))
            for each in page
        ]
        write(resp, documents.DeploymentList(deployments=items, count=len(items), next=more))

    @operation(
        "Deploy a package",
        {
            HTTPStatus.OK: (documents.Connection, documents.Deployment),
            HTTPStatus.ACCEPTED: (documents.Connection, documents.Deployment),
        },
        scope=Scope.DEPLOY,
        problems=(*problem_sets.UPLOAD, *problem_sets.DEPLOYMENT),
        query=_QUERY,
        body=(DeploymentRequest, *UPLOAD_TYPES),
        is_filtered=True,
        is_repeatable=True,
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Deploy an uploaded package, or the ZIP in the body with the options as query."""
        # Before anything is done: a request that is refused must not have happened.
        seconds = inputs.wait_seconds(req)
        seconds_to_start = inputs.wait_seconds(req, _START_SECONDS)
        is_upload = inputs.media_type(req) in UPLOAD_TYPES
        wanted = self._uploaded(req) if is_upload else self._named(req)
        result = self._services.worker.deploy(wanted)
        if isinstance(result, Future):
            act = wanted.package.agent, result
            answer_act(req, resp, self._services, act, seconds_to_start)
            return
        follow(req, resp, self._services, result, seconds)

    def _named(self, req: falcon.Request) -> Request:
        """Read a request in JSON, which names a package that is here already."""
        asked = inputs.json_body(req, DeploymentRequest)
        store = self._services.parts.store
        package = store.packages.get(asked.package, caller_of(req).agents)
        req.context.agent, req.context.target = package.agent, package.md5
        strategy = choose_strategy(asked.strategy, package.manifest)
        return Request(
            package=package,
            strategy=strategy,
            start=asked.start,
            force=asked.force,
            idempotency_id=idempotency_id(req),
        )

    def _uploaded(self, req: falcon.Request) -> Request:
        """Read a request that is the package itself; options stand in the query, or the form."""
        in_query = {name: req.get_param(name) for name in _OPTIONS if req.has_param(name)}
        self._read(in_query)  # before the body, which may be large
        package, _, in_form = self._receiver.receive(req)
        strategy, start, force = self._read({**in_form, **in_query})
        chosen = choose_strategy(strategy, package.manifest)
        return Request(
            package=package,
            strategy=chosen,
            start=start,
            force=force,
            idempotency_id=idempotency_id(req),
        )

    def _read(self, options: Mapping[str, str | None]) -> tuple[str | None, bool, bool]:
        """Read strategy, start and force out of texts by their names."""
        strategy = options.get("strategy") or None
        if strategy is not None:
            choose_strategy(strategy, "")
        return (
            strategy,
            inputs.boolean(options.get("start"), "start", default=True),
            inputs.boolean(options.get("force"), "force", default=False),
        )


class OneDeployment:
    """A deployment, at ``/v1/deployments/{id}``."""

    def __init__(self, services: Services) -> None:
        """Read deployments through services."""
        self._services = services

    @operation(
        "Show a deployment, or wait for it",
        {HTTPStatus.OK: documents.Deployment},
        scope=Scope.READ,
        problems=(DeploymentUnknownError,),
        query={**WAIT, "after": "Answer as soon as more than so many steps have begun or ended"},
        is_filtered=True,
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, deployment_id: str) -> None:
        """Show it with its steps; with ``wait``, when it is over or has gone on."""
        wait = inputs.wait_seconds(req)
        seen = inputs.cursor(req, "after")
        self._services.parts.store.deployments.get(deployment_id, caller_of(req).agents)
        deployment = wait_for(req, self._services, deployment_id, wait, seen)
        write(resp, deployment_document(req, self._services, deployment))


class DeploymentCancel:
    """The end of a deployment before its time, at ``/v1/deployments/{id}/cancel``."""

    def __init__(self, services: Services) -> None:
        """Cancel through services."""
        self._services = services

    @operation(
        "Cancel a deployment",
        {HTTPStatus.ACCEPTED: documents.Deployment, HTTPStatus.OK: documents.Deployment},
        scope=Scope.DEPLOY,
        problems=(DeploymentUnknownError,),
        is_filtered=True,
        is_repeatable=True,
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, deployment_id: str) -> None:
        """Ask it to end; 200 when it is over already."""
        store = self._services.parts.store
        found = store.deployments.get(deployment_id, caller_of(req).agents)
        req.context.agent, req.context.target = found.agent, deployment_id
        deployment = self._services.worker.cancel(deployment_id)
        resp.status = HTTPStatus.OK if deployment.status.is_over else HTTPStatus.ACCEPTED
        resp.location = f"/v1/deployments/{deployment_id}"
        write(resp, deployment_document(req, self._services, deployment))


def wait_for(
    req: falcon.Request,
    services: Services,
    deployment_id: str,
    seconds: float,
    seen: int | None = None,
) -> model.Deployment:
    """Wait until a deployment is over, or until more of its steps began or ended than were seen.

    Without a place for one more held request the answer is what is known now.
    """
    store = services.parts.store
    is_gone = inputs.is_gone(req)
    deadline = time.monotonic() + seconds
    with (
        services.waiting.place(caller_of(req).who) as may_wait,
        store.deployments.watching(deployment_id) as news,
    ):
        while True:
            news.clear()
            deployment = store.deployments.get(deployment_id)
            left = deadline - time.monotonic()
            is_in_vain = is_gone() or services.waiting.is_closed
            if deployment.status.is_over or left <= 0 or not may_wait or is_in_vain:
                return deployment
            if seen is not None and _progress(deployment) > seen:
                return deployment
            news.wait(min(left, LOOK_UP_SECONDS))


def follow(
    req: falcon.Request,
    resp: falcon.Response,
    services: Services,
    deployment: model.Deployment,
    seconds: float,
) -> None:
    """Answer with a deployment: 202 while it goes on, 200 or its problem when it is over."""
    req.context.target = deployment.id
    req.context.is_begun = True  # however it ends, it is what came of the request
    deployment = wait_for(req, services, deployment.id, seconds)
    resp.location = f"/v1/deployments/{deployment.id}"
    document = deployment_document(req, services, deployment)
    error = error_of(deployment)
    if error is not None:
        shown = document.model_dump(mode="json")
        write_problem(resp, error, request_id=req.context.request_id, deployment=shown)
        return
    resp.status = HTTPStatus.OK if deployment.status.is_over else HTTPStatus.ACCEPTED
    write(resp, document)


def follow_again(
    services: Services, req: falcon.Request, resp: falcon.Response, deployment_id: str
) -> None:
    """Answer with a deployment that was begun by a request like this, as `follow` does.

    Raises:
        DeploymentUnknownError: There is none of this id.
    """
    seconds = inputs.wait_seconds(req)
    deployment = services.parts.store.deployments.get(deployment_id)
    req.context.agent = deployment.agent
    follow(req, resp, services, deployment, seconds)


def error_of(deployment: model.Deployment) -> DeployerError | None:
    """Make the error again for which a deployment is over; None: it is not, or it succeeded."""
    failure = deployment.failure
    if failure is not None:
        return error_class(failure.code)(
            failure.detail, cause=failure.cause, hint=failure.hint, evidence=failure.evidence
        )
    if deployment.status is DeploymentStatus.CANCELED:
        return DeploymentCanceledError(
            f"cannot deploy {deployment.agent}: the deployment was canceled before it began",
            cause="canceled",
            hint="deploy again",
        )
    return None


def _progress(deployment: model.Deployment) -> int:
    return sum(1 if step.ended_at is None else 2 for step in deployment.steps)


def deployment_document(
    req: falcon.Request, services: Services, deployment: model.Deployment
) -> documents.Deployment:
    """Write a deployment for whoever asks."""
    view: AgentView | None = None
    # Its first deployment may have failed, or it was removed since.
    with contextlib.suppress(AgentUnknownError):
        view = services.agents.view(deployment.agent)
    voucher = services.parts.trust.voucher(deployment.agent, deployment.sha256)
    return documents.deployment(deployment, view, called_host(req, services), voucher)
