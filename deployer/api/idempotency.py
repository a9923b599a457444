"""Requests that may come again: what came with an Idempotency-Key is done once.

The header is that of draft-ietf-httpapi-idempotency-key-header-07: 409 while the first request is
being answered, 422 when the key comes with another one. A request that was refused before anything
was done leaves its key free.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sqlite3
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, BinaryIO, Final, cast
from urllib.parse import parse_qsl

import falcon

from deployer import aeads
from deployer.api import inputs
from deployer.api.permissions import Table, caller_of
from deployer.errors import (
    BadRequestError,
    DeploymentUnknownError,
    IdempotencyKeyInUseError,
    IdempotencyKeyReusedError,
)
from deployer.store import Store
from deployer.store.idempotency import IdempotencyRows

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotent-Replayed"
"""Says that an answer is that of an earlier request; the field's word for it."""

_KEY: Final = re.compile(r'"?([!#-\[\]-~ ]{1,255})"?')
_KEPT_HEADERS: Final = ("Content-Type", "Location", "Cache-Control")
_BOUNDARY: Final = re.compile(r'boundary\s*=\s*"?([^";,]{1,70})"?', re.IGNORECASE)
_NOT_ASKED_FOR: Final = "wait"  # how long a request is held changes nothing of what it does
_CHUNK_BYTES: Final = 1024 * 1024
_log: Final = logging.getLogger(__name__)

Follow = Callable[[falcon.Request, falcon.Response, str], None]


class Repeat:
    """One request that came with a key.

    How it is answered is sealed with what only its sender knows: the answer to POST /v1/keys holds
    the new key's text, which whoever reads the database must not find.

    Attributes:
        id: Of its row.
        fingerprint: What it asks for.
        is_doing: It is being done here and now, not answered as it was before.
    """

    def __init__(self, key: str, who: str, fingerprint: str, rows: IdempotencyRows) -> None:
        """Name a request by its key and its caller's."""
        secret = f"{who}\0{key}".encode()
        self.id = hashlib.sha256(b"idempotency id\0" + secret).hexdigest()
        self.fingerprint = fingerprint
        self.is_doing = False
        self._rows = rows
        self._key = hashlib.sha256(b"idempotency seal\0" + secret).digest()

    def keep(self, resp: falcon.Response) -> None:
        """Write down how it is answered."""
        headers = {name: resp.get_header(name) for name in _KEPT_HEADERS}
        body = (resp.data or b"").decode()
        answer = {"status": resp.status_code, "headers": headers, "body": body}
        sealed = aeads.encrypt(self._key, json.dumps(answer).encode(), self.id.encode())
        self._rows.keep(self.id, sealed)

    def answer_again(self, resp: falcon.Response, sealed: bytes) -> None:
        """Answer as it was answered.

        Raises:
            ValueError: The row is damaged.
        """
        answer = json.loads(aeads.decrypt(self._key, sealed, self.id.encode()))
        resp.status = HTTPStatus(answer["status"])
        resp.data = answer["body"].encode()
        for name, value in answer["headers"].items():
            if value is not None:
                resp.set_header(name, value)
        resp.set_header(REPLAYED, "true")


