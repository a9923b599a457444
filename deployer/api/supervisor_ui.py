"""supervisord's own web UI, passed through from its socket at ``/supervisor/`` behind our login."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import falcon
import requests

from deployer.api.operations import operation
from deployer.api.origins import require_own_page
from deployer.api.services import Waiting
from deployer.errors import (
    BadRequestError,
    ForbiddenError,
    RouteUnknownError,
    SupervisordUnreachableError,
)
from deployer.supervisor_rpc import http_url, open_session
from deployer.supervisord_confs import SERVICE, Credentials

_PREFIX: Final = "/supervisor"
_CONNECT_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 10.0
_ACT_SECONDS: Final = 120.0  # a stop lasts as long as the agent likes, up to its stop time
_FOLLOW_SECONDS: Final = 120.0
_BLOCK_BYTES: Final = 16 * 1024
_LONGEST_TAIL: Final = 1024 * 1024
_PAGE: Final = re.compile(r"|(?:index|tail)\.html|stylesheets/[a-z]+\.css|images/[a-z0-9]+\.\w{3}")
_FOLLOWED: Final = re.compile(r"mainlogtail|logtail/[^/]+(?:/(?:stdout|stderr))?")
_ACTIONS: Final = frozenset({"refresh", "start", "stop", "restart", "clearlog"})
_ENDS: Final = frozenset({"stop", "restart"})
_QUERY: Final = ("action", "processname", "message", "limit")
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'none';"
    " frame-ancestors 'none'; base-uri 'none'"
)


class SupervisorUi:
    """A reverse proxy for what people look at, and for nothing else of supervisord's HTTP.

    What was judged here is what is sent: path and query are written anew, for supervisord reads
    both in its own way (the first of two equal parameters counts, a parameter ``PATH_INFO`` names
    another page).
    """

    def __init__(self, url: str, credentials: Credentials, waiting: Waiting) -> None:
        """Pass requests on to url; acts and followed logs take a place of waiting's."""
        self._url = url
        self._credentials = credentials
        self._waiting = waiting

    @operation(
        "Show supervisord's own web UI",
        {HTTPStatus.OK: "*/*", HTTPStatus.SEE_OTHER: None},
        problems=(
            HTTPStatus.NOT_FOUND,
            HTTPStatus.TOO_MANY_REQUESTS,
            HTTPStatus.SERVICE_UNAVAILABLE,
        ),
        query={
            "action": "start, stop, restart, clearlog or refresh",
            "processname": "Of the program that is meant",
            "limit": "How many bytes of a log",
            "message": "Shown on top of the page",
        },
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, path: str = "") -> None:
        """Pass a page, a picture, a log that grows, or an action on.

        supervisord's actions are plain GETs without any token, so another site's page could send
        them: they must come from a page of this very site.
        """
        if req.path == _PREFIX:  # its links are relative, so they need the slash
            resp.status = HTTPStatus.SEE_OTHER
            resp.location = f"{_PREFIX}/"
            return
        resp.set_header("Content-Security-Policy", _POLICY)
        resp.set_header("Cache-Control", "no-store")
        if _FOLLOWED.fullmatch(path) and ".." not in path:
            resp.content_type = "text/plain; charset=utf-8"
            resp.stream = _FollowedLog(self, path)
        elif _PAGE.fullmatch(path):
            self._pass_on(req, resp, path)
        else:
            raise RouteUnknownError(
                f"cannot find {req.path}: supervisord's web UI has no such page, and of its other"
                " interfaces none is passed on",
                cause="no such page",
                hint="open /supervisor/, or use the REST API",
            )

    def on_head(self, _req: falcon.Request, resp: falcon.Response, **_path: str) -> None:
        """Say no more than that there are pages: a HEAD must neither act nor hold a log open."""
        resp.content_type = falcon.MEDIA_HTML

    def _pass_on(self, req: falcon.Request, resp: falcon.Response, path: str) -> None:
        query = _query(req)
        with ExitStack() as holding:
            seconds = _ANSWER_SECONDS
            if "action" in query:
                require_own_page(req)
                _refuse_suicide(query)
                holding.enter_context(self._waiting.required_place())
                seconds = _ACT_SECONDS
            with self.ask(path, query, seconds) as answer:
                location = answer.headers.get("Location")
                if location is not None:
                    # supervisord says 301, which a browser may remember instead of acting again.
                    resp.status = HTTPStatus.SEE_OTHER
                    resp.location = _below_prefix(location)
                    return
                resp.content_type = answer.headers.get("Content-Type", "text/html; charset=utf-8")
                resp.data = answer.content

    @contextlib.contextmanager
    def ask(
        self, path: str, query: dict[str, str], seconds: float, *, is_streamed: bool = False
    ) -> Iterator[requests.Response]:
        """Ask supervisord for something while the block runs.

        Args:
            path: Below its root, decoded.
            query: Parameters by name, each once.
            seconds: For each pause of the answer.
            is_streamed: Its end is not waited for.

        Raises:
            RouteUnknownError: There is no such log.
            SupervisordUnreachableError: No answer, or none that such a page gives.
        """
        address = f"{http_url(self._url)}/{quote(path, safe='/:')}?{urlencode(query)}"
        try:
            with (
                open_session(self._url) as session,
                session.get(
                    address,
                    auth=(self._credentials.username, self._credentials.password),
                    timeout=(_CONNECT_SECONDS, seconds),
                    allow_redirects=False,
                    stream=is_streamed,
                ) as answer,
            ):
                if answer.status_code == HTTPStatus.NOT_FOUND:
                    raise RouteUnknownError(
                        f"cannot show {path}: supervisord has no such log yet",
                        cause="no such log",
                    )
                if answer.status_code >= HTTPStatus.BAD_REQUEST:
                    raise SupervisordUnreachableError(
                        f"cannot show supervisord's web UI: it answered {answer.status_code}",
                        cause=f"supervisord answered {answer.status_code}",
                    )
                yield answer
        except requests.RequestException as error:
            raise SupervisordUnreachableError(
                "cannot show supervisord's web UI: supervisord does not answer",
                cause="supervisord does not answer",
            ) from error

    def follow(self, path: str) -> Generator[bytes]:
        """Pass a log on while it grows: for two minutes at most, as each follower holds a thread.

        The first block, empty, is given once supervisord has opened the log.

        Raises:
            TooBusyError: As many requests as there may be are held already.
        """
        deadline = time.monotonic() + _FOLLOW_SECONDS
        with (
            self._waiting.required_place(),
            self.ask(path, {}, _FOLLOW_SECONDS, is_streamed=True) as answer,
        ):
            yield b""
            for block in answer.iter_content(_BLOCK_BYTES):
                yield block
                if time.monotonic() > deadline:
                    return


