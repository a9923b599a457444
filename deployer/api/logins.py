"""The way in for people with a browser: the token once, then a session in a cookie."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import falcon

from deployer.api import pages
from deployer.api.gate import COOKIE, SESSION_SECONDS, Gate
from deployer.api.operations import operation

_FORM: Final = "application/x-www-form-urlencoded"
_LONGEST_FORM: Final = 4096


class Login:
    """A small form, at ``/login``."""

    def __init__(self, gate: Gate) -> None:
        """Give sessions of gate's."""
        self._gate = gate

    @operation("Show the login form", {HTTPStatus.OK: "text/html"}, is_open=True)
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Show the form."""
        pages.show(resp, "login.html.j2", message="")

    @operation(
        "Log in",
        {HTTPStatus.SEE_OTHER: None, HTTPStatus.UNAUTHORIZED: "text/html"},
        body=_FORM,
        is_open=True,
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Take the token, and lead to supervisord's web UI."""
        form = req.bounded_stream.read(_LONGEST_FORM).decode("ascii", "replace")
        token = falcon.uri.parse_query_string(form).get("token", "")
        if not isinstance(token, str) or not self._gate.is_token(token.strip()):
            resp.status = HTTPStatus.UNAUTHORIZED
            pages.show(resp, "login.html.j2", message="That is not the token.")
            return
        resp.set_cookie(
            COOKIE,
            self._gate.new_session(),
            max_age=SESSION_SECONDS,
            path="/",
            secure=req.scheme == "https",
            http_only=True,
            same_site="Strict",
        )
        resp.status = HTTPStatus.SEE_OTHER
        resp.location = "/supervisor/"
