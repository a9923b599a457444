"""The dashboard: one page at ``/`` that says how everything is, and lets people act on it.

What a page shows is written by its templates, here, at first and ever after: while it is open,
a stream brings those parts that read otherwise by now. The script in it puts them in place, sends
acts to the very API that everybody uses, and knows nothing of agents.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import falcon

from deployer import __version__
from deployer.api import pages, problem_sets, streams
from deployer.api.dashboard import words
from deployer.api.dashboard.looks import Glance, Look, Looks
from deployer.api.dashboard.verdicts import is_lost
from deployer.api.operations import WAIT, operation
from deployer.api.permissions import require_agent
from deployer.api.services import Services
from deployer.errors import AgentUnknownError, TooBusyError
from deployer.event_kinds import is_bad
from deployer.keys import Scope
from deployer.model import AGENT_NAME, DeploymentStatus

_OVERVIEW: Final = ("verdict", "agents", "deployments", "timeline", "ports")
_ONE_AGENT: Final = ("agent", "releases", "deployments", "timeline")
"""The parts of each screen: templates, whose outermost elements have these ids."""

_LOOK_SECONDS: Final = 1.0
_LEAST_SECONDS: Final = 0.2
"""A deployment writes its steps down faster than anybody reads them."""

_QUERY: Final = {"agent": "Show this agent instead of all"}
_WORDS: Final = {
    "age": words.age,
    "ago": words.ago,
    "count": words.count,
    "duration": words.duration,
    "uptime": words.uptime,
    "is_bad": is_bad,
    "is_lost": is_lost,
    "Status": DeploymentStatus,
}


class Screen:
    """What is shown to one person: all agents, or one."""

    def __init__(self, looks: Looks, req: falcon.Request) -> None:
        """Show what a request asks for.

        Raises:
            AgentUnknownError: None can have the name that it says.
            AgentForbiddenError: That agent is not its sender's.
        """
        self.name = req.get_param("agent") or ""
        if self.name:
            require_agent(req, self.name)
            if not AGENT_NAME.fullmatch(self.name):
                raise AgentUnknownError(f"cannot show {self.name[:80]!r}: no agent has such a name")
        self._looks = looks
        self._req = req
        self._obstacles: dict[int, Glance[str]] = {}

    def look(self) -> Look:
        """Look at it as it is now.

        Raises:
            AgentUnknownError: The agent is not there.
        """
        if self.name:
            return self._looks.agent(self._req, self.name, self._obstacles)
        return self._looks.overview(self._req)

    def parts(self, look: Look) -> Mapping[str, str]:
        """Write each part of the page."""
        values = {**_WORDS, "look": look}
        names = _ONE_AGENT if self.name else _OVERVIEW
        return {name: pages.render(f"dashboard/{name}.html.j2", values) for name in names}


class Dashboard:
    """The page, at ``/``."""

    def __init__(self, looks: Looks) -> None:
        """Show what looks finds."""
        self._looks = looks

    @operation(
        "Show the dashboard",
        {HTTPStatus.OK: "text/html"},
        scope=Scope.READ,
        problems=problem_sets.AGENT,
        query=_QUERY,
        is_filtered=True,
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show all agents, or one, whole: a browser without script sees the same, at rest."""
        screen = Screen(self._looks, req)
        look = screen.look()
        template = "agent_screen" if screen.name else "overview"
        pages.show(
            resp,
            f"dashboard/{template}.html.j2",
            look=look,
            parts=screen.parts(look),
            version=__version__,
            live=f"/-/live{'?' if req.query_string else ''}{req.query_string}",
        )


class Live:
    """What changes on it, at ``/-/live``."""

    def __init__(self, looks: Looks, services: Services) -> None:
        """Show what looks finds, as it happens."""
        self._looks = looks
        self._waiting = services.waiting
        self._store = services.parts.store

    @operation(
        "Follow the dashboard",
        {HTTPStatus.OK: streams.MEDIA_TYPE},
        scope=Scope.READ,
        problems=(*problem_sets.AGENT, TooBusyError),
        query={**_QUERY, **WAIT},
        is_filtered=True,
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Send the parts of the page, and then again each that reads otherwise by now."""
        screen = Screen(self._looks, req)
        screen.look()  # what is not there is said at once, with its status
        streams.send(req, resp, self._waiting, self._changes(screen), "/")

    def _changes(self, screen: Screen) -> streams.Source:
        told: dict[str, str] = {}
        while True:
            generation = self._store.generation
            parts = screen.parts(screen.look())
            news = {name: text for name, text in parts.items() if told.get(name) != text}
            told.update(news)
            yield streams.json_event("parts", news) if news else None
            time.sleep(_LEAST_SECONDS)
            self._store.wait_for_commit(generation, _LOOK_SECONDS - _LEAST_SECONDS)
