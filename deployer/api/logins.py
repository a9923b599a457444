"""The way in for people with a browser: the token once, then a session in a cookie.

The cookie alone opens pages (`gate`'s list). What a page asks elsewhere, such as ``/v1``, shows the
session's proof too: see `Callers.proof_of`.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import falcon

from deployer.api import pages, problems
from deployer.api.callers import SESSION_SECONDS, Callers, cookie_name
from deployer.api.operations import operation
from deployer.errors import DeployerError

_FORM: Final = "application/x-www-form-urlencoded"
_LONGEST_FORM: Final = 4096


class Login:
    """A small form, at ``/login``."""

    def __init__(self, callers: Callers) -> None:
        """Give sessions to the holders of keys that callers knows."""
        self._callers = callers

    @operation("Show the login form", {HTTPStatus.OK: "text/html"}, scope=None)
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Show the form."""
        pages.show(resp, "login.html.j2", message="")

    @operation(
        "Log in",
        {
            HTTPStatus.SEE_OTHER: None,
            HTTPStatus.UNAUTHORIZED: "text/html",
            HTTPStatus.TOO_MANY_REQUESTS: "text/html",
        },
        scope=None,
        body=_FORM,
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Take a key, and lead to the dashboard.

        The proof goes along behind the ``#``, which browsers send to nobody: the page keeps it.
        """
        req.context.is_act = True
        place = "/"
        form = req.bounded_stream.read(_LONGEST_FORM).decode("ascii", "replace")
        if self._callers.asks_for_keys:
            text = falcon.uri.parse_query_string(form).get("token", "")
            try:
                holder = self._callers.holder_of([str(text).strip()], req.remote_addr or "")
            except DeployerError as error:  # told to people, on the form: programs do not come here
                problems.write_problem(resp, error, request_id=req.context.request_id)
                pages.show(resp, "login.html.j2", message=error.detail)
                return
            req.context.caller = holder
            session = self._callers.new_session(holder, req.remote_addr or "")
            place = f"/#proof={self._callers.proof_of(session)}"
            resp.set_cookie(
                cookie_name(req),
                session,
                max_age=SESSION_SECONDS,
                path="/",
                secure=req.scheme == "https",
                http_only=True,
                same_site="Strict",
            )
        resp.status = HTTPStatus.SEE_OTHER
        resp.location = place

    @operation("Log out", {HTTPStatus.NO_CONTENT: None}, scope=None)
    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Have the browser forget its session; the key stays what it is."""
        resp.unset_cookie(cookie_name(req), path="/", same_site="Strict")
        resp.status = HTTPStatus.NO_CONTENT