class _FollowedLog:
    """A log on its way to a client; what it holds is let go when the client is gone.

    Begun at once, while a problem can still be told by a status; a generator that was never begun
    would not run its own end either.
    """

    def __init__(self, ui: SupervisorUi, path: str) -> None:
        self._blocks = ui.follow(path)
        next(self._blocks)

    def __iter__(self) -> Iterator[bytes]:
        # What was sent so far is a log, so a silent supervisord is no more than its end.
        with contextlib.suppress(SupervisordUnreachableError):
            yield from self._blocks

    def close(self) -> None:
        self._blocks.close()


def _query(req: falcon.Request) -> dict[str, str]:
    """Read the parameters that pages know; of equal ones the first, as supervisord does.

    Raises:
        BadRequestError: Asked for more of a log than may be read in one go.
    """
    given = parse_qs(req.query_string)
    query: dict[str, str] = {name: given[name][0] for name in _QUERY if name in given}
    limit = query.get("limit", "0")
    # supervisord reads it in its only thread, while all of its programs wait.
    if not re.fullmatch(r"[0-9]{1,7}", limit) or int(limit) > _LONGEST_TAIL:
        raise BadRequestError(
            f"cannot show limit={limit[:80]!r} bytes of a log: at most {_LONGEST_TAIL}",
            cause="bad limit",
        )
    return query


def _refuse_suicide(query: dict[str, str]) -> None:
    """Refuse what would stop this very API, and with it the page that could start it again."""
    action = query["action"]
    group = query.get("processname", "").split(":")[0]
    if action not in _ACTIONS or (action in _ENDS and group == SERVICE):
        raise ForbiddenError(
            f"cannot do {action[:40]!r} from here: only {', '.join(sorted(_ACTIONS))} are passed"
            " on, and to this API itself nothing that ends it",
            cause="would end the API itself",
            hint="act on single agents here, or use supervisorctl on the server's machine",
        )


def _below_prefix(location: str) -> str:
    """Lead a redirect of supervisord's back below /supervisor, whatever host it names."""
    parts = urlsplit(location)
    query = f"?{parts.query}" if parts.query else ""
    return f"{_PREFIX}/{parts.path.lstrip('/')}{query}"
