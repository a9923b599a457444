"""The WSGI application: gate, routes, problems."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, partial
from typing import Any

import falcon
from falcon.routing import CompiledRouter

from deployer.api import problems
from deployer.api.atoll import WireMarker
from deployer.api.audits import Audit, AuditTrail
from deployer.api.contract_pages import Docs, Document, OpenApi
from deployer.api.dashboard import Dashboard, Live
from deployer.api.dashboard.assets import Assets
from deployer.api.dashboard.looks import Looks
from deployer.api.deployments import follow_again
from deployer.api.gate import Gate
from deployer.api.idempotency import Idempotency
from deployer.api.inputs import AgentNameConverter, ReleaseNumberConverter
from deployer.api.logins import Login
from deployer.api.operations import Operation
from deployer.api.routes import METHODS, Route, route_table
from deployer.api.services import Services
from deployer.api.supervisor_ui import SupervisorUi
from deployer.errors import DeployerError
from deployer.supervisord_confs import Credentials

App = falcon.App[falcon.Request, falcon.Response]


def create_app(services: Services, supervisord_url: str, credentials: Credentials) -> App:
    """Make the application.

    Args:
        services: What the resources call.
        supervisord_url: Where supervisord's web UI is passed through from.
        credentials: What that asks for.

    Returns:
        A WSGI application.
    """
    settings = services.parts.settings
    names = {"localhost", settings.host, settings.agent_host or "localhost"}
    permitted: dict[tuple[str, str], Operation] = {}
    gate = Gate(services.callers, frozenset(name.lower() for name in names), permitted)
    store, refusals = services.parts.store, services.refusals
    trail = AuditTrail(store, permitted, refusals)
    repeats = Idempotency(store, permitted, partial(follow_again, services))
    app: App = falcon.App(middleware=[gate, WireMarker(), trail, repeats], router=_Router())
    app.req_options.auto_parse_form_urlencoded = False
    app.req_options.strip_url_path_trailing_slash = False
    app.router_options.converters["agent"] = AgentNameConverter
    app.router_options.converters["release"] = ReleaseNumberConverter
    app.add_error_handler(Exception, problems.on_surprise)
    app.add_error_handler(falcon.HTTPError, problems.on_http_error)
    app.add_error_handler(DeployerError, problems.on_error)
    routes = [*route_table(services)]
    contract = cache(lambda: _contract(routes))
    parts = services.parts
    ui = SupervisorUi(supervisord_url, credentials, parts.state, services.waiting, parts.secrets)
    looks = Looks(services)
    routes += [
        Route("/openapi.json", OpenApi(contract), "server"),
        Route("/docs", Docs(contract), "server"),
        Route("/v1/audit", Audit(store, refusals), "keys"),
        Route("/", Dashboard(looks), "web"),
        Route("/-/live", Live(looks, services), "web"),
        Route("/-/assets/{name}", Assets(), "web"),
        Route("/login", Login(services.callers), "web"),
        Route("/supervisor", ui, "web"),
        Route("/supervisor/{path:path}", ui, "web"),
    ]
    for route in routes:
        app.add_route(route.path, route.resource, suffix=route.suffix)
        for method in METHODS:
            described = route.operation(method)
            if described is not None:
                permitted[method.upper(), route.path] = described
    return app


def _contract(routes: Iterable[Route]) -> Document:
    """Make the OpenAPI document, with all of its examples, for whoever asks."""
    from deployer.api.openapi import openapi_document  # noqa: PLC0415 - for this only

    return openapi_document(routes)


class _Router(CompiledRouter):
    """Has HEAD answered wherever GET is; falcon leaves the body away."""

    def map_http_methods(self, resource: object, **kwargs: Any) -> Any:  # falcon names no type
        methods = super().map_http_methods(resource, **kwargs)
        return {"HEAD": methods["GET"], **methods} if "GET" in methods else methods
