"""The WSGI application: gate, routes, problems."""

from __future__ import annotations

import falcon

from deployer.api import problems
from deployer.api.atoll import WireMarker
from deployer.api.gate import Gate, Login
from deployer.api.inputs import AgentNameConverter, ReleaseNumberConverter
from deployer.api.openapi import OpenApi, openapi_document
from deployer.api.pages import Docs
from deployer.api.routes import route_table
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
    names = {"localhost", settings.host, settings.agent_host or ""} - {""}
    gate = Gate(services.token, frozenset(name.lower() for name in names))
    app: App = falcon.App(middleware=[gate, WireMarker()])
    app.req_options.auto_parse_form_urlencoded = False
    app.req_options.strip_url_path_trailing_slash = False
    app.router_options.converters["agent"] = AgentNameConverter
    app.router_options.converters["release"] = ReleaseNumberConverter
    app.add_error_handler(Exception, problems.on_surprise)
    app.add_error_handler(falcon.HTTPError, problems.on_http_error)
    app.add_error_handler(DeployerError, problems.on_error)
    routes = route_table(services)
    for route in routes:
        app.add_route(route.path, route.resource, suffix=route.suffix)
    document = openapi_document(routes)
    ui = SupervisorUi(supervisord_url, credentials, services.waiting)
    app.add_route("/openapi.json", OpenApi(document))
    app.add_route("/docs", Docs(document))
    app.add_route("/login", Login(gate))
    app.add_route("/supervisor", ui)
    app.add_route("/supervisor/{path:path}", ui)
    return app
