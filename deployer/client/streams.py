"""Server-sent events: lines into events, and a stream that goes on where it broke off."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from deployer.client.answers import unreadable
from deployer.client.problems import error_from_problem
from deployer.errors import ServerUnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from deployer.client.sessions import Session

SILENCE_SECONDS: Final = 45.0
"""The server breaks a silence after 10 s: four heartbeats missed, and the connection is dead."""

_RECONNECT_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event of a stream.

    Attributes:
        event: Its type; ``message`` when the server names none.
        data: Its lines, joined; None: it only says from where on to listen again.
        id: Where a stream that broke off is taken up again; may be empty.
    """

    event: str
    data: str | None
    id: str

    @property
    def document(self) -> dict[str, Any]:
        """Its data as a JSON object.

        Raises:
            ServerUnreachableError: It is none.
        """
        try:
            document = json.loads(self.data or "")
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise unreadable(f"event {self.event}", "its data is no JSON object")
        return document


def events(lines: Iterable[str], last_id: str = "") -> Iterator[ServerSentEvent]:
    """Read a stream's lines as the HTML standard says, section 9.2.6.

    Args:
        lines: Without line ends; comments, the server's heartbeats, are skipped.
        last_id: The id that holds until another is given.
    """
    kind, data = "", list[str]()
    told_id = last_id
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data or last_id != told_id:
                text = "\n".join(data) if data else None
                yield ServerSentEvent(kind or "message", text, last_id)
            kind, data, told_id = "", [], last_id
        elif name == "event":
            kind = value
        elif name == "data":
            data.append(value)
        elif name == "id" and "\0" not in value:
            last_id = value


def follow(
    session: Session, path: str, params: Mapping[str, Any], *, deadline: float | None = None
) -> Iterator[ServerSentEvent]:
    """Give a stream's events until its end, through restarts of the server, each event once.

    A stream that ends without saying so is taken up again where it broke off.

    Args:
        session: Whom to ask.
        path: Of the stream.
        params: Of the query.
        deadline: The moment, of the monotonic clock, when to stop listening; None: never.

    Raises:
        ServerUnreachableError: The server stays away for longer than half a minute.
        NotStreamedError: The server does not stream it.
        TooBusyError: It streams as much as it can already.
        DeployerError: The server's own error.
    """
    last_id, away_since = "", None
    while deadline is None or time.monotonic() < deadline:
        began_at = time.monotonic()
        seconds = None if deadline is None else f"{deadline - began_at:.3f}"
        try:
            with session.stream(
                path,
                params={**params, "wait": seconds},
                last_event_id=last_id,
                silence_seconds=SILENCE_SECONDS,
            ) as lines:
                away_since = None
                for event in events(lines, last_id):
                    last_id = event.id
                    if event.event == "problem":
                        raise error_from_problem(event.document)
                    yield event
                    if event.event == "end":
                        return
        except ServerUnreachableError:
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > _RECONNECT_SECONDS:
                raise
        if time.monotonic() - began_at < _PAUSE_SECONDS:
            time.sleep(_PAUSE_SECONDS)
