"""The route table: which resource answers at which address."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from deployer.api import machine, packages
from deployer.api.agent_logs import AgentLogs
from deployer.api.agent_secrets import OneSecret, Secrets
from deployer.api.agents import (
    AgentAct,
    AgentKill,
    Agents,
    AgentWait,
    AgentWhy,
    OneAgent,
)
from deployer.api.atoll import Wire
from deployer.api.deployments import DeploymentCancel, Deployments, OneDeployment
from deployer.api.followed_deployments import DeploymentEvents
from deployer.api.keys import Keys, OneKey
from deployer.api.operations import Operation
from deployer.api.plans import AgentPlan
from deployer.api.releases import OneRelease, Releases, Rollback
from deployer.api.services import Services
from deployer.api.signatures import PackageSignature
from deployer.api.timelines import Events
from deployer.statuses import AgentView

METHODS: Final = ("get", "head", "post", "put", "delete")


@dataclass(frozen=True, slots=True)
class Route:
    """An address and what answers there.

    Attributes:
        path: With falcon's converters in it.
        resource: Its responders are ``on_METHOD``, or ``on_METHOD_SUFFIX``.
        tag: The group that it stands in.
        suffix: Chooses among the responders of a resource with several.
        summary: A few words, where several routes share one responder.
        takes_name: The agent's name stands in the address instead of the body.
    """

    path: str
    resource: object
    tag: str
    suffix: str | None = None
    summary: str = ""
    takes_name: bool = False

    def responder(self, method: str) -> object:
        """Find what answers a method; None where nothing does."""
        suffix = f"_{self.suffix}" if self.suffix else ""
        return getattr(self.resource, f"on_{method}{suffix}", None)

    def operation(self, method: str) -> Operation | None:
        """Find what stands beside the responder of a method."""
        described: Operation | None = getattr(self.responder(method), "operation", None)
        return described


def route_table(services: Services) -> tuple[Route, ...]:
    """Make the resources of one server and say where each answers."""
    receiver = packages.PackageReceiver(services)
    agents = services.agents
    one = "/v1/agents/{agent:agent}"
    acts: dict[str, Callable[[str], AgentView]] = {
        "start": agents.start,
        "stop": agents.stop,
        "restart": agents.restart,
    }
    return (
        Route("/livez", machine.Livez(), "server"),
        Route("/readyz", machine.Readyz(services), "server"),
        Route("/metrics", machine.Metrics(services), "server"),
        Route("/v1/server", machine.Server(services), "server"),
        Route("/v1/ports", machine.Ports(services), "server"),
        Route("/v1/events", Events(services), "server"),
        Route("/v1/secrets", Secrets(services), "secrets"),
        Route("/v1/secrets/{secret}", OneSecret(services), "secrets"),
        Route("/v1/packages", packages.Packages(services, receiver), "packages"),
        Route("/v1/packages/{checksum}", packages.OnePackage(services), "packages"),
        Route("/v1/packages/{checksum}/signature", PackageSignature(services), "packages"),
        Route("/v1/deployments", Deployments(services, receiver), "deployments"),
        Route("/v1/deployments/{deployment_id}", OneDeployment(services), "deployments"),
        Route("/v1/deployments/{deployment_id}/events", DeploymentEvents(services), "deployments"),
        Route("/v1/deployments/{deployment_id}/cancel", DeploymentCancel(services), "deployments"),
        Route("/v1/agents", Agents(services), "agents"),
        Route(one, OneAgent(services), "agents"),
        *(
            Route(
                f"{one}/{verb}",
                AgentAct(services, act),
                "agents",
                summary=f"{verb.capitalize()} an agent",
            )
            for verb, act in acts.items()
        ),
        Route(f"{one}/kill", AgentKill(services), "agents"),
        Route(f"{one}/wait", AgentWait(services), "agents"),
        Route(f"{one}/logs", AgentLogs(services), "agents"),
        Route(f"{one}/why", AgentWhy(services), "agents"),
        Route(f"{one}/plan", AgentPlan(services), "deployments"),
        Route(f"{one}/releases", Releases(services), "releases"),
        Route(f"{one}/releases/{{number:release}}", OneRelease(services), "releases"),
        Route(f"{one}/rollback", Rollback(services), "releases"),
        Route("/v1/keys", Keys(services), "keys"),
        Route("/v1/keys/{key_id}", OneKey(services), "keys"),
        *_wire_routes(Wire(services, receiver)),
    )


def _wire_routes(wire: Wire) -> tuple[Route, ...]:
    """ATOLL's own addresses, and those that only its documents name."""
    acts = ("start", "stop", "restart")
    return (
        Route("/health", wire, "atoll", "health"),
        Route("/agents", wire, "atoll", "list"),
        Route("/check", wire, "atoll", "check"),
        Route("/deploy", wire, "atoll", "deploy"),
        Route("/agents/deploy", wire, "atoll", "deploy"),
        *(Route(f"/{act}", wire, "atoll", act) for act in acts),
        *(Route(f"/agents/{{agent}}/{act}", wire, "atoll", act, takes_name=True) for act in acts),
        Route("/status/{agent:path}", wire, "atoll", "status"),
        Route("/agents/{agent}", wire, "atoll", "status"),
        Route("/agents/{agent}/diagnostics", wire, "atoll", "diagnostics"),
    )
