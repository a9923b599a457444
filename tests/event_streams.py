"""Server-sent events as a test reads them: by the HTML standard's own steps, section 9.2.6."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import requests

from tests.servers import RunningServer

_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True)
class Heard:
    """One event, or a comment, whose kind is ``:``."""

    kind: str
    data: str
    id: str

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class Listener:
    """A stream that was opened; iterating gives its events until it ends."""

    def __init__(self, response: requests.Response) -> None:
        self.response = response
        self.last_id = ""
        self._events = self._read()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Heard:
        """Give the next event; comments are left out."""
        while (event := next(self._events)).kind == ":":
            pass
        return event

    def next_of_any_kind(self) -> Heard:
        return next(self._events)

    def _lines(self) -> Iterator[str]:
        rest = b""
        for chunk in self.response.iter_content(chunk_size=None):
            *lines, rest = _LINE_END.split(rest + chunk)
            yield from (line.decode() for line in lines)

    def _read(self) -> Iterator[Heard]:
        kind, data = "", ""
        for line in self._lines():
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if line.startswith(":"):
                yield Heard(":", value, self.last_id)
            elif field == "event":
                kind = value
            elif field == "data":
                data += value + "\n"
            elif field == "id" and "\0" not in value:
                self.last_id = value
            elif not line:
                if data:
                    yield Heard(kind or "message", data.removesuffix("\n"), self.last_id)
                kind, data = "", ""


@contextmanager
def listening(
    server: RunningServer,
    path: str,
    *,
    after: str = "",
    token: str | None = None,
    patience: float = 0,
    **params: Any,
) -> Iterator[Listener]:
    """Open a stream; silence of half a minute is an error, for heartbeats are due before.

    Args:
        server: Whom to ask.
        path: Of the stream.
        after: The id after which it goes on.
        token: Instead of the server's own.
        patience: For how many seconds to come again while there is no place.
        params: Of the query.
    """
    headers = {"Authorization": f"Bearer {server.token if token is None else token}"}
    if after:
        headers["Last-Event-ID"] = after
    options: dict[str, Any] = {"params": params, "headers": headers, "stream": True}
    deadline = time.monotonic() + patience
    while True:
        with requests.get(f"{server.url}{path}", timeout=30, **options) as response:
            if response.status_code == 429 and time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            assert response.status_code == 200, response.text
            assert response.headers["Content-Type"] == "text/event-stream"
            yield Listener(response)
            return
