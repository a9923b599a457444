"""Who comes in: request ids, tokens, and no web page of somebody else's."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
import uuid
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import falcon

from deployer.api import pages
from deployer.errors import AuthenticationRequiredError, ForbiddenError

OPEN_PATHS: Final = frozenset({"/livez", "/readyz", "/health", "/login"})
"""What answers without a token: whether the server is there, and the way in."""

COOKIE: Final = "atoll_session"
_SESSION_SECONDS: Final = 12 * 3600
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_COOKIE_PATHS: Final = ("/supervisor", "/docs", "/openapi.json")
_KEY_CONTEXT: Final = b"atoll-deployer session "


class Gate:
    """Middleware before every resource."""

    def __init__(self, token: str, hosts: frozenset[str]) -> None:
        """Let in whoever shows token; empty: whoever this machine's own address was called by.

        Args:
            token: What clients must show.
            hosts: Names by which this server may be called when it asks for no token. A page that
                rebinds its own name to this machine's address calls it by that name.
        """
        self._token = token.encode()
        self._hosts = hosts

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Name the request, and refuse it unless it may come in."""
        given = req.get_header("X-Request-Id") or ""
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        req.context.request_id = request_id
        resp.set_header("X-Request-Id", request_id)
        self._refuse_foreign_pages(req)
        if req.path in OPEN_PATHS:
            return
        if not self._token:
            self._refuse_foreign_names(req)
        elif not self._knows(req):
            if req.method == "GET" and req.path.startswith(_COOKIE_PATHS) and _is_browser(req):
                raise falcon.HTTPSeeOther("/login")
            raise AuthenticationRequiredError(
                f"cannot do {req.method} {req.path}: no token was shown, or not the right one",
                cause="token missing or wrong",
                hint="send `Authorization: Bearer TOKEN`; the token lies in the state directory's"
                " file `token` on the server's machine",
            )

    def is_token(self, text: str) -> bool:
        """Tell whether a text is the token, in a time that tells nothing about it."""
        return not self._token or hmac.compare_digest(text.encode(), self._token)

    def new_session(self) -> str:
        """Make the value of a session cookie: its end, signed with the token."""
        end = str(int(time.time()) + _SESSION_SECONDS)
        return f"{end}.{self._sign(end)}"

    def _is_session(self, value: str) -> bool:
        end, _, signature = value.partition(".")
        if not end.isdecimal() or not hmac.compare_digest(signature, self._sign(end)):
            return False
        return int(end) > time.time()

    def _sign(self, text: str) -> str:
        return hmac.new(self._token, _KEY_CONTEXT + text.encode(), hashlib.sha256).hexdigest()

    def _knows(self, req: falcon.Request) -> bool:
        scheme, _, credentials = (req.get_header("Authorization") or "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(credentials.strip()):
            return True
        key = req.get_header("X-API-Key")
        if key is not None and self.is_token(key):
            return True
        if req.path.startswith(_COOKIE_PATHS):
            return any(self._is_session(value) for value in req.get_cookie_values(COOKIE) or ())
        return False

    def _refuse_foreign_names(self, req: falcon.Request) -> None:
        host = req.host.strip("[]").lower()
        try:
            is_own = ip_address(host).is_loopback
        except ValueError:
            is_own = host in self._hosts
        if not is_own:
            raise ForbiddenError(
                f"cannot answer to the name {req.host!r}: without a token only this machine's own"
                " addresses are answered",
                cause="unknown host name",
                hint="call it by 127.0.0.1, or serve with --auth token",
            )

    def _refuse_foreign_pages(self, req: falcon.Request) -> None:
        """Refuse what another site's page sends in the name of whoever looks at it.

        ``Sec-Fetch-Site`` and ``Origin`` are set by browsers and cannot be set by pages.
        """
        if req.method in _SAFE_METHODS:
            return
        site = req.get_header("Sec-Fetch-Site")
        origin = req.get_header("Origin")
        if site not in {None, "same-origin", "none"} or (
            origin is not None and urlsplit(origin).netloc != req.netloc
        ):
            raise ForbiddenError(
                f"cannot do {req.method} {req.path}: it comes from another site's page",
                cause="cross-site request",
            )


def _is_browser(req: falcon.Request) -> bool:
    return "text/html" in (req.get_header("Accept") or "")


class Login:
    """A small form for people with a browser, at ``/login``."""

    def __init__(self, gate: Gate) -> None:
        """Give sessions of gate's."""
        self._gate = gate

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Show the form."""
        pages.show(resp, "login.html.j2", message="")

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Take the token, and lead to supervisord's web UI."""
        form = falcon.uri.parse_query_string(
            req.bounded_stream.read(4096).decode("ascii", "replace")
        )
        token = form.get("token", "")
        if not isinstance(token, str) or not self._gate.is_token(token.strip()):
            resp.status = HTTPStatus.UNAUTHORIZED
            pages.show(resp, "login.html.j2", message="That is not the token.")
            return
        resp.set_cookie(
            COOKIE,
            self._gate.new_session(),
            max_age=_SESSION_SECONDS,
            path="/",
            secure=req.scheme == "https",
            http_only=True,
            same_site="Strict",
        )
        resp.status = HTTPStatus.SEE_OTHER
        resp.location = "/supervisor/"
