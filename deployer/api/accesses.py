"""Each request as it ends: a line in the log, and figures for the metrics.

Around the whole application instead of within it, so that what streams is over when its last byte
is, and so that every line logged meanwhile carries the request's fields.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from http import HTTPStatus
from typing import Any, Final

from deployer import log_fields
from deployer.api.proxies import Environ, Wsgi
from deployer.instruments import Instruments

ROUTE: Final = "atoll.route"
"""Where the address of the resource that answers stands in a WSGI environment."""

NO_ROUTE: Final = "none"
"""Stands for that where nothing answers: paths are whatever their senders like."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
_CONVERTER: Final = re.compile(r":[a-z]+\}")
_LONGEST_PATH: Final = 200
_ROUTINE: Final = frozenset({"/livez", "/readyz", "/health", "/metrics"})
"""What machines ask every few seconds; a line is worth nothing as long as all is well."""

_log: Final = logging.getLogger(__name__)


@cache
def address_of(template: str) -> str:
    """Give the address of a route without falcon's converters: ``/v1/agents/{agent}``."""
    return _CONVERTER.sub("}", template)


def wrap(app: Wsgi, instruments: Instruments) -> Wsgi:
    """Have every request to an application written down."""

    def wrapped(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        access = _Access(environ, instruments)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            access.answer(int(status[:3]))
            return start_response(status, headers, exc_info)

        try:
            body = app(environ, start)
        except BaseException:
            access.end()
            raise
        if isinstance(body, list):  # all there: what is left is between waitress and the client
            access.end()
            return body
        return _Body(body, access)

    return wrapped


def write_refusal(
    environ: Environ, instruments: Instruments, status: int, *, request_id: str
) -> None:
    """Write down a request that no application got to see.

    Args:
        environ: What is known of it, which may be next to nothing.
        instruments: Where it counts.
        status: How it was answered.
        request_id: As in the answer.
    """
    with log_fields.within(request_id=request_id):
        access = _Access(environ, instruments)
        access.answer(status)
        access.end()


class _Access:
    """One request, from when it is taken up until its last byte is given."""

    def __init__(self, environ: Environ, instruments: Instruments) -> None:
        self._environ = environ
        self._instruments = instruments
        self._began = time.monotonic()
        self._status = int(HTTPStatus.INTERNAL_SERVER_ERROR)
        self._until_answer: float | None = None
        self._block = log_fields.begin()
        instruments.requests_in_flight.inc()

    def answer(self, status: int) -> None:
        self._status = status
        self._until_answer = time.monotonic() - self._began

    def end(self) -> None:
        try:
            self._write(self._environ.get(ROUTE, NO_ROUTE))
        finally:
            self._instruments.requests_in_flight.dec()
            log_fields.end(self._block)

    def _write(self, route: str) -> None:
        given = self._environ.get("REQUEST_METHOD", "")
        method = given if given in _METHODS else "OTHER"
        seconds = time.monotonic() - self._began
        until_answer = seconds if self._until_answer is None else self._until_answer
        self._instruments.count_request(method, route, self._status, until_answer)
        level = self._level(route)
        if not _log.isEnabledFor(level):
            return
        extra = {
            log_fields.EXTRA: {
                "method": method,
                "route": route,
                "path": _path_of(self._environ)[:_LONGEST_PATH],
                "status": self._status,
                "seconds": round(seconds, 6),
                "source": str(self._environ.get("REMOTE_ADDR", "")),
            },
            log_fields.MAY_WAIT: level < logging.WARNING,
        }
        # Without looking for the line of code that logs, which costs more than all the rest.
        words = f"{method} {route} {self._status}"
        _log.handle(_log.makeRecord(_log.name, level, "", 0, words, (), None, extra=extra))

    def _level(self, route: str) -> int:
        if self._status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return logging.WARNING
        return logging.DEBUG if route in _ROUTINE else logging.INFO


class _Body:
    """A body that is still to come; waitress closes it, whatever happens."""

    def __init__(self, body: Iterable[bytes], access: _Access) -> None:
        self._body = body
        self._access = access

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._access.end()


def _path_of(environ: Environ) -> str:
    """Give the path as its client meant it: WSGI hands bytes over as Latin-1 (PEP 3333)."""
    path = str(environ.get("PATH_INFO", ""))
    return path if path.isascii() else path.encode("latin-1", "replace").decode(errors="replace")
