"""The ATOLL 2.x wire, kept exactly, so that its own client works unchanged.

The shapes were captured from ATOLL 2.0.1's ``DeploymentClient``. It gives up after 30 s, sends no
key, and shows its user only the status line of an error: so what is held is let go before that,
with 202 and a word that says it goes on, and short causes stand in the reason phrase.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, Literal

import falcon

from deployer import __version__
from deployer.api import inputs, problem_sets
from deployer.api.answers import Kept, json_of, write, write_json
from deployer.api.deployments import error_of, wait_for
from deployer.api.documents.atoll import (
    NamedAgent,
    WireAgent,
    WireAgents,
    WireDeployed,
    WireDeploying,
    WireDiagnostics,
    WireFound,
    WireHealth,
    WireMissing,
    WireServing,
    WireStatus,
    WireStopped,
)
from deployer.api.operations import operation
from deployer.api.packages import UPLOAD_TYPES, PackageReceiver
from deployer.api.permissions import caller_of, require_act, require_agent
from deployer.api.services import Services
from deployer.errors import AgentBusyError, AgentUnknownError, Problem, RequestInvalidError
from deployer.keys import Scope
from deployer.logs import tail
from deployer.model import AGENT_NAME, Desired, Release
from deployer.statuses import WIRE_WORDS, AgentStatus, AgentView
from deployer.store import Request, now
from deployer.strategies import choose_strategy

_DIAGNOSTIC_LINES: Final = 50
_UNWELL: Final = frozenset(
    {
        AgentStatus.DEGRADED,
        AgentStatus.FAILED,
        AgentStatus.CRASH_LOOPING,
        AgentStatus.QUARANTINED,
    }
)
_ACT_PROBLEMS: Final[problem_sets.Problems] = (
    AgentUnknownError,
    *problem_sets.JSON_BODY,
    *problem_sets.ACT,
)
_SERVING: Final = {HTTPStatus.OK: WireServing, HTTPStatus.ACCEPTED: WireServing}
_STOPPED: Final = {HTTPStatus.OK: WireStopped, HTTPStatus.ACCEPTED: WireStopped}


class Wire:
    """All routes of the wire, each a responder by its suffix."""

    def __init__(self, services: Services, receiver: PackageReceiver) -> None:
        """Answer through services; packages are taken in by receiver."""
        self._services = services
        self._settings = services.parts.settings
        self._state = services.parts.state
        self._store = services.parts.store
        self._secrets = services.parts.secrets
        self._agents = services.agents
        self._explanations = services.explanations
        self._list: Kept[tuple[AgentView, ...], bytes] = Kept(
            lambda views: json_of(self._agents_of(views))
        )
        self._by_checksum = Kept(_by_checksum)
        self._worker = services.worker
        self._receiver = receiver
        self._patience_seconds = self._settings.limits.atoll_wait_seconds

    @operation("ATOLL: tell that a server is there", {HTTPStatus.OK: WireHealth}, scope=None)
    def on_get_health(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Say healthy, and whether a key is wanted."""
        write(
            resp,
            WireHealth(
                status="healthy",
                version=__version__,
                auth_enabled=self._settings.auth == "token",
                metrics_enabled=True,
                isolation=self._services.parts.isolation.level,
            ),
        )

    @operation(
        "ATOLL: list agents", {HTTPStatus.OK: WireAgents}, is_filtered=True, scope=Scope.READ
    )
    def on_get_list(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List all agents."""
        views, caller = self._agents.standings(), caller_of(req)
        if caller.sees_all:
            write_json(resp, self._list.of(views))
        else:
            write(resp, self._agents_of(tuple(v for v in views if caller.sees(v.agent.name))))

    @operation(
        "ATOLL: tell whether a package is installed",
        {HTTPStatus.OK: (WireFound, WireMissing)},
        scope=Scope.READ,
        problems=_ACT_PROBLEMS,
        query={"checksum": "The MD5 of the package", "start": "true: start it if it is stopped"},
        is_filtered=True,
    )
    def on_post_check(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Look for an installed current release by its MD5; only looks, unless asked to start."""
        checksum = (req.get_param("checksum") or "").strip().lower()
        if not checksum:
            raise RequestInvalidError(
                "cannot check: the query parameter checksum is missing",
                cause="checksum is missing",
                problems=(Problem("checksum", "must be the MD5 of a package"),),
            )
        is_to_start = inputs.boolean(req.get_param("start"), "start", default=False)
        caller = caller_of(req)
        views = self._by_checksum.of(self._agents.standings()).get(checksum, ())
        view = next((view for view in views if caller.sees(view.agent.name)), None)
        if view is None:
            write(resp, WireMissing(message="Agent not found: upload it"))
            return
        if is_to_start and not view.is_alive:
            require_act(req, Scope.OPERATE)
            _, view = self._act(req, view.agent.name, self._agents.start, Desired.RUNNING)
        write(
            resp,
            WireFound(
                name=view.agent.name,
                status=WIRE_WORDS[view.status],
                port=_port(view),
                running=view.is_alive,
            ),
        )

    @operation(
        "ATOLL: deploy a package",
        {HTTPStatus.OK: WireDeployed, HTTPStatus.ACCEPTED: WireDeploying},
        scope=Scope.DEPLOY,
        problems=(*problem_sets.UPLOAD, *problem_sets.DEPLOYMENT),
        query={"force": "true: install it anew even when it is current"},
        body=UPLOAD_TYPES,
        is_filtered=True,
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
            write(resp, self._deployed("already_installed", current, message))
            return
        strategy = choose_strategy(None, package.manifest)
        deployment = self._worker.submit(
            Request(package=package, strategy=strategy, start=False, force=force)
        )
        req.context.target = deployment.id
        deployment = wait_for(req, self._services, deployment.id, self._patience_seconds)
        error = error_of(deployment)
        if error is not None:
            raise error
        if not deployment.status.is_over:
            resp.status = HTTPStatus.ACCEPTED
            resp.location = f"/v1/deployments/{deployment.id}"
            write(
                resp,
                WireDeploying(
                    name=package.agent,
                    checksum=package.md5,
                    message="still at it: watch status_url",
                    status_url=resp.location,
                ),
            )
            return
        release = self._store.releases.get(package.agent, deployment.release or 0)
        write(resp, self._deployed("deployed", release, f"{release.agent} is installed"))

    @operation(
        "ATOLL: start an agent",
        _SERVING,
        scope=Scope.OPERATE,
        problems=_ACT_PROBLEMS,
        body=NamedAgent,
        is_filtered=True,
    )
    def on_post_start(
        self, req: falcon.Request, resp: falcon.Response, agent: str | None = None
    ) -> None:
        """Start it and hold the request until it serves."""
        is_over, view = self._act(req, _named(req, agent), self._agents.start, Desired.RUNNING)
        document = _serving("started" if is_over else "starting", view)
        self._answer(resp, document, is_over=is_over)

    @operation(
        "ATOLL: stop an agent",
        _STOPPED,
        scope=Scope.OPERATE,
        problems=_ACT_PROBLEMS,
        body=NamedAgent,
        is_filtered=True,
    )
    def on_post_stop(
        self, req: falcon.Request, resp: falcon.Response, agent: str | None = None
    ) -> None:
        """Stop it and hold the request until it is down."""
        is_over, view = self._act(req, _named(req, agent), self._agents.stop, Desired.STOPPED)
        word: Literal["stopped", "stopping"] = "stopped" if is_over else "stopping"
        document = WireStopped(status=word, name=view.agent.name)
        self._answer(resp, document, is_over=is_over)

    @operation(
        "ATOLL: restart an agent",
        _SERVING,
        scope=Scope.OPERATE,
        problems=_ACT_PROBLEMS,
        body=NamedAgent,
        is_filtered=True,
    )
    def on_post_restart(
        self, req: falcon.Request, resp: falcon.Response, agent: str | None = None
    ) -> None:
        """Restart it and hold the request until it serves."""
        is_over, view = self._act(req, _named(req, agent), self._agents.restart, Desired.RUNNING)
        document = _serving("restarted" if is_over else "restarting", view)
        self._answer(resp, document, is_over=is_over)

    @operation(
        "ATOLL: show an agent",
        {HTTPStatus.OK: WireStatus},
        scope=Scope.READ,
        problems=problem_sets.AGENT,
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
                error_message=self._explanations.of_agent(view).cause or None,
            ),
        )

    @operation(
        "ATOLL: explain an agent",
        {HTTPStatus.OK: WireDiagnostics},
        scope=Scope.READ,
        problems=problem_sets.AGENT,
    )
    def on_get_diagnostics(self, _req: falcon.Request, resp: falcon.Response, agent: str) -> None:
        """Show how it is with the last lines of its logs."""
        view = self._view(agent)
        found = self._explanations.of_agent(view)
        out: list[str] = []
        err: list[str] = []
        if view.release is not None:
            out, err = (
                self._secrets.redact(view.release, tail(log, _DIAGNOSTIC_LINES))
                for log in (
                    self._state.stdout_log(view.release.program),
                    self._state.stderr_log(view.release.program),
                )
            )
        write(
            resp,
            WireDiagnostics(
                agent_name=view.agent.name,
                status=WIRE_WORDS[view.status],
                diagnostics={
                    "cause": found.cause,
                    "hint": found.hint,
                    "desired": view.agent.desired,
                    "release": view.agent.current,
                    "health": _health(view),
                },
                error_message=found.cause or None,
                exit_code=view.process.exit_code if view.process is not None else None,
                stdout="\n".join(out),
                stderr="\n".join(err),
                config_path=self._config_path(view.release),
                timestamp=now().isoformat(),
            ),
        )

    def _act(
        self, req: falcon.Request, name: str, act: Callable[[str], AgentView], desired: Desired
    ) -> tuple[bool, AgentView]:
        """Do something with an agent, and wait for it as long as the client does.

        Returns:
            Whether it is over, and how the agent is.

        Raises:
            AgentBusyError: Somebody asked for the contrary meanwhile.
        """
        require_agent(req, name)
        self._view(name)  # 404 before a thread is taken
        future = self._worker.act(lambda: act(name))
        waiting = self._services.waiting
        if not waiting.hold(
            future, self._patience_seconds, inputs.is_gone(req), caller_of(req).who
        ):
            return False, self._agents.view(name)
        view = future.result()
        if view.agent.desired is not desired:
            raise AgentBusyError(
                f"cannot say that {name} is {desired}: somebody asked for the contrary meanwhile",
                cause="somebody asked for the contrary meanwhile",
            )
        return True, view

    def _answer(
        self, resp: falcon.Response, document: WireServing | WireStopped, *, is_over: bool
    ) -> None:
        """Answer 200 when it is done, 202 while it goes on."""
        if not is_over:
            resp.status = HTTPStatus.ACCEPTED
            resp.location = f"/status/{document.name}"
        write(resp, document)

    def _view(self, name: str) -> AgentView:
        if not AGENT_NAME.fullmatch(name):
            raise AgentUnknownError(
                f"No such agent: {name[:80]}", cause=f"No such agent: {name[:80]}"
            )
        return self._agents.view(name)

    def _agents_of(self, views: tuple[AgentView, ...]) -> WireAgents:
        return WireAgents(agents=[self._agent(view) for view in views], count=len(views))

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


def _serving(
    status: Literal["started", "restarted", "starting", "restarting"], view: AgentView
) -> WireServing:
    pid = view.process.pid if view.process is not None else None
    return WireServing(status=status, name=view.agent.name, port=_port(view), pid=pid)


def _by_checksum(views: tuple[AgentView, ...]) -> Mapping[str, list[AgentView]]:
    """Sort agents by the MD5 of the packages that their current releases were made from."""
    sorted_views: dict[str, list[AgentView]] = {}
    for view in views:
        if view.release is not None:
            sorted_views.setdefault(view.release.md5, []).append(view)
    return sorted_views


def _port(view: AgentView) -> int | None:
    return view.port if view.is_alive else None


def _health(view: AgentView) -> str:
    if view.status is AgentStatus.RUNNING:
        return "healthy"
    return "unhealthy" if view.status in _UNWELL else "unknown"
