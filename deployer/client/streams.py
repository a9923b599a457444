"""Server-sent events: lines into events, and a stream that goes on where it broke off."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from deployer.errors import ServerUnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from deployer.client.sessions import Session

SILENCE_SECONDS: Final = 45.0
"""The server says something every 15 s: three heartbeats missed, and the connection is dead."""

_RECONNECT_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event of a stream.

    Attributes:
        event: Its type; ``message`` when the server names none.
        data: Its lines, joined.
        id: Where a stream that broke off is taken up again; may be empty.
    """

    event: str
    data: str
    id: str


def events(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    """Read a stream's lines as the HTML standard says, section 9.2.6.

    Args:
        lines: Without line ends; comments, the server's heartbeats, are skipped.
    """
    kind, data, last_id = "", list[str](), ""
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield ServerSentEvent(kind or "message", "\n".join(data), last_id)
            kind, data = "", []
        elif name == "event":
            kind = value
        elif name == "data":
            data.append(value)
        elif name == "id":
            last_id = value


def follow(session: Session, path: str, params: Mapping[str, Any]) -> Iterator[ServerSentEvent]:
    """Give a stream's events until the server ends it, through restarts of the server.

    A stream whose events carry ids is taken up again where it broke off; one without cannot be,
    and ends with the error.

    Raises:
        ServerUnreachableError: The server stays away for longer than half a minute.
        NotStreamedError: The server does not stream it.
        DeployerError: The server's own error.
    """
    last_id, broken_at = "", None
    while True:
        try:
            with session.stream(
                path, params=params, last_event_id=last_id, silence_seconds=SILENCE_SECONDS
            ) as lines:
                for event in events(lines):
                    last_id, broken_at = event.id or last_id, None
                    yield event
        except ServerUnreachableError:
            now = time.monotonic()
            broken_at = broken_at or now
            if not last_id or now - broken_at > _RECONNECT_SECONDS:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return
