"""Requests that never become one: what is refused on its head alone, as problem documents too.

waitress takes a whole body in, half a gigabyte if need be, before any code of ours is asked. So a
request with a large one is judged as soon as its head is there, and refused before `100 Continue`;
one in chunks, whose size nobody knows, once it has become large.
"""

from __future__ import annotations

import io
import json
import sys
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import falcon
from waitress.parser import HTTPRequestParser
from waitress.task import ErrorTask
from waitress.utilities import BadRequest

from deployer.api import accesses
from deployer.api.callers import Callers
from deployer.api.connections import AHEAD_BYTES
from deployer.api.gate import is_open
from deployer.api.problems import STATUSES, problem_document, reason_phrase
from deployer.api.proxies import IS_AGENT, Environ, Proxies
from deployer.api.refusals import Refusals
from deployer.audits import Entry
from deployer.errors import (
    BadRequestError,
    DeployerError,
    PackageTooLargeError,
    ScopeMissingError,
    TooManyAttemptsError,
)
from deployer.instruments import Instruments
from deployer.keys import Caller, Scope

_LARGE_BYTES: Final = 64 * 1024
_CALLER: Final = "atoll.caller"

Judge = Callable[[Environ], DeployerError | None]
"""Says why a request with a large body is refused, out of its head; None: it may come in."""


class Bouncer:
    """Judges requests with large bodies, in the thread that reads from all sockets: it only reads.

    What it lets through meets the gate all the same.
    """

    def __init__(self, callers: Callers, proxies: Proxies, refusals: Refusals) -> None:
        """Let in whom callers knows.

        Args:
            callers: Tells who sends a request.
            proxies: Tells from where.
            refusals: Counts those who are not let in.
        """
        self._callers = callers
        self._proxies = proxies
        self._refusals = refusals

    def judge(self, environ: Environ) -> DeployerError | None:
        """Say why whoever sends this head is not to send its body too."""
        self._proxies.resolve(environ)
        req = falcon.Request(environ)
        if is_open(req.path):
            return PackageTooLargeError(
                f"cannot take the body: {req.path} takes none of more than {_LARGE_BYTES} bytes",
                cause="body too large for this address",
            )
        try:
            caller = self._callers.identify(req, is_page=False)
        except DeployerError as error:
            return error
        environ[_CALLER] = caller
        if caller.scope.includes(Scope.DEPLOY):
            return None
        return ScopeMissingError(
            f"cannot take the body: more than {_LARGE_BYTES} bytes are a package, and sending one"
            f" needs the scope {Scope.DEPLOY}; {caller.who} has {caller.scope}",
            cause=f"needs the scope {Scope.DEPLOY}",
        )

    def note(self, environ: Environ, error: DeployerError, request_id: str) -> None:
        """Count a refusal for the audit, in a thread that may write."""
        caller: Caller | None = environ.get(_CALLER)
        self._refusals.note(
            Entry(
                who=caller.who if caller else "",
                name=caller.name if caller else "",
                operation=f"{environ['REQUEST_METHOD'][:20]} {environ['PATH_INFO'][:200]}",
                source=str(environ["REMOTE_ADDR"]),
                status=STATUSES[error.kind],
                request_id=request_id,
            )
        )


