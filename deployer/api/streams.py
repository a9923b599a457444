"""Server-sent events: what happens, as the body of a response, for as long as somebody listens.

The format is that of the HTML standard, section 9.2: a browser's EventSource reads it, and so does
`deployer.client.streams`. A source is a generator that gives events, and None at least once a
second while there are none; so whoever passes them on finds time to look after the connection.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import falcon

from deployer.api import inputs
from deployer.api.permissions import caller_of
from deployer.api.problems import problem_document
from deployer.api.services import Waiting
from deployer.errors import BadRequestError, DeployerError

MEDIA_TYPE: Final = "text/event-stream"
LAST_EVENT_ID: Final = "Last-Event-ID"
HEARTBEAT_SECONDS: Final = 10.0
UNSENT_BYTES: Final = 256 * 1024
"""How much waits for a client at most, beside the one event in hand, before its source rests."""

STUCK_SECONDS: Final = 60.0
"""How long a client may take nothing of what waits for it."""

_RETRY: Final = b"retry: 1000\n\n"
_HEARTBEAT: Final = b":\n\n"
_RECHECK_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.1
_BREAKS: Final = re.compile(r"[\r\n]")


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event.

    Attributes:
        lines: Its data, a line each; without any it is not told, and only its id is remembered.
        kind: Its type; empty for ``message``.
        id: Where a stream that breaks off here goes on; empty: where it would have before.
    """

    lines: tuple[str, ...] = ()
    kind: str = ""
    id: str = ""

    def to_bytes(self) -> bytes:
        """Write it as it is sent; what would end a line within a line is replaced."""
        fields = [
            *([f"event: {self.kind}"] if self.kind else ()),
            *(f"data: {_BREAKS.sub(chr(0xFFFD), line)}" for line in self.lines),
            *([f"id: {self.id}"] if self.id else ()),
        ]
        return "\n".join([*fields, "", ""]).encode("utf-8", "replace")


Source = Generator[StreamEvent | None, None, None]


def json_event(kind: str, document: Mapping[str, Any], event_id: str = "") -> StreamEvent:
    """Make an event whose data is a JSON object."""
    return StreamEvent((json.dumps(document),), kind, event_id)


def is_wanted(req: falcon.Request) -> bool:
    """Tell whether a request asks for a stream: by ``?follow=1``, or by what it accepts."""
    if inputs.boolean(req.get_param("follow"), "follow", default=False):
        return True
    return MEDIA_TYPE in (req.get_header("Accept") or "").lower()


def last_event_id(req: falcon.Request, form: re.Pattern[str]) -> re.Match[str] | None:
    """Read where a stream is taken up again; None: from its beginning.

    Raises:
        BadRequestError: No stream of this kind gave it out.
    """
    text = req.get_header(LAST_EVENT_ID) or ""
    if not text:
        return None
    found = form.fullmatch(text)
    if found is None:
        raise BadRequestError(
            f"cannot go on after {LAST_EVENT_ID} {text[:80]!r}: it is none that this stream gave"
            " out",
            cause=f"bad {LAST_EVENT_ID}",
            hint="leave the header out to begin anew",
        )
    return found


def send(
    req: falcon.Request, resp: falcon.Response, waiting: Waiting, source: Source, instead: str
) -> None:
    """Make a response a stream; with ``?wait=N`` it lasts so many seconds at most.

    Args:
        req: The request.
        resp: Its response.
        waiting: Places for held requests.
        source: What is sent. It must open what it needs only when it is asked for its first event.
        instead: The address of the long poll for those for whom there is no place.

    Raises:
        TooBusyError: There is none; its hint names that address.
        BadRequestError: ``wait`` is no number of seconds.
    """
    seconds = inputs.wait_seconds(req) if req.has_param("wait") else None
    if req.method != "HEAD":
        connection = Connection(
            is_gone=lambda: waiting.is_closed or inputs.is_gone(req)(),
            unsent_bytes=partial(unsent_bytes, req),
            # As at the gate: whoever may not come in any more is not told any more either.
            recheck=getattr(req.context, "recheck", lambda: None),
            who=caller_of(req).who,
            request_id=req.context.request_id,
        )
        resp.stream = EventStream(source, waiting, connection, instead, seconds=seconds)
    resp.content_type = MEDIA_TYPE
    resp.set_header("Cache-Control", "no-store")
    resp.set_header("X-Accel-Buffering", "no")  # or nginx waits until some kilobytes are full


