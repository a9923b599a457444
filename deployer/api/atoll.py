"""The ATOLL 2.x wire, kept exactly, so that its own client works unchanged.

The shapes were captured from ATOLL 2.0.1's ``DeploymentClient``. It gives up after 30 s, sends no
key, and shows its user only the status line of an error: so what is held is let go after 25 s, and
short causes stand in the reason phrase.
"""

from __future__ import annotations

from concurrent.futures import TimeoutError as FutureTimeoutError
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

import falcon
from pydantic import BaseModel, Field

from deployer import __version__
from deployer.api import documents, inputs
from deployer.api.agents import explain
from deployer.api.answers import write
from deployer.api.deployments import error_of, wait_for
from deployer.api.operations import operation
from deployer.api.packages import PackageReceiver
from deployer.api.services import Services
from deployer.errors import AgentUnknownError, BadRequestError, StartError
from deployer.logs import tail
from deployer.model import AGENT_NAME, Desired, Release
from deployer.statuses import WIRE_WORDS, AgentStatus, AgentView
from deployer.store import Request, now

PATIENCE_SECONDS: Final = 25.0
_DIAGNOSTIC_LINES: Final = 50
_ACT_PROBLEMS: Final = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.CONFLICT,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
)


class WireAgent(documents.Document):
    """An agent of ATOLL's list."""

    name: str
    status: str
    port: int | None
    pid: int | None
    checksum: str
    config_path: str


class WireAgents(documents.Document):
    """ATOLL's list of agents."""

    agents: list[WireAgent]
    count: int


class WireCheck(documents.Document):
    """Whether a package is installed as somebody's current release."""

    exists: bool
    name: str | None = None
    status: str | None = None
    port: int | None = None
    running: bool | None = None
    message: str | None = None


class WireDeployed(documents.Document):
    """What came of an upload."""

    status: Literal["deployed", "already_installed", "deploying"]
    name: str
    checksum: str
    config_path: str
    message: str
    status_url: str | None = None


class WireAct(documents.Document):
    """What came of a start, stop or restart."""

    status: str
    name: str
    port: int | None = None
    pid: int | None = None


class WireStatus(documents.Document):
    """One agent, as ATOLL shows it."""

    name: str
    status: str
    port: int | None
    pid: int | None
    checksum: str
    start_time: str | None
    restart_count: int
    health_status: str
    error_message: str | None


class WireDiagnostics(documents.Document):
    """Everything that ATOLL shows of an agent that failed."""

    agent_name: str
    status: str
    diagnostics: dict[str, Any]
    error_message: str | None
    exit_code: int | None
    stdout: str
    stderr: str
    config_path: str
    timestamp: str


class NamedAgent(BaseModel):
    """The body of a start, stop or restart.

    Attributes:
        agent_name: Which agent.
    """

    agent_name: Annotated[str, Field(min_length=1, max_length=1000)]


