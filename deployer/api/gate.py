"""Who comes in: request ids, keys, and no web page of somebody else's."""

from __future__ import annotations

import random
import re
from functools import partial
from typing import Any, Final

import falcon

from deployer import log_fields
from deployer.api import accesses, origins, permissions
from deployer.api.callers import Callers
from deployer.api.dashboard import assets
from deployer.errors import AuthenticationRequiredError, ForbiddenError

OPEN_PATHS: Final = frozenset({"/livez", "/readyz", "/health", "/login"})
"""What answers without a key: whether the server is there, and the way in."""

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_random: Final = random.Random()  # noqa: S311 - names, no secrets; the kernel need not be asked
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_PAGES: Final = re.compile(r"/(?:|-/live|supervisor(?:/.*)?|docs|openapi\.json)", re.DOTALL)


class Gate:
    """Middleware before every resource."""

    def __init__(
        self, callers: Callers, hosts: frozenset[str], permitted: permissions.Table
    ) -> None:
        """Let in whom callers knows, to what permitted says.

        Args:
            callers: Tells who sends a request.
            hosts: Names in lower case by which this server may be called when it asks for no key.
            permitted: The operation behind each method and address.
        """
        self._callers = callers
        self._hosts = hosts
        self._permitted = permitted

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Name the request, and refuse it unless it may come in."""
        name_request(req, resp)
        resp.set_header("X-Content-Type-Options", "nosniff")
        origins.check_host(req)
        if req.method not in _SAFE_METHODS:
            origins.refuse_foreign_pages(req)
        if not self._callers.asks_for_keys:
            self._refuse_foreign_names(req)
            origins.refuse_foreign_looks(req)
        if is_open(req.path):
            return
        is_page = _PAGES.fullmatch(req.path) is not None
        try:
            caller = self._callers.identify(req, is_page=is_page)
        except AuthenticationRequiredError:
            if req.method == "GET" and is_page and _is_browser(req):
                raise falcon.HTTPSeeOther("/login") from None
            raise
        req.context.caller = caller
        req.context.recheck = partial(self._callers.recheck, req, is_page=is_page)
        log_fields.note(caller=caller.who)
        self._callers.note_use(req.context.caller)

    def process_resource(
        self, req: falcon.Request, _resp: falcon.Response, _resource: object, params: dict[str, Any]
    ) -> None:
        """Refuse what this caller may not do."""
        req.env[accesses.ROUTE] = accesses.address_of(req.uri_template or accesses.NO_ROUTE)
        if not is_open(req.path):
            permissions.judge(req, self._permitted, params)

    def _refuse_foreign_names(self, req: falcon.Request) -> None:
        if not origins.is_called_by_own_name(req, self._hosts):
            raise ForbiddenError(
                f"cannot answer to the name {req.host!r}: without keys only this machine's own"
                " addresses are answered",
                cause="unknown host name",
                hint="call it by 127.0.0.1, or serve with --auth token",
            )


def is_open(path: str) -> bool:
    """Tell whether an address answers without a key; what pages are made of does, for the login."""
    return path in OPEN_PATHS or path.startswith(assets.PREFIX)


def name_request(req: falcon.Request, resp: falcon.Response) -> None:
    """Give a request the name that its client chose, or one of ours, and say it in the answer."""
    given = req.get_header("X-Request-Id") or ""
    request_id = given if _REQUEST_ID.fullmatch(given) else f"{_random.getrandbits(128):032x}"
    req.context.request_id = request_id
    log_fields.note(request_id=request_id)
    resp.set_header("X-Request-Id", request_id)


def _is_browser(req: falcon.Request) -> bool:
    return "text/html" in (req.get_header("Accept") or "")
