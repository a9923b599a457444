"""Who comes in: request ids, tokens, and no web page of somebody else's."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
import uuid
from typing import Final

import falcon

from deployer.api import origins
from deployer.errors import AuthenticationRequiredError, ForbiddenError

OPEN_PATHS: Final = frozenset({"/livez", "/readyz", "/health", "/login"})
"""What answers without a token: whether the server is there, and the way in."""

COOKIE: Final = "atoll_session"
SESSION_SECONDS: Final = 12 * 3600
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_PAGES: Final = re.compile(r"/(?:supervisor(?:/.*)?|docs|openapi\.json)", re.DOTALL)
_KEY_CONTEXT: Final = b"atoll-deployer session "


class Gate:
    """Middleware before every resource."""

    def __init__(self, token: str, hosts: frozenset[str]) -> None:
        """Let in whoever shows token; empty: whoever calls this machine by its own name.

        Args:
            token: What clients must show.
            hosts: Names in lower case by which this server may be called when it asks for no token.
        """
        self._token = token.encode()
        self._hosts = hosts

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Name the request, and refuse it unless it may come in."""
        given = req.get_header("X-Request-Id") or ""
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        req.context.request_id = request_id
        resp.set_header("X-Request-Id", request_id)
        resp.set_header("X-Content-Type-Options", "nosniff")
        origins.check_host(req)
        if req.method not in _SAFE_METHODS:
            origins.refuse_foreign_pages(req)
        if req.path in OPEN_PATHS:
            return
        if not self._token:
            self._refuse_foreign_names(req)
        elif not self._knows(req):
            if req.method == "GET" and _PAGES.fullmatch(req.path) and _is_browser(req):
                raise falcon.HTTPSeeOther("/login")
            raise AuthenticationRequiredError(
                f"cannot do {req.method} {req.path}: no token was shown, or not the right one",
                cause="token missing or wrong",
                hint="send `Authorization: Bearer TOKEN`; the token lies in the state directory's"
                " file `token` on the server's machine",
            )

    def is_token(self, text: str) -> bool:
        """Tell whether a text is the token, in a time that tells nothing about it."""
        return not self._token or _are_equal(text, self._token)

    def new_session(self) -> str:
        """Make the value of a session cookie: its end, signed with the token."""
        end = str(int(time.time()) + SESSION_SECONDS)
        return f"{end}.{self._sign(end).decode()}"

    def _is_session(self, value: str) -> bool:
        end, _, signature = value.partition(".")
        # Only what we signed is read as a number.
        return _are_equal(signature, self._sign(end)) and int(end) > time.time()

    def _sign(self, text: str) -> bytes:
        message = _KEY_CONTEXT + text.encode()
        return hmac.new(self._token, message, hashlib.sha256).hexdigest().encode()

    def _knows(self, req: falcon.Request) -> bool:
        scheme, _, credentials = (req.get_header("Authorization") or "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(credentials.strip()):
            return True
        key = req.get_header("X-API-Key")
        if key is not None and self.is_token(key):
            return True
        if _PAGES.fullmatch(req.path):
            return any(self._is_session(value) for value in req.get_cookie_values(COOKIE) or ())
        return False

    def _refuse_foreign_names(self, req: falcon.Request) -> None:
        if not origins.is_called_by_own_name(req, self._hosts):
            raise ForbiddenError(
                f"cannot answer to the name {req.host!r}: without a token only this machine's own"
                " addresses are answered",
                cause="unknown host name",
                hint="call it by 127.0.0.1, or serve with --auth token",
            )


def _are_equal(text: str, secret: bytes) -> bool:
    """Compare in constant time; as bytes, for compare_digest takes no text beyond ASCII."""
    return hmac.compare_digest(text.encode("utf-8", "replace"), secret)


def _is_browser(req: falcon.Request) -> bool:
    return "text/html" in (req.get_header("Accept") or "")