class Wire:
    """All routes of the wire, each a responder by its suffix."""

    def __init__(self, services: Services, receiver: PackageReceiver) -> None:
        """Answer through services; packages are taken in by receiver."""
        self._services = services
        self._settings = services.parts.settings
        self._state = services.parts.state
        self._store = services.parts.store
        self._agents = services.agents
        self._worker = services.worker
        self._receiver = receiver

    @operation(
        "ATOLL: tell that a server is there", {HTTPStatus.OK: documents.WireHealth}, is_open=True
    )
    def on_get_health(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Say healthy, and whether a key is wanted."""
        write(
            resp,
            documents.WireHealth(
                status="healthy",
                version=__version__,
                auth_enabled=self._settings.auth == "token",
                metrics_enabled=True,
            ),
        )

    @operation("ATOLL: list agents", {HTTPStatus.OK: WireAgents})
    def on_get_list(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """List all agents."""
        agents = [self._agent(view) for view in self._agents.views()]
        write(resp, WireAgents(agents=agents, count=len(agents)))

    @operation(
        "ATOLL: tell whether a package is installed",
        {HTTPStatus.OK: WireCheck},
        problems=_ACT_PROBLEMS,
        query={"checksum": "The MD5 of the package", "start": "true: start it if it is stopped"},
    )
    def on_post_check(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Look for an installed current release by its MD5; only looks, unless asked to start."""
        checksum = (req.get_param("checksum") or "").strip().lower()
        if not checksum:
            raise BadRequestError(
                "cannot check: the query parameter checksum is missing", cause="checksum is missing"
            )
        package = self._store.packages.find(checksum)
        release = package and self._store.releases.current_of_package(package.sha256)
        if not release:
            write_short(resp, WireCheck(exists=False, message="Agent not found: upload it"))
            return
        view = self._agents.view(release.agent)
        if inputs.boolean(req.get_param("start"), "start", default=False) and not view.is_alive:
            view = self._act(release.agent, "start")
        write_short(
            resp,
            WireCheck(
                exists=True,
                name=view.agent.name,
                status=WIRE_WORDS[view.status],
                port=_port(view),
                running=view.is_alive,
            ),
        )

    @operation(
        "ATOLL: deploy a package",
        {HTTPStatus.OK: WireDeployed, HTTPStatus.ACCEPTED: WireDeployed},
        problems=(*_ACT_PROBLEMS, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
        query={"force": "true: install it anew even when it is current"},
        body=("multipart/form-data", "application/zip"),
    )
    def on_post_deploy(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Install a package without starting it; on a running agent, deploy it in full."""
        # Read before the body, so that nonsense is refused at once.
        in_query = inputs.boolean(req.get_param("force"), "force", default=False)
        package, _, fields = self._receiver.receive(req)
        force = in_query or inputs.boolean(fields.get("force"), "force", default=False)
        current = self._store.releases.current_of_package(package.sha256)
        if current is not None and not force:
            message = f"{current.agent} is installed already"
            write_short(resp, self._deployed("already_installed", current, message))
            return
        deployment = self._worker.submit(
            Request(
                package=package,
                strategy=self._worker.strategy(None, package.manifest),
                start=False,
                force=force,
            )
        )
        deployment = wait_for(self._services, deployment.id, PATIENCE_SECONDS)
        if deployment.failure is not None:
            raise error_of(deployment.failure)
        if not deployment.status.is_over:
            resp.status = HTTPStatus.ACCEPTED
            resp.location = f"/v1/deployments/{deployment.id}"
            write_short(
                resp,
                WireDeployed(
                    status="deploying",
                    name=package.agent,
                    checksum=package.md5,
                    config_path="",
                    message="still at it: watch status_url",
                    status_url=resp.location,
                ),
            )
            return
        release = self._store.releases.get(package.agent, deployment.release or 0)
        write_short(resp, self._deployed("deployed", release, f"{release.agent} is installed"))

    @operation(
        "ATOLL: start an agent", {HTTPStatus.OK: WireAct}, problems=_ACT_PROBLEMS, body=NamedAgent
    )
    def on_post_start(
        self, req: falcon.Request, resp: falcon.Response, agent: str | None = None
    ) -> None:
        """Start it and hold the request until it serves."""
        view = self._act(_named(req, agent), "start")
        write(resp, _acted("started", view))

    @operation(
        "ATOLL: stop an agent", {HTTPStatus.OK: WireAct}, problems=_ACT_PROBLEMS, body=NamedAgent
    )
    def on_post_stop(
        self, req: falcon.Request, resp: falcon.Response, agent: str | None = None
    ) -> None:
        """Stop it and hold the request until it is down."""
        view = self._act(_named(req, agent), "stop")
        write_short(resp, WireAct(status="stopped", name=view.agent.name))

    @operation(
        "ATOLL: restart an agent", {HTTPStatus.OK: WireAct}, problems=_ACT_PROBLEMS, body=NamedAgent
    )
    def on_post_restart(
        self, req: falcon.Request, resp: falcon.Response, agent: str | None = None
    ) -> None:
        """Restart it and hold the request until it serves."""
        view = self._act(_named(req, agent), "restart")
        write(resp, _acted("restarted", view))

    @operation(
        "ATOLL: show an agent", {HTTPStatus.OK: WireStatus}, problems=(HTTPStatus.NOT_FOUND,)
    )
    def on_get_status(self, _req: falcon.Request, resp: falcon.Response, agent: str) -> None:
        """Show how it is."""
        view = self._view(agent)
        process = view.process
        write(
            resp,
            WireStatus(
                name=view.agent.name,
                status=WIRE_WORDS[view.status],
                port=_port(view),
                pid=process.pid if process is not None else None,
                checksum=view.release.md5 if view.release is not None else "",
                start_time=process.started_at.isoformat()
                if view.is_alive and process is not None and process.started_at is not None
                else None,
                restart_count=process.restarts if process is not None else 0,
                health_status=_health(view),
                error_message=explain(view)[0] or None,
            ),
        )

    @operation(
        "ATOLL: explain an agent",
        {HTTPStatus.OK: WireDiagnostics},
        problems=(HTTPStatus.NOT_FOUND,),
    )
    def on_get_diagnostics(self, _req: falcon.Request, resp: falcon.Response, agent: str) -> None:
        """Show how it is with the last lines of its logs."""
        view = self._view(agent)
        cause, hint = explain(view)
        out: list[str] = []
        err: list[str] = []
        if view.release is not None:
            out = tail(self._state.stdout_log(view.release.program), _DIAGNOSTIC_LINES)
            err = tail(self._state.stderr_log(view.release.program), _DIAGNOSTIC_LINES)
        write(
            resp,
            WireDiagnostics(
                agent_name=view.agent.name,
                status=WIRE_WORDS[view.status],
                diagnostics={
                    "cause": cause,
                    "hint": hint,
                    "desired": view.agent.desired,
                    "release": view.agent.current,
                    "health": _health(view),
                },
                error_message=cause or None,
                exit_code=view.process.exit_code if view.process is not None else None,
                stdout="\n".join(out),
                stderr="\n".join(err),
                config_path=self._config_path(view.release),
                timestamp=now().isoformat(),
            ),
        )

    def _act(self, name: str, verb: Literal["start", "stop", "restart"]) -> AgentView:
        """Do something and wait for it as long as the client does."""
        self._view(name)
        acts = {
            "start": self._agents.start,
            "stop": self._agents.stop,
            "restart": self._agents.restart,
        }
        act = acts[verb]
        future = self._worker.act(lambda: act(name))
        try:
            view = future.result(timeout=PATIENCE_SECONDS)
        except FutureTimeoutError:
            if future.done():  # the act itself raised a TimeoutError
                raise
            raise StartError(
                f"cannot say yet that {name} is there: after {PATIENCE_SECONDS:.0f} s it is still"
                f" at its {verb}",
                cause=f"{verb} of {name} takes longer; ask /status/{name}",
            ) from None
        if verb != "stop" and view.agent.desired is not Desired.RUNNING:
            raise StartError(
                f"cannot {verb} {name}: somebody stopped it", cause="stopped meanwhile"
            )
        return view

    def _view(self, name: str) -> AgentView:
        if not AGENT_NAME.fullmatch(name):
            raise AgentUnknownError(
                f"No such agent: {name[:80]}", cause=f"No such agent: {name[:80]}"
            )
        return self._agents.view(name)

    def _agent(self, view: AgentView) -> WireAgent:
        return WireAgent(
            name=view.agent.name,
            status=WIRE_WORDS[view.status],
            port=_port(view),
            pid=view.process.pid if view.process is not None else None,
            checksum=view.release.md5 if view.release is not None else "",
            config_path=self._config_path(view.release),
        )

    def _deployed(
        self, status: Literal["deployed", "already_installed"], release: Release, message: str
    ) -> WireDeployed:
        return WireDeployed(
            status=status,
            name=release.agent,
            checksum=release.md5,
            config_path=self._config_path(release),
            message=message,
        )

    def _config_path(self, release: Release | None) -> str:
        if release is None:
            return ""
        return str(self._state.code(release.agent, release.number) / "agent.toml")


def write_short(resp: falcon.Response, document: documents.Document) -> None:
    """Write a document without the members that do not apply, as ATOLL does."""
    resp.content_type = falcon.MEDIA_JSON
    resp.data = document.model_dump_json(exclude_none=True).encode()


class WireMarker:
    """Middleware that marks requests of the wire: their errors stand in the status line too."""

    def process_resource(
        self, req: falcon.Request, _resp: falcon.Response, resource: object, _params: dict[str, Any]
    ) -> None:
        """Mark a request that this module answers."""
        req.context.is_wire = isinstance(resource, Wire)


def _named(req: falcon.Request, agent: str | None) -> str:
    if agent is not None:
        return agent
    return inputs.json_body(req, NamedAgent).agent_name


def _acted(status: str, view: AgentView) -> WireAct:
    pid = view.process.pid if view.process is not None else None
    return WireAct(status=status, name=view.agent.name, port=_port(view), pid=pid)


def _port(view: AgentView) -> int | None:
    return view.port if view.is_alive else None


def _health(view: AgentView) -> str:
    if view.status is AgentStatus.RUNNING:
        return "healthy"
    return "unhealthy" if view.status in {AgentStatus.DEGRADED, AgentStatus.FAILED} else "unknown"