class Parser(HTTPRequestParser):
    """Judges a request when its head is there, if its body is going to be large, or may be.

    It takes all bytes that it is given, so that one request is read at a time.

    Attributes:
        environ: Its head, if it was judged.
        is_admitted: Whether its body may be large.
        rest: What was sent behind it.
    """

    environ: Environ | None = None
    is_admitted = False
    rest = b""
    _if_large: DeployerError | None = None

    def __init__(self, adj: Any, *, address: str, is_agent: bool, judge: Judge) -> None:
        """Ask judge, which gets to know where the connection comes from."""
        super().__init__(adj)
        self._address = address
        self._is_agent = is_agent
        self._judge = judge

    def received(self, data: bytes) -> int:
        """Take bytes of the request; give how many were of use, or wait in `rest`."""
        is_head = not self.headers_finished
        fitting = data
        if self._if_large is not None:
            fitting = data[: _LARGE_BYTES + 1 - self.body_bytes_received]
        consumed: int = super().received(fitting)
        if self.empty:  # blank lines; one by one, many would take seconds
            return len(data) - len(data.lstrip())
        if self.error is None:
            refusal = self._refusal(is_head=is_head)
            if refusal is not None:
                self.error = refusal  # type: ignore[assignment]  # for our RefusalTask, nobody else
                self.completed = True
                self.expect_continue = False
                return len(data)  # what follows is body, and must not be read as another request
        if not self.completed:
            return consumed
        self.rest = data[consumed:]
        if len(self.rest) > AHEAD_BYTES and self.error is None:
            self.error = BadRequest(f"more than {AHEAD_BYTES} bytes follow it unasked")
        return len(data)

    def _refusal(self, *, is_head: bool) -> DeployerError | None:
        """Say why the body is not taken on, after its head, or after a piece of it."""
        if not is_head:
            return self._if_large if self.body_bytes_received > _LARGE_BYTES else None
        if not (self.headers_finished and (self.chunked or self.content_length > _LARGE_BYTES)):
            return None
        self.environ = self._environ()
        refusal = self._judge(self.environ)
        if self.chunked and isinstance(refusal, ScopeMissingError):
            self._if_large, refusal = refusal, None  # small bodies come in chunks, too
        self.is_admitted = self._if_large is None
        return refusal

    def _environ(self) -> Environ:
        return {
            **{f"HTTP_{name}": value for name, value in self.headers.items()},
            "REQUEST_METHOD": self.command,
            "PATH_INFO": self.path,  # type: ignore[attr-defined]  # the stubs miss it
            "QUERY_STRING": "",
            "REMOTE_ADDR": self._address,
            IS_AGENT: self._is_agent,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
        }


class RefusalTask(ErrorTask):
    """Answers a request whose head or size is not taken.

    Attributes:
        upload_bytes: The largest package that is taken.
        bouncer: Knows why, where waitress does not.
        instruments: Where it counts.
    """

    upload_bytes: int
    bouncer: Bouncer
    instruments: Instruments

    def execute(self) -> None:
        """Write the answer and close the connection: its rest cannot be understood."""
        refused: Any = self.request.error  # type: ignore[attr-defined]  # the stubs miss it
        request_id = uuid.uuid4().hex
        environ: Environ = getattr(self.request, "environ", None) or {}
        if isinstance(refused, DeployerError):
            error, status = refused, int(STATUSES[refused.kind])
            self.bouncer.note(environ, error, request_id)
        else:
            error, status = self._error(refused.code, refused.body), int(refused.code)
        document = {**problem_document(error, request_id), "status": status}
        body = json.dumps(document).encode()
        self.status = f"{status} {reason_phrase(error)}"
        self.response_headers = [
            ("Content-Type", "application/problem+json"),
            ("X-Request-Id", request_id),
        ]
        if status == HTTPStatus.UNAUTHORIZED:
            self.response_headers.append(("WWW-Authenticate", 'Bearer realm="atoll-deployer"'))
        if isinstance(error, TooManyAttemptsError):
            self.response_headers.append(("Retry-After", str(error.retry_after_seconds)))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)
        accesses.write_refusal(environ, self.instruments, status, request_id=request_id)

    def _error(self, status: int, words: str) -> DeployerError:
        if status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return BadRequestError(f"cannot read the request: {words}", cause="unreadable request")
        return PackageTooLargeError(
            f"cannot take the body: a package may have {self.upload_bytes} bytes",
            cause=f"package larger than {self.upload_bytes} bytes",
            hint="leave data and environments out of the package, or raise limits.upload_bytes",
        )
