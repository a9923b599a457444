"""Agents: listed, shown, started, stopped, removed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

import falcon

from deployer.api import documents, inputs, problem_sets
from deployer.api.answers import write
from deployer.api.operations import PAGE, WAIT, operation
from deployer.api.permissions import caller_of
from deployer.api.services import Services
from deployer.errors import (
    AgentBusyError,
    AgentUnknownError,
    BadRequestError,
    NotInstalledError,
    ReleaseDamagedError,
    SecretsKeyError,
    SecretUnavailableError,
    SecretUnreadableError,
    SupervisordUnreachableError,
    TooBusyError,
    WaitTimeoutError,
)
from deployer.keys import Scope
from deployer.statuses import AgentStatus, AgentView

_ACT_SECONDS: Final = 60.0
_WAIT_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.1
_ACT_PROBLEMS: Final = (*problem_sets.AGENT, *problem_sets.ACT)
_REFUSALS: Final = (
    AgentUnknownError,
    AgentBusyError,
    NotInstalledError,
    ReleaseDamagedError,
    SecretUnavailableError,
    SecretUnreadableError,
    SecretsKeyError,
    SupervisordUnreachableError,
)
"""What an act says while the agent's process is still as it was."""


def called_host(req: falcon.Request, services: Services) -> str:
    """Name the host on which agents are reached: as the settings say, else as the client did."""
    return services.parts.settings.agent_host or req.host


def agent_document(view: AgentView, req: falcon.Request, services: Services) -> documents.Agent:
    """Write an agent for whoever asks."""
    return documents.agent(
        view,
        called_host(req, services),
        services.agents.footprint(view),
        secrets_changed=_has_other_secrets(services, view),
    )


def answer_act(
    req: falcon.Request,
    resp: falcon.Response,
    services: Services,
    act: tuple[str, Future[AgentView]],
    seconds: float,
) -> None:
    """Answer with the connection info once an act is done, or with 202 when time is up.

    Args:
        req: The request.
        resp: Its response.
        services: Of this server.
        act: The agent's name, and the act under way.
        seconds: How long to hold the request.
    """
    name, future = act
    if services.waiting.hold(future, seconds, inputs.is_gone(req), caller_of(req).who):
        with _telling_what_was_done(req):
            view = future.result()
    else:
        view = services.agents.view(name)
        resp.status = HTTPStatus.ACCEPTED
        resp.location = f"/v1/agents/{name}"
    write(resp, documents.connection(view, called_host(req, services)))


@contextmanager
def _telling_what_was_done(req: falcon.Request) -> Iterator[None]:
    """Mark a request whose act fails after it was begun: its key is not free for another try."""
    try:
        yield
    except _REFUSALS:
        raise
    except Exception:
        req.context.is_begun = True  # however it ends, it is what came of the request
        raise