class Idempotency:
    """Middleware before the resources whose operations are repeatable."""

    def __init__(self, store: Store, permitted: Table, follow: Follow) -> None:
        """Keep answers in store.

        Args:
            store: Where they lie, across the server's own death.
            permitted: The operation behind each method and address.
            follow: Answers with a deployment, whose id it is told, as it is now: its request was
                never answered, as the server ended meanwhile.
        """
        self._rows = store.idempotency
        self._permitted = permitted
        self._follow = follow
        self._guard = threading.Lock()
        self._under_way: dict[str, str] = {}  # fingerprints by id

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, _resource: object, _params: dict[str, Any]
    ) -> None:
        """Answer a request that came before as it was answered then.

        Raises:
            BadRequestError: The key cannot be one.
            IdempotencyKeyReusedError: It came with another request.
            IdempotencyKeyInUseError: The first one is still being answered.
        """
        text = req.get_header(HEADER)
        described = self._permitted.get((req.method, req.uri_template or ""))
        if text is None or described is None or not described.is_repeatable:
            return
        repeat = Repeat(_read(text), caller_of(req).who, fingerprint_of(req), self._rows)
        with self._guard:
            under_way = self._under_way.get(repeat.id)
            if under_way is not None:
                raise _in_use(req) if under_way == repeat.fingerprint else _reused(req)
            self._under_way[repeat.id] = repeat.fingerprint
        req.context.repeat = repeat
        row = self._rows.find(repeat.id)
        if row is not None and row.fingerprint != repeat.fingerprint:
            raise _reused(req)
        if row is not None and row.answer is not None:
            try:
                repeat.answer_again(resp, row.answer)
            except ValueError:  # a damaged row: nobody can tell what was answered
                _log.exception("cannot read how a request was answered")
            else:
                req.context.is_replay = resp.complete = True
                return
        repeat.is_doing = True
        if row is not None and row.deployment is not None:
            try:
                self._follow(req, resp, row.deployment)
            except DeploymentUnknownError:
                pass  # over and forgotten, with its answer: nobody can tell of it any more
            else:
                resp.complete = True
                return
        self._rows.begin(repeat.id, caller_of(req).who, repeat.fingerprint)

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, _resource: object, _succeeded: object
    ) -> None:
        """Keep the answer if anything was done, and else let the key be used anew."""
        repeat: Repeat | None = getattr(req.context, "repeat", None)
        if repeat is None:
            return
        is_done = resp.status_code < HTTPStatus.BAD_REQUEST
        try:
            if repeat.is_doing and (is_done or getattr(req.context, "is_begun", False)):
                repeat.keep(resp)
            elif repeat.is_doing:
                self._rows.forget(repeat.id)
        except sqlite3.Error:  # what was done is done; the same request finds its deployment
            _log.exception("cannot write down how a request was answered")
        finally:
            with self._guard:
                del self._under_way[repeat.id]


def idempotency_id(req: falcon.Request) -> str | None:
    """Name the row of the key that a request came with; None: it came without one."""
    repeat: Repeat | None = getattr(req.context, "repeat", None)
    return None if repeat is None else repeat.id


def keep_answer(req: falcon.Request, resp: falcon.Response) -> None:
    """Keep an answer in the transaction that does what it tells of."""
    repeat: Repeat | None = getattr(req.context, "repeat", None)
    if repeat is not None:
        repeat.keep(resp)


def _read(text: str) -> str:
    """Read a key: a string of RFC 9651 in quotes, as the draft has it, or bare, as many send it."""
    found = _KEY.fullmatch(text.strip())
    if found is None:
        raise BadRequestError(
            f"cannot read {HEADER}: it must be 1 to 255 printable ASCII characters without quotes"
            " and backslashes, in quotes or not",
            cause=f"bad {HEADER}",
        )
    return found[1]


def fingerprint_of(req: falcon.Request) -> str:
    """Digest what a request asks for; the boundary of a form is another each time it is sent."""
    query = sorted(
        pair
        for pair in parse_qsl(req.query_string, keep_blank_values=True)
        if pair[0] != _NOT_ASKED_FOR
    )
    media_type = inputs.media_type(req)
    digest = hashlib.sha256(json.dumps([req.method, req.path, query, media_type]).encode())
    boundary = _BOUNDARY.search(req.content_type or "") if media_type.startswith("multi") else None
    delimiter = b"--" + boundary[1].encode("latin-1", "replace") if boundary else b""
    body = cast("BinaryIO", req.stream)  # a file of waitress's, which has all of it
    pending = b""
    while chunk := body.read(_CHUNK_BYTES):
        pending += chunk
        if delimiter:
            pending = pending.replace(delimiter, b"\n")
            done = max(0, len(pending) - len(delimiter))
        else:
            done = len(pending)
        digest.update(pending[:done])
        pending = pending[done:]
    digest.update(pending)
    body.seek(0)
    return digest.hexdigest()


def _in_use(req: falcon.Request) -> IdempotencyKeyInUseError:
    return IdempotencyKeyInUseError(
        f"cannot do {req.method} {req.path} again: the first request with its {HEADER} is still"
        " being answered",
        cause="the first request is still being answered",
        hint="ask again in a second; the answer will be that of the first",
    )


def _reused(req: falcon.Request) -> IdempotencyKeyReusedError:
    return IdempotencyKeyReusedError(
        f"cannot do {req.method} {req.path}: its {HEADER} came before, with another request",
        cause=f"{HEADER} of another request",
        hint="make a new key for each thing to be done, such as a random UUID",
    )
