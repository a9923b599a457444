"""The timeline: read a page at a time, waited for, or followed."""

from __future__ import annotations

import re
import time
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import falcon

from deployer import model
from deployer.api import documents, inputs, streams
from deployer.api.answers import write
from deployer.api.operations import FOLLOW, PAGE, WAIT, operation
from deployer.api.permissions import caller_of
from deployer.api.services import LOOK_UP_SECONDS, Services
from deployer.errors import TooBusyError
from deployer.keys import Scope
from deployer.store import Store

_PAGE: Final = 100
_ID: Final = re.compile(r"[0-9]{1,18}")


class Events:
    """The timeline, at ``/v1/events``."""

    def __init__(self, services: Services) -> None:
        """Read through services."""
        self._store = services.parts.store
        self._waiting = services.waiting

    @operation(
        "Read the timeline, the oldest first, or follow it",
        {HTTPStatus.OK: (documents.EventList, streams.MEDIA_TYPE)},
        scope=Scope.READ,
        problems=(TooBusyError,),
        query={
            **FOLLOW,
            **WAIT,
            "limit": PAGE["limit"],
            "after": "The id of the last event that is known; a stream begins with what is new",
            "agent": "Only what concerns this agent",
        },
        is_filtered=True,
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List what happened after the cursor; ``next`` is where to go on, also later."""
        agent = req.get_param("agent") or None
        after = inputs.cursor(req, "after")
        if streams.is_wanted(req):
            found = streams.last_event_id(req, _ID)
            known = after if found is None else int(found[0])
            source = followed(self._store, known, agent, caller_of(req).agents)
            _, newest = self._store.events.span()
            instead = f"/v1/events?wait=60&after={newest if known is None else known}"
            instead += f"&agent={quote(agent)}" if agent else ""
            streams.send(req, resp, self._waiting, source, instead)
            return
        events = self._wait(req, after or 0, agent)
        items = [documents.event(each) for each in events]
        last = str(events[-1].id) if events else str(after or 0)
        write(resp, documents.EventList(events=items, count=len(items), next=last))

    def _wait(self, req: falcon.Request, after: int, agent: str | None) -> tuple[model.Event, ...]:
        """Read a page, as soon as there is anything on it or the time is over."""
        deadline = time.monotonic() + inputs.wait_seconds(req)
        limit, patterns = inputs.page_limit(req, _PAGE), caller_of(req).agents
        is_gone = inputs.is_gone(req)
        with self._waiting.place(caller_of(req).who) as may_wait:
            while True:
                generation = self._store.generation
                events = self._store.events.after(
                    after, limit=limit, agent=agent, patterns=patterns
                )
                left = deadline - time.monotonic()
                is_over = left <= 0 or is_gone() or self._waiting.is_closed
                if events or is_over or not may_wait:
                    return events
                self._store.wait_for_commit(generation, min(left, LOOK_UP_SECONDS))


def followed(
    store: Store, known: int | None, agent: str | None, patterns: tuple[str, ...]
) -> streams.Source:
    """Give each event of the timeline as it is written down, its id as that of the stream's.

    Args:
        store: Where it is kept.
        known: The id of the last event that the client knows; None: the latest there is.
        agent: Only what concerns this agent.
        patterns: Only what concerns agents of such names.
    """
    first, last = store.events.span()
    if known is not None and (known < first - 1 or known > last):
        # Trimmed, or the database is a copy of a former one: ids beyond its end come again.
        message = "what happened after the last event that you know is not kept any more"
        yield streams.json_event("gap", {"message": message, "after": known, "first": first})
    known = last if known is None else min(known, last)
    yield streams.StreamEvent(id=str(known))
    while True:
        generation = store.generation
        events = store.events.after(known, limit=_PAGE, agent=agent, patterns=patterns)
        for each in events:
            known = each.id
            document = documents.event(each).model_dump(mode="json")
            yield streams.json_event("", document, str(known))
        if not events:
            store.wait_for_commit(generation, LOOK_UP_SECONDS)
            yield None
