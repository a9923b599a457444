"""What the dashboard shows, looked up for whoever looks on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import falcon

from deployer import model, ports
from deployer.api import documents
from deployer.api.agents import agent_document, called_host
from deployer.api.dashboard.cards import Card, card
from deployer.api.dashboard.verdicts import Verdict, judge
from deployer.api.documents import Check
from deployer.api.permissions import caller_of
from deployer.api.releases import rollback_obstacle
from deployer.api.services import Services
from deployer.keys import Caller, Scope
from deployer.statuses import AgentView
from deployer.store import now

Seen = TypeVar("Seen")

_DEPLOYMENTS: Final = 8
_JUDGED_DEPLOYMENTS: Final = 50
_EVENTS: Final = 15
_LOOK_SECONDS: Final = 5.0
"""How long a look at ports, releases or the server holds: these are read from the machine."""


@dataclass(frozen=True, slots=True)
class Rights:
    """What whoever looks on may do.

    Attributes:
        operate: Start, stop and restart.
        deploy: Upload and roll back.
    """

    operate: bool
    deploy: bool


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """A release, and why it cannot be gone back to; empty when it can."""

    release: model.Release
    obstacle: str


@dataclass(frozen=True, slots=True)
class PortsLook:
    """The agents' ports.

    Attributes:
        first: Of the range.
        last: Of the range.
        free: How many nobody holds.
        leases: Those of agents that may be seen.
        strangers: Ports that somebody else listens on.
    """

    first: int
    last: int
    free: int
    leases: tuple[model.PortLease, ...]
    strangers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """What one screen shows at one moment.

    Attributes:
        caller: Who looks on.
        rights: What they may do.
        host: By which they know this machine.
        cards: The agents that are shown.
        verdict: How these are; None on the screen of a single agent.
        ailing_checks: What keeps the server from taking work.
        deployments: The latest, the newest first.
        events: The same of the timeline.
        ports: The agents' ports; None on the screen of a single agent.
        releases: Of the single agent that is shown, the newest first.
        document: That agent as the API writes it.
    """

    caller: Caller
    rights: Rights
    host: str
    cards: tuple[Card, ...]
    verdict: Verdict | None
    ailing_checks: tuple[Check, ...]
    deployments: tuple[model.Deployment, ...]
    events: tuple[model.Event, ...]
    ports: PortsLook | None = None
    releases: tuple[ReleaseRow, ...] = ()
    document: documents.Agent | None = None

    @property
    def under_way(self) -> frozenset[str]:
        """The agents of which a deployment goes on."""
        return frozenset(each.agent for each in self.deployments if not each.status.is_over)

    @property
    def agent(self) -> Card:
        """The single agent that is shown."""
        return self.cards[0]


class Looks:
    """Looks things up through the services of one server."""

    def __init__(self, services: Services) -> None:
        """Look through services."""
        self._services = services
        self._parts = services.parts
        self._store = services.parts.store
        self._checks = Glance(self._ailing_checks)
        self._strangers = Glance(self._find_strangers)

    def overview(self, req: falcon.Request) -> Look:
        """Look at all agents of a caller's."""
        caller = caller_of(req)
        views = [view for view in self._services.agents.views() if caller.sees(view.agent.name)]
        cards = tuple(self._card(view, req) for view in views)
        deployments = self._store.deployments.before(
            None, limit=_JUDGED_DEPLOYMENTS, patterns=caller.agents
        )
        checks = self._checks.look()
        return Look(
            caller=caller,
            rights=_rights(caller),
            host=req.host,
            cards=cards,
            verdict=judge(cards, deployments, checks, at=now()),
            ailing_checks=checks,
            deployments=deployments[:_DEPLOYMENTS],
            events=self._store.events.latest(limit=_EVENTS, patterns=caller.agents),
            ports=self._ports(caller),
        )

    def agent(self, req: falcon.Request, name: str, obstacles: dict[int, Glance[str]]) -> Look:
        """Look at one agent.

        Args:
            req: Its sender may see the agent.
            name: Which one.
            obstacles: What was found out before about its releases; added to.

        Raises:
            AgentUnknownError: There is none of this name.
        """
        caller = caller_of(req)
        view = self._services.agents.view(name)
        return Look(
            caller=caller,
            rights=_rights(caller),
            host=req.host,
            cards=(self._card(view, req),),
            verdict=None,
            ailing_checks=(),
            deployments=self._store.deployments.before(None, limit=_DEPLOYMENTS, agent=name),
            events=self._store.events.latest(limit=_EVENTS, agent=name),
            releases=tuple(
                ReleaseRow(each, self._obstacle(each, obstacles))
                for each in self._store.releases.of_agent(name)
            ),
            document=agent_document(view, req, self._services),
        )

    def _card(self, view: AgentView, req: falcon.Request) -> Card:
        program = "" if view.release is None else view.release.program
        return card(
            view,
            called_host(req, self._services),
            self._services.agents.footprint(view),
            self._parts.usages.history(program),
            self._services.explanations.of_agent(view),
        )

    def _obstacle(self, release: model.Release, known: dict[int, Glance[str]]) -> str:
        if release.number not in known:
            known[release.number] = Glance(lambda: rollback_obstacle(self._parts, release))
        return known[release.number].look()

    def _ports(self, caller: Caller) -> PortsLook:
        span = self._parts.settings.agent_ports
        leases = self._store.leases.all()
        leased = {lease.port for lease in leases}
        strangers = sorted(self._strangers.look() - leased)
        return PortsLook(
            first=span[0],
            last=span[-1],
            free=len(span) - len(leased & set(span)) - len(strangers),
            leases=tuple(lease for lease in leases if caller.sees(lease.agent)),
            strangers=tuple(strangers),
        )

    def _find_strangers(self) -> set[int]:
        """Find ports of the range that somebody listens on who is no agent."""
        taken = ports.taken(self._parts.settings.agent_ports)
        return taken - {lease.port for lease in self._store.leases.all()}

    def _ailing_checks(self) -> tuple[Check, ...]:
        """Look without details, which not every caller may see: all share one look."""
        return tuple(check for check in self._services.checks(None) if not check.ok)


class Glance(Generic[Seen]):
    """Something that is looked at every few seconds, however often it is asked for.

    One thread looks at a time, and the others get what was seen before: a look may be long.
    """

    def __init__(self, look: Callable[[], Seen], seconds: float = _LOOK_SECONDS) -> None:
        """Look by look."""
        self._look = look
        self._seconds = seconds
        self._guard = threading.Lock()
        self._seen: tuple[float, Seen] | None = None

    def look(self) -> Seen:
        """Give what is to be seen, or was a few seconds ago."""
        seen = self._seen
        if seen is not None and (time.monotonic() < seen[0] or self._guard.locked()):
            return seen[1]
        with self._guard:
            if self._seen is None or self._seen is seen:
                self._seen = time.monotonic() + self._seconds, self._look()
            return self._seen[1]


def _rights(caller: Caller) -> Rights:
    return Rights(
        operate=caller.scope.includes(Scope.OPERATE), deploy=caller.scope.includes(Scope.DEPLOY)
    )
