"""What a deployment would do, told beforehand."""

from __future__ import annotations

from http import HTTPStatus

import falcon
from pydantic import BaseModel, ConfigDict

from deployer.api import documents, inputs, problem_sets
from deployer.api.answers import write
from deployer.api.deployments import Checksum
from deployer.api.operations import operation
from deployer.api.permissions import caller_of
from deployer.api.services import Services
from deployer.errors import TooBusyError
from deployer.keys import Scope
from deployer.strategies import choose_strategy


class PlanRequest(BaseModel):
    """What might be deployed, and how.

    Attributes:
        package: The MD5 or SHA-256 of an uploaded package.
        strategy: How it would take over; by default what its manifest says.
    """

    model_config = ConfigDict(extra="forbid")

    package: Checksum
    strategy: str | None = None


class AgentPlan:
    """A look ahead, at ``/v1/agents/{agent}/plan``."""

    def __init__(self, services: Services) -> None:
        """Plan through services."""
        self._services = services

    @operation(
        "Say what deploying a package would do",
        {HTTPStatus.OK: documents.Plan},
        scope=Scope.DEPLOY,
        problems=(
            *problem_sets.AGENT,
            *problem_sets.JSON_BODY,
            *problem_sets.DEPLOYMENT,
            TooBusyError,
        ),
        body=PlanRequest,
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, agent: str) -> None:
        """Resolve, compare, choose; nothing is changed."""
        asked = inputs.json_body(req, PlanRequest)
        store = self._services.parts.store
        package = store.packages.get(asked.package, caller_of(req).agents)
        strategy = choose_strategy(asked.strategy, package.manifest)
        with self._services.waiting.required_place(
            caller_of(req).who
        ):  # an index may take its time
            plan = self._services.plans.plan(agent, package, strategy)
        write(resp, documents.plan(plan))
