"""Logs and the timeline as they grow: streamed, or asked for where there is no place to stream."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from deployer.client import nouns, streams
from deployer.client.sessions import NotStreamedError
from deployer.errors import ServerUnreachableError, TooBusyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from deployer.client.sessions import Session

_HOLD_SECONDS: Final = 20
_PAGE: Final = 1000
_PAUSE_SECONDS: Final = 0.5
_AWAY_SECONDS: Final = 30.0

_Cursor = TypeVar("_Cursor")
_Page = TypeVar("_Page")


@dataclass(frozen=True, slots=True)
class LogPart:
    """What came of a log: lines, or a word about those that follow.

    Attributes:
        lines: Without their ends, the oldest first.
        note: In words, that another release goes on, or that lines may be missing here.
    """

    lines: tuple[str, ...] = ()
    note: str = ""


class _Notes:
    """Says what is to be said before lines."""

    def __init__(self) -> None:
        self._release: int | None = None

    def release(self, number: int | None) -> Iterator[LogPart]:
        """Say that another release goes on, if one was heard before."""
        if number is not None and number != self._release:
            if self._release is not None:
                yield LogPart(note=f"release {number} goes on")
            self._release = number

    @staticmethod
    def gap() -> LogPart:
        """Say that lines may be missing."""
        return LogPart(note="lines may be missing here: they were gone before they were read")


def logs(session: Session, path: str, params: Mapping[str, Any]) -> Iterator[LogPart]:
    """Give the last lines of a log and then what is written, until the agent is removed.

    Args:
        session: Whom to ask.
        path: Of the agent's logs.
        params: Of the query: stream and tail.

    Raises:
        DeployerError: The server's own error, or that it stays away.
    """
    notes, after = _Notes(), None
    try:
        for event in streams.follow(session, path, {**params, "follow": 1}):
            after = event.id or after
            match event.event:
                case "message" if event.data is not None:
                    yield LogPart(tuple(event.data.split("\n")))
                case "release":
                    yield from notes.release(event.document.get("release"))
                case "gap":
                    yield notes.gap()
    except (TooBusyError, NotStreamedError):
        query = {**params, "wait": _HOLD_SECONDS}

        def look(cursor: str | None) -> tuple[nouns.Logs, str | None, bool]:
            known = {**query, "after": cursor}
            reply = session.call("GET", path, params=known, hold_seconds=_HOLD_SECONDS)
            found = nouns.Logs.read(reply.document)
            return found, found.next, bool(found.lines or found.gap)

        for found in _again_and_again(look, after):
            yield from notes.release(found.release)
            if found.gap:
                yield notes.gap()
            yield LogPart(found.lines)


def events(session: Session, params: Mapping[str, Any], after: int | None) -> Iterator[nouns.Event]:
    """Give what happens from now on, or what happened after an event that is known.

    Args:
        session: Whom to ask.
        params: Of the query: agent.
        after: The id of the last event that is known; None: the latest there is.

    Raises:
        DeployerError: The server's own error, or that it stays away.
    """
    known = after
    try:
        for event in streams.follow(session, "/v1/events", {**params, "follow": 1, "after": after}):
            known = int(event.id) if event.id else known
            if event.event == "message" and event.data is not None:
                yield nouns.Event.read(event.document)
    except (TooBusyError, NotStreamedError):

        def look(cursor: int | None) -> tuple[list[nouns.Event], int | None, bool]:
            query = {**params, "after": cursor or 0, "wait": _HOLD_SECONDS, "limit": _PAGE}
            reply = session.call("GET", "/v1/events", params=query, hold_seconds=_HOLD_SECONDS)
            found = [nouns.Event.read(each) for each in reply.document["events"]]
            return found, int(reply.document["next"]), bool(found)

        is_behind = known is None
        while is_behind:  # what was there before is not asked for
            page, known, _ = look(known)
            is_behind = len(page) == _PAGE
        for page in _again_and_again(look, known):
            yield from page


def _again_and_again(
    look: Callable[[_Cursor | None], tuple[_Page, _Cursor | None, bool]], cursor: _Cursor | None
) -> Iterator[_Page]:
    """Give page after page; a server that is away is borne for half a minute.

    Args:
        look: Gives what came after a cursor, the next cursor, and whether anything came.
        cursor: Where to begin.
    """
    answered_at = time.monotonic()
    while True:
        asked_at = time.monotonic()
        try:
            page, cursor, is_news = look(cursor)
        except ServerUnreachableError:
            if time.monotonic() - answered_at > _AWAY_SECONDS:
                raise
            time.sleep(_PAUSE_SECONDS)
            continue
        answered_at = time.monotonic()
        if is_news:
            yield page
        elif answered_at - asked_at < _PAUSE_SECONDS:  # it holds as many requests as it can
            time.sleep(_PAUSE_SECONDS)
