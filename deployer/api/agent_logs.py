"""Agents' logs: their last lines, waited for, or followed from release to release."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final

import falcon

from deployer.agent_logs import AgentLog, Batch, Bookmark
from deployer.api import documents, inputs, problem_sets, streams
from deployer.api.answers import write
from deployer.api.operations import FOLLOW, WAIT, operation
from deployer.api.permissions import caller_of
from deployer.api.services import Services
from deployer.errors import AgentUnknownError, BadRequestError, TooBusyError
from deployer.keys import Scope
from deployer.model import Release

_TAIL: Final = 100
_LONGEST_TAIL: Final = 10_000
_LOOK_SECONDS: Final = 0.2
_EVENT_BYTES: Final = 64 * 1024
_ANSWER_BYTES: Final = 1024 * 1024
_GAP: Final = (
    "lines may be missing here, and the next one its beginning: the log was rotated or deleted"
    " before it was read"
)
_ID: Final = re.compile(r"[0-9a-f_-]{1,4000}")


class AgentLogs:
    """What an agent writes, at ``/v1/agents/{agent}/logs``."""

    def __init__(self, services: Services) -> None:
        """Read through services."""
        self._services = services
        self._state = services.parts.state
        self._store = services.parts.store

    @operation(
        "Read an agent's log, or follow it",
        {HTTPStatus.OK: (documents.Logs, streams.MEDIA_TYPE)},
        scope=Scope.READ,
        problems=(*problem_sets.AGENT, TooBusyError),
        query={
            **FOLLOW,
            **WAIT,
            "stream": "stdout, stderr or install",
            "tail": "How many lines to begin with, up to 10000",
            "after": "`next` of the answer before: what was written since, release by release",
        },
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, agent: str) -> None:
        """Read the last lines of its current release, oldest first, or what came after some."""
        stream = _stream(req.get_param("stream") or documents.LogStream.STDOUT)
        lines = min(req.get_param_as_int("tail", min_value=0, default=_TAIL), _LONGEST_TAIL)
        after = _bookmark(req.get_param("after"), "after")
        if streams.is_wanted(req):
            found = streams.last_event_id(req, _ID)
            if found is not None:
                after = _bookmark(found[0], streams.LAST_EVENT_ID)
            self._store.agents.get(agent)
            source = self._followed(agent, stream, lines, after)
            begin = f"tail={lines}" if after is None else f"after={after}"
            instead = f"/v1/agents/{agent}/logs?stream={stream}&wait=60&{begin}"
            streams.send(req, resp, self._services.waiting, source, instead)
            return
        seconds = inputs.wait_seconds(req)
        with closing(self._open(agent, stream, lines, after)) as log:
            if after is None:
                batch = log.begin(with_unfinished=True)
            else:
                batch = self._wait(req, log, seconds)
            found_lines = [] if batch is None else batch.lines
            if after is None:  # with an unfinished line there is one more
                found_lines = found_lines[len(found_lines) - min(lines, len(found_lines)) :]
            document = documents.Logs(
                agent=agent,
                stream=stream,
                release=None if batch is None else batch.release,
                lines=found_lines,
                gap=batch is not None and batch.has_gap,
                next=str(log.bookmark),
            )
        write(resp, document)

    def _open(
        self, agent: str, stream: documents.LogStream, lines: int, after: Bookmark | None
    ) -> AgentLog:
        redact = self._services.parts.secrets.redact
        path_of = partial(self._path, stream)
        return AgentLog(self._store, agent, path_of, redact=redact, lines=lines, after=after)

    def _path(self, stream: documents.LogStream, release: Release) -> Path:
        match stream:
            case documents.LogStream.STDOUT:
                return self._state.stdout_log(release.program)
            case documents.LogStream.STDERR:
                return self._state.stderr_log(release.program)
            case documents.LogStream.INSTALL:
                return self._state.install_log(release.agent, release.number)

    def _wait(self, req: falcon.Request, log: AgentLog, seconds: float) -> Batch | None:
        """Read on, as soon as there is anything new or the time is over."""
        deadline = time.monotonic() + seconds
        waiting, is_gone = self._services.waiting, inputs.is_gone(req)
        with waiting.place(caller_of(req).who) as may_wait:
            while (batch := log.read(_ANSWER_BYTES)) is None:
                is_over = time.monotonic() >= deadline or is_gone() or waiting.is_closed
                if is_over or not may_wait:
                    return None
                self._store.wait_for_commit(self._store.generation, _LOOK_SECONDS)
        return batch

    def _followed(
        self, agent: str, stream: documents.LogStream, lines: int, after: Bookmark | None
    ) -> streams.Source:
        """Give lines as they are written, and say when another release goes on with them."""
        shown: int | None = None
        with closing(self._open(agent, stream, lines, after)) as log:
            batch = None
            if after is None:
                batch = log.begin()
                if batch is None:
                    yield streams.StreamEvent(id=str(log.bookmark))
            while True:
                if batch is not None:
                    yield from _told(batch, shown, log.bookmark)
                    shown = batch.release
                try:
                    batch = log.read(_EVENT_BYTES)
                except AgentUnknownError:
                    yield streams.json_event("end", {"reason": f"{agent} was removed"})
                    return
                if batch is None:
                    self._store.wait_for_commit(self._store.generation, _LOOK_SECONDS)
                    yield None


def _told(batch: Batch, shown: int | None, bookmark: Bookmark) -> Iterator[streams.StreamEvent]:
    """Say who wrote some lines, if that was another release before, and what they are."""
    if batch.release != shown:
        yield streams.json_event("release", {"release": batch.release})
    if batch.has_gap:
        yield streams.json_event("gap", {"release": batch.release, "message": _GAP})
    yield streams.StreamEvent(tuple(batch.lines), id=str(bookmark))


def _bookmark(text: str | None, name: str) -> Bookmark | None:
    if text is None:
        return None
    try:
        return Bookmark.parse(text)
    except ValueError as error:
        raise BadRequestError(
            f"cannot go on after {name} {text[:80]!r}: it is none that this log gave out",
            cause=f"bad {name}",
            hint=f"leave {name} out to begin anew",
        ) from error


def _stream(word: str) -> documents.LogStream:
    if word in set(documents.LogStream):
        return documents.LogStream(word)
    raise BadRequestError(
        f"cannot read stream {word[:40]!r}: it is one of {', '.join(documents.LogStream)}",
        cause="no such stream",
    )