class Agents:
    """All agents, at ``/v1/agents``."""

    def __init__(self, services: Services) -> None:
        """Read agents through services."""
        self._services = services

    @operation(
        "List agents by name",
        {HTTPStatus.OK: documents.AgentList},
        scope=Scope.READ,
        query=PAGE,
        is_filtered=True,
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List agents, a page at a time."""
        limit, after = inputs.page_limit(req, 1000), req.get_param("cursor") or ""
        caller = caller_of(req)
        views = [
            view
            for view in self._services.agents.views()
            if view.agent.name > after and caller.sees(view.agent.name)
        ]
        page, more = inputs.cut_page(views, limit, lambda view: view.agent.name)
        items = [agent_document(view, req, self._services) for view in page]
        write(resp, documents.AgentList(agents=items, count=len(items), next=more))


class OneAgent:
    """An agent, at ``/v1/agents/{agent}``."""

    def __init__(self, services: Services) -> None:
        """Read and remove through services."""
        self._services = services

    @operation(
        "Show an agent",
        {HTTPStatus.OK: documents.Agent},
        scope=Scope.READ,
        problems=problem_sets.AGENT,
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, agent: str) -> None:
        """Show everything that is known of it now."""
        view = self._services.agents.view(agent)
        write(resp, agent_document(view, req, self._services))

    @operation(
        "Remove an agent",
        {HTTPStatus.NO_CONTENT: None, HTTPStatus.ACCEPTED: None},
        scope=Scope.DEPLOY,
        problems=_ACT_PROBLEMS,
        query={
            **WAIT,
            "keep_data": "true: leave its data directory for a later agent of this name",
        },
    )
    def on_delete(self, req: falcon.Request, resp: falcon.Response, agent: str) -> None:
        """Stop it and delete everything of it: 204 when that is done within the wait, else 202."""
        keep_data = inputs.boolean(req.get_param("keep_data"), "keep_data", default=False)
        seconds = inputs.wait_seconds(req, _ACT_SECONDS)
        agents = self._services.agents
        agents.view(agent)  # 404 before a thread is taken
        future = self._services.worker.act(lambda: agents.remove(agent, keep_data=keep_data))
        if self._services.waiting.hold(future, seconds, inputs.is_gone(req), caller_of(req).who):
            future.result()
            resp.status = HTTPStatus.NO_CONTENT
        else:
            resp.status = HTTPStatus.ACCEPTED
            resp.location = f"/v1/agents/{agent}"


class AgentAct:
    """One verb on an agent, at ``/v1/agents/{agent}/VERB``."""

    def __init__(self, services: Services, act: Callable[[str], AgentView]) -> None:
        """Do act with the agent that the address names."""
        self._services = services
        self._act = act

    @operation(
        "Do this with an agent",
        {HTTPStatus.OK: documents.Connection, HTTPStatus.ACCEPTED: documents.Connection},
        scope=Scope.OPERATE,
        problems=_ACT_PROBLEMS,
        query=WAIT,
        is_repeatable=True,
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, agent: str) -> None:
        """Do it, and answer 200 when it is done within the wait, else 202."""
        self._services.agents.view(agent)  # 404 before a thread is taken
        seconds = inputs.wait_seconds(req, _ACT_SECONDS)
        act = self._act
        future = self._services.worker.act(lambda: act(agent))
        answer_act(req, resp, self._services, (agent, future), seconds)


class AgentKill:
    """The end of an agent by force, at ``/v1/agents/{agent}/kill``."""

    def __init__(self, services: Services) -> None:
        """Kill through services."""
        self._services = services

    @operation(
        "Kill an agent",
        {HTTPStatus.OK: documents.Connection},
        scope=Scope.OPERATE,
        problems=_ACT_PROBLEMS,
        query=WAIT,
        is_repeatable=True,
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, agent: str) -> None:
        """End its process now, in this very thread: those for acts may all be waiting."""
        with _telling_what_was_done(req):
            view = self._services.agents.kill(agent)
        write(resp, documents.connection(view, called_host(req, self._services)))


class AgentWait:
    """A held question, at ``/v1/agents/{agent}/wait``."""

    def __init__(self, services: Services) -> None:
        """Watch through services."""
        self._services = services

    @operation(
        "Wait until an agent has a status",
        {HTTPStatus.OK: documents.Agent},
        scope=Scope.READ,
        problems=(*problem_sets.AGENT, WaitTimeoutError, TooBusyError),
        query={
            "status": "The status to wait for, by default running",
            "timeout": "Seconds, 30 by default, at most 120",
        },
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, agent: str) -> None:
        """Answer 200 as soon as it has the status, or 408 when the time is over."""
        word = req.get_param("status") or AgentStatus.RUNNING
        if word not in set(AgentStatus):
            raise BadRequestError(
                f"cannot wait for status {word[:40]!r}: it is one of {', '.join(AgentStatus)}",
                cause="no such status",
            )
        timeout = inputs.timeout_seconds(req, _WAIT_SECONDS)
        deadline = time.monotonic() + timeout
        waiting, is_gone = self._services.waiting, inputs.is_gone(req)
        with waiting.required_place(caller_of(req).who):
            while (view := self._services.agents.view(agent)).status != word:
                if time.monotonic() >= deadline or is_gone() or waiting.is_closed:
                    raise WaitTimeoutError(
                        f"cannot say that {agent} is {word}: after {timeout:g} s it is"
                        f" {view.status}",
                        cause=f"{agent} is {view.status}",
                    )
                time.sleep(_POLL_SECONDS)
        write(resp, agent_document(view, req, self._services))


class AgentWhy:
    """Why an agent is not as it should be, at ``/v1/agents/{agent}/why``."""

    def __init__(self, services: Services) -> None:
        """Look through services."""
        self._services = services

    @operation(
        "Say why an agent is not as it should be",
        {HTTPStatus.OK: documents.Why},
        scope=Scope.READ,
        problems=problem_sets.AGENT,
    )
    def on_get(self, _req: falcon.Request, resp: falcon.Response, agent: str) -> None:
        """Name the cause, what to do, and the lines that show it.

        An agent whose first deployment failed is not there any more; that is told all the same.
        """
        view = None
        if self._services.parts.store.agents.find(agent) is not None:
            view = self._services.agents.view(agent)
        found = self._services.explanations.why(agent, view)
        if view is None and not found.cause:
            raise AgentUnknownError(f"No such agent: {agent}", cause=f"No such agent: {agent}")
        write(
            resp,
            documents.Why(
                agent=agent,
                status=None if view is None else view.status,
                cause=found.cause,
                hint=found.hint,
                evidence=list(found.evidence),
                deployment=found.deployment,
                secrets_changed=view is not None and _has_other_secrets(self._services, view),
            ),
        )


def _has_other_secrets(services: Services, view: AgentView) -> bool:
    """Tell whether an agent runs with other secrets than it would be started with now."""
    if view.release is None or not view.is_alive:
        return False
    return services.parts.secrets.has_changed(view.release)
