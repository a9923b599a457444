"""supervisord's own web UI, passed through from its socket at ``/supervisor/`` behind our login."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import falcon
import requests

from deployer.api.operations import operation
from deployer.api.services import Waiting
from deployer.errors import ForbiddenError, SupervisordUnreachableError
from deployer.supervisor_rpc import http_url, open_session
from deployer.supervisord_confs import SERVICE, Credentials

_PREFIX: Final = "/supervisor"
_TIMEOUT_SECONDS: Final = 10.0
_FOLLOW_SECONDS: Final = 120.0
_BLOCK_BYTES: Final = 16 * 1024
_PASSED_ON: Final = frozenset({"content-type", "cache-control", "pragma", "expires"})
_ENDS_US: Final = frozenset({"stopall", "restartall"})
_FRAME: Final = "frame-ancestors 'none'"


class SupervisorUi:
    """A reverse proxy for what people look at; XML-RPC is not let through."""

    def __init__(self, url: str, credentials: Credentials, waiting: Waiting) -> None:
        """Pass requests on to url; a followed log takes a place of waiting's."""
        self._url = url
        self._credentials = credentials
        self._waiting = waiting

    @operation(
        "Show supervisord's own web UI",
        {HTTPStatus.OK: "text/html", HTTPStatus.SEE_OTHER: None},
        problems=(HTTPStatus.FORBIDDEN, HTTPStatus.SERVICE_UNAVAILABLE),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, path: str = "") -> None:
        """Pass a page, a picture, or an action on.

        supervisord's actions are plain GETs without any token, so another site's page could send
        them: they must come from a page of this very site.
        """
        if req.path == _PREFIX:  # its links are relative, so they need the slash
            resp.status = HTTPStatus.SEE_OTHER
            resp.location = f"{_PREFIX}/"
            return
        if path == "RPC2":
            raise ForbiddenError("cannot pass XML-RPC on: use the REST API, or supervisorctl")
        if req.has_param("action"):
            _refuse_other_sites(req)
            _refuse_suicide(req)
        is_followed = path.startswith(("logtail/", "mainlogtail"))
        answer = self._ask(req, path)
        resp.status = HTTPStatus(answer.status_code)
        for name, value in answer.headers.items():
            if name.lower() in _PASSED_ON:
                resp.set_header(name, value)
        resp.set_header("Content-Security-Policy", _FRAME)
        location = answer.headers.get("Location")
        if location is not None:
            resp.location = _below_prefix(location)
        if is_followed:
            resp.stream = self._follow(answer)
        else:
            resp.data = answer.content
            answer.close()

    def _ask(self, req: falcon.Request, path: str) -> requests.Response:
        query = f"?{req.query_string}" if req.query_string else ""
        session = open_session(self._url)
        try:
            return session.get(
                f"{http_url(self._url)}/{path}{query}",
                auth=(self._credentials.username, self._credentials.password),
                timeout=_TIMEOUT_SECONDS,
                allow_redirects=False,
                stream=True,
            )
        except requests.RequestException as error:
            raise SupervisordUnreachableError(
                f"cannot show supervisord's web UI: supervisord does not answer: {error}",
                cause="supervisord does not answer",
            ) from error

    def _follow(self, answer: requests.Response) -> Iterator[bytes]:
        """Pass a log on while it grows, for two minutes at most: each follower holds a thread."""
        with self._waiting.required_place(), answer:
            yield from answer.iter_content(_BLOCK_BYTES)


def _refuse_suicide(req: falcon.Request) -> None:
    """Refuse what would stop this very API, and with it the page that could start it again."""
    action = req.get_param("action")
    name = (req.get_param("processname") or "").split(":")[0]
    if action in _ENDS_US or (action == "stop" and name == SERVICE):
        raise ForbiddenError(
            f"cannot do {action} from here: it would end the API that shows this page",
            cause="would end the API itself",
            hint="stop single agents here, or use supervisorctl on the server's machine",
        )


def _refuse_other_sites(req: falcon.Request) -> None:
    site = req.get_header("Sec-Fetch-Site")
    if site is not None:
        is_ours = site == "same-origin"
    else:  # a browser from before 2023, or no browser: then it says where it comes from
        is_ours = urlsplit(req.get_header("Referer") or "").netloc == req.netloc
    if not is_ours:
        raise ForbiddenError(
            "cannot do this: it does not come from this server's own page",
            cause="cross-site request",
            hint="open /supervisor/ and press the button there",
        )


def _below_prefix(location: str) -> str:
    """Lead a redirect of supervisord's back below /supervisor, whatever host it names."""
    parts = urlsplit(location)
    query = f"?{parts.query}" if parts.query else ""
    return f"{_PREFIX}/{parts.path.lstrip('/')}{query}"
