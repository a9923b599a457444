"""The server itself: is it there, does it take work, what does it hold, what happened."""

from __future__ import annotations

import threading
from http import HTTPStatus
from typing import Final

import falcon

from deployer import __version__, metrics, ports
from deployer.api import documents
from deployer.api.answers import write
from deployer.api.operations import operation
from deployer.api.permissions import caller_of
from deployer.api.services import Services
from deployer.errors import DeployerError
from deployer.keys import Caller, Scope

_LOOK_SECONDS: Final = 1.0


class Livez:
    """Liveness, at ``/livez``: the process answers, whatever else may be wrong."""

    @operation("Tell that the server answers", {HTTPStatus.OK: documents.Liveness}, scope=None)
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Answer 200."""
        write(resp, documents.Liveness(status="alive"))


class Readyz:
    """Readiness, at ``/readyz``: everything is there that a deployment needs.

    Anybody may ask, and a supervisord that hangs is waited for: so only one request looks at a
    time, and the others do not queue up until no thread is left.
    """

    def __init__(self, services: Services) -> None:
        """Look through services."""
        self._services = services
        self._looking = threading.Lock()

    @operation(
        "Tell whether the server takes work",
        {HTTPStatus.OK: documents.Readiness, HTTPStatus.SERVICE_UNAVAILABLE: documents.Readiness},
        scope=None,
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer 200 when every check is good, else 503 with those that are not."""
        if self._looking.acquire(timeout=_LOOK_SECONDS):
            try:
                checks = self._services.checks(self._caller(req))
            finally:
                self._looking.release()
        else:
            detail = "somebody else's look at this server has not come to its end"
            checks = [documents.Check(name="checks", ok=False, detail=detail)]
        is_ready = all(check.ok for check in checks)
        resp.status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        write(
            resp,
            documents.Readiness(status="ready" if is_ready else "not ready", checks=checks),
        )

    def _caller(self, req: falcon.Request) -> Caller | None:
        """Find who asks, for the details; whoever is nobody is told the rest all the same."""
        try:
            return self._services.callers.identify(req, is_page=True)
        except DeployerError:
            return None


class Server:
    """What this server is, at ``/v1/server``."""

    def __init__(self, services: Services) -> None:
        """Describe services."""
        self._services = services

    @operation(
        "Describe this server",
        {HTTPStatus.OK: documents.Server},
        is_filtered=True,
        scope=Scope.READ,
    )
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Tell its version, capacity and limits."""
        settings = self._services.parts.settings
        write(
            resp,
            documents.Server(
                version=__version__,
                started_at=self._services.started_at,
                state_dir=str(settings.state_dir),
                host=settings.host,
                api_port=settings.api_port,
                auth=settings.auth,
                installer=settings.installer,
                agents=self._services.parts.store.agents.count(),
                max_agents=settings.max_agents,
                first_port=settings.agent_ports[0],
                last_port=settings.agent_ports[-1],
                supervisord=settings.supervisor.url or "own",
                isolation=documents.server_isolation(
                    self._services.parts.isolation, settings.isolation.require
                ),
                limits=documents.limits_of_server(self._services.parts.limiter.mechanisms),
            ),
        )


class Ports:
    """The agents' ports, at ``/v1/ports``."""

    def __init__(self, services: Services) -> None:
        """Look through services."""
        self._services = services

    @operation(
        "List leases and foreign holders",
        {HTTPStatus.OK: documents.Ports},
        is_filtered=True,
        scope=Scope.READ,
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Tell which ports agents hold, and which of the range somebody else listens on."""
        span = self._services.parts.settings.agent_ports
        leases = self._services.parts.store.leases.all()
        leased = {lease.port for lease in leases}
        foreign = [
            documents.ForeignPort(port=port, holder=str(ports.holder_of(port) or "unknown"))
            for port in sorted(ports.taken(span) - leased)
        ]
        write(
            resp,
            documents.Ports(
                first=span[0],
                last=span[-1],
                free=len(span) - len(leased & set(span)) - len(foreign),
                leases=[
                    documents.lease(each) for each in leases if caller_of(req).sees(each.agent)
                ],
                foreign=foreign,
            ),
        )


class Metrics:
    """Figures for Prometheus, at ``/metrics``."""

    def __init__(self, services: Services) -> None:
        """Tell of services."""
        self._metrics = services.metrics

    @operation(
        "Read the metrics",
        {HTTPStatus.OK: "text/plain"},
        is_filtered=True,
        scope=Scope.READ,
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Write them in Prometheus' text format."""
        resp.content_type = metrics.CONTENT_TYPE
        resp.data = self._metrics.text(caller_of(req).agents)
