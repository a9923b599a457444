"""Calls about the server itself: is it there, what does it hold, what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from deployer.client import follows, nouns
from deployer.client.calls.asking import Asking, items

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_EVENTS: Final = 1000
_UNAVAILABLE: Final = 503


class MachineCalls(Asking):
    """What may be asked of a server about itself."""

    def health(self) -> nouns.Health:
        """Ask whether the server is there, and which version; needs no token."""
        return nouns.Health.read(self._get("/health"))

    def liveness(self) -> str:
        """Ask whether the server's process answers: the word ``alive``; needs no token."""
        return str(self._get("/livez").get("status", ""))

    def readiness(self) -> nouns.Readiness:
        """Ask whether the server takes work, and if not, what keeps it from that.

        Needs no token; whoever shows one is told more.
        """
        reply = self._session.call("GET", "/readyz", also_good=frozenset({_UNAVAILABLE}))
        return nouns.Readiness.read(reply.document)

    def server(self) -> Mapping[str, Any]:
        """Ask for capacity, limits and isolation level, as the server's document."""
        return self._get("/v1/server")

    def metrics(self) -> str:
        """Read the metrics, in the text format of Prometheus."""
        return self._session.text("/metrics")

    def contract(self) -> Mapping[str, Any]:
        """Read the OpenAPI document that the server keeps to."""
        return self._get("/openapi.json")

    def ports(self) -> nouns.Ports:
        """Ask for the agents' range: the ports that they hold, and those that others do."""
        return nouns.Ports.read(self._get("/v1/ports"))

    def events(self, *, agent: str | None = None, after: int = 0) -> list[nouns.Event]:
        """List what happened, the oldest first.

        Args:
            agent: Only what concerns this agent.
            after: The id of the last event that is known.
        """
        found: list[nouns.Event] = []
        while True:
            last = found[-1].id if found else after
            page = self._get("/v1/events", {"agent": agent, "limit": _EVENTS, "after": last})
            events = items(page, "events")
            found += map(nouns.Event.read, events)
            if len(events) < _EVENTS:
                return found

    def follow_events(
        self, *, agent: str | None = None, after: int | None = None
    ) -> Iterator[nouns.Event]:
        """Give each event as it happens, until the caller stops asking; none is lost.

        A stream that breaks off, also as the server is started anew, is taken up after the last
        event that arrived.

        Args:
            agent: Only what concerns this agent.
            after: The id of the last event that is known; None: from now on.

        Raises:
            ServerUnreachableError: The server stays away for longer than half a minute.
        """
        return follows.events(self._session, {"agent": agent}, after)