@dataclass(frozen=True, slots=True)
class Connection:
    """What a stream must know of the one who listens.

    Attributes:
        is_gone: Tells that they have left, or that the server ends.
        unsent_bytes: Counts what was written and not yet taken.
        recheck: Raises once they may not listen any more.
        who: Whose request it is.
        request_id: As in X-Request-Id.
    """

    is_gone: Callable[[], bool]
    unsent_bytes: Callable[[], int]
    recheck: Callable[[], None]
    who: str
    request_id: str


class EventStream:
    """A source of events on its way to a client.

    It holds a thread, so it takes a place among the held requests; `close`, which the server calls
    in any case, lets go of it. A client that reads slowly makes its source rest, so that no more
    than `UNSENT_BYTES` wait for it; one that takes nothing for a minute is left.
    """

    def __init__(
        self,
        source: Source,
        waiting: Waiting,
        connection: Connection,
        instead: str,
        *,
        seconds: float | None = None,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        stuck_seconds: float = STUCK_SECONDS,
    ) -> None:
        """Take a place.

        Args:
            source: What is sent.
            waiting: Places for held requests.
            connection: Who listens.
            instead: What to ask where there is no place.
            seconds: How long it lasts; None: until its source ends.
            heartbeat_seconds: The longest silence, and the longest that a key lives on which was
                revoked.
            stuck_seconds: How long a client may take nothing.

        Raises:
            TooBusyError: As many requests as there may be are held already.
        """
        self._source = source
        self._connection = connection
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._stuck_seconds = stuck_seconds
        with ExitStack() as undo:
            undo.callback(source.close)
            hint = f"GET {instead} holds a request until there is news, or answers at once"
            undo.enter_context(waiting.required_place(connection.who, hint))
            self._held = undo.pop_all()

    def __iter__(self) -> Iterator[bytes]:
        """Give blocks of whole events, and comments where there are none for a while."""
        yield _RETRY  # nothing is sent before the first byte, not even a status
        try:
            yield from self._blocks()
        except DeployerError as error:
            document = problem_document(error, self._connection.request_id)
            yield json_event("problem", document).to_bytes()

    def close(self) -> None:
        """Let go of the source and of the place."""
        self._held.close()

    def _blocks(self) -> Iterator[bytes]:
        spoken_at = checked_at = time.monotonic()
        recheck_seconds = min(_RECHECK_SECONDS, self._heartbeat_seconds)
        for event in self._source:
            if self._connection.is_gone():
                return
            if time.monotonic() - checked_at >= recheck_seconds:
                self._connection.recheck()
                checked_at = time.monotonic()
            if event is not None:
                yield event.to_bytes()
                spoken_at = time.monotonic()
            elif time.monotonic() - spoken_at >= self._heartbeat_seconds:
                yield _HEARTBEAT
                spoken_at = time.monotonic()
            if self._is_over() or not has_room(
                self._connection.unsent_bytes,
                lambda: self._is_over() or self._connection.is_gone(),
                self._stuck_seconds,
            ):
                return

    def _is_over(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline


def has_room(
    unsent_bytes: Callable[[], int],
    is_over: Callable[[], bool],
    stuck_seconds: float = STUCK_SECONDS,
) -> bool:
    """Wait until a client has taken enough.

    Args:
        unsent_bytes: Counts what was written and not yet taken.
        is_over: Tells that nothing more is to be sent.
        stuck_seconds: How long the client may take nothing.

    Returns:
        False: there is nobody to send more to.
    """
    least, taken_at = unsent_bytes(), time.monotonic()
    while (unsent := unsent_bytes()) > UNSENT_BYTES:
        if unsent < least:
            least, taken_at = unsent, time.monotonic()
        if time.monotonic() - taken_at > stuck_seconds or is_over():
            return False
        time.sleep(_PAUSE_SECONDS)
    return True


def unsent_bytes(req: falcon.Request) -> int:
    """Count what waitress holds for this client; 0 under a server that does not say.

    waitress would hold 16 MiB for each before it let the writer wait, and let it wait for ever.
    """
    told = req.env.get("waitress.client_disconnected")  # a method of the connection's channel
    return int(getattr(getattr(told, "__self__", None), "total_outbufs_len", 0))
