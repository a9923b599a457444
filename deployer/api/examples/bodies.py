"""An example of each body that the API takes, and of what it answers that is no JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel

from deployer.api.agent_secrets import SecretRequest
from deployer.api.deployments import DeploymentRequest
from deployer.api.documents.atoll import NamedAgent
from deployer.api.examples.documents import MD5
from deployer.api.keys import KeyRequest
from deployer.api.plans import PlanRequest
from deployer.api.releases import RollbackRequest
from deployer.keys import Scope

_BODIES: Final[tuple[BaseModel, ...]] = (
    DeploymentRequest(package=MD5, strategy="rehearse"),
    PlanRequest(package=MD5),
    RollbackRequest(to=1),
    KeyRequest(name="ci", scope=Scope.DEPLOY, agents=("web-*",), expires_in_days=90),
    SecretRequest(value="an example, and no secret", agents=("billing-*",)),
    NamedAgent(agent_name="greeter"),
)

BODIES: Final[Mapping[type[BaseModel], BaseModel]] = {type(each): each for each in _BODIES}
"""By their models."""

TEXTS: Final[Mapping[str, str]] = {
    "text/event-stream": (
        "retry: 1000\n\n"
        "id: 41\n"
        'data: {"id": 41, "at": "2026-03-06T12:00:05Z", "agent": "greeter",'
        ' "kind": "agent.stopped", "message": "greeter was stopped"}\n\n'
    ),
    "text/plain": (
        "# HELP atoll_deployer_agent_up Whether the agent answers.\n"
        "# TYPE atoll_deployer_agent_up gauge\n"
        'atoll_deployer_agent_up{agent="greeter"} 1.0\n'
    ),
    "text/css": "body { margin: 0; }\n",
    "text/javascript": "export const seconds = 1;\n",
    "image/svg+xml": '<svg xmlns="http://www.w3.org/2000/svg"/>\n',
    "text/html": "<!DOCTYPE html>\n<html>...</html>\n",
}
"""By media types."""
