"""Deployments as they go on, step by step, at ``/v1/deployments/{id}/events``."""

from __future__ import annotations

import re
from dataclasses import replace
from http import HTTPStatus
from typing import Final

import falcon

from deployer import model
from deployer.api import documents, streams
from deployer.api.deployments import deployment_document
from deployer.api.operations import WAIT, operation
from deployer.api.permissions import caller_of
from deployer.api.services import LOOK_UP_SECONDS, Services
from deployer.errors import DeploymentUnknownError, TooBusyError
from deployer.keys import Scope
from deployer.model import Outcome

_ID: Final = re.compile(r"(?P<told>[0-9]{1,9})(?P<end>\.end)?")


class DeploymentEvents:
    """The course of a deployment, as it is and as it goes on."""

    def __init__(self, services: Services) -> None:
        """Read deployments through services."""
        self._services = services
        self._store = services.parts.store

    @operation(
        "Follow a deployment",
        {HTTPStatus.OK: streams.MEDIA_TYPE, HTTPStatus.NO_CONTENT: None},
        scope=Scope.READ,
        problems=(DeploymentUnknownError, TooBusyError),
        query=WAIT,
        is_filtered=True,
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, deployment_id: str) -> None:
        """Send each step as it begins and ends, and at the end the whole deployment.

        204 tells a browser that there is no more to come.
        """
        self._store.deployments.get(deployment_id, caller_of(req).agents)
        found = streams.last_event_id(req, _ID)
        if found is not None and found["end"]:
            resp.status = HTTPStatus.NO_CONTENT
            return
        told = 0 if found is None else int(found["told"])
        source = self._events(req, deployment_id, told)
        instead = f"/v1/deployments/{deployment_id}?wait=60&after={told}"
        streams.send(req, resp, self._services.waiting, source, instead)

    def _events(self, req: falcon.Request, deployment_id: str, told: int) -> streams.Source:
        """Give what happens in a deployment beyond so many events that were told already."""
        with self._store.deployments.watching(deployment_id) as news:
            while True:
                news.clear()
                deployment = self._store.deployments.get(deployment_id)
                happened = course(deployment)
                for each in happened[told:]:
                    told += 1
                    document = documents.step(each).model_dump(mode="json")
                    yield streams.json_event("step", document, str(told))
                if deployment.status.is_over:
                    whole = deployment_document(req, self._services, deployment)
                    document = whole.model_dump(mode="json")
                    yield streams.json_event("end", document, f"{told}.end")
                    return
                news.wait(LOOK_UP_SECONDS)
                yield None


def course(deployment: model.Deployment) -> list[model.Step]:
    """List what happened to a deployment's steps in its order: each as it began, and as it ended.

    Only ever added to, so that its length is a cursor. Each step ends before the next one begins;
    their times do not tell, as a clock may be set back meanwhile.
    """
    happened: list[model.Step] = []
    for step in deployment.steps:
        happened.append(replace(step, ended_at=None, outcome=Outcome.RUNNING, message=""))
        if step.ended_at is not None:
            happened.append(step)
    return happened
