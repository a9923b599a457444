"""supervisord's own web UI, passed through from its socket at ``/supervisor/`` behind our login."""

from __future__ import annotations

import re
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlencode, urlsplit

import falcon
import requests

from deployer.agent_secrets import AgentSecrets
from deployer.api import inputs, permissions, streams
from deployer.api.followed_logs import FollowedLog
from deployer.api.operations import operation
from deployer.api.origins import require_own_page
from deployer.api.services import Waiting
from deployer.errors import (
    BadRequestError,
    ForbiddenError,
    RouteUnknownError,
    SupervisordUnreachableError,
    TooBusyError,
)
from deployer.http_sessions import http_url, open_session
from deployer.keys import Scope
from deployer.model import agent_of_program
from deployer.state_dir import StateDir
from deployer.supervisord_confs import SERVICE, Credentials

_PREFIX: Final = "/supervisor"
_CONNECT_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 10.0
_ACT_SECONDS: Final = 120.0  # a stop lasts as long as the agent likes, up to its stop time
_LONGEST_TAIL: Final = 1024 * 1024
_PAGE: Final = re.compile(r"|(?:index|tail)\.html|stylesheets/[a-z]+\.css|images/[a-z0-9]+\.\w{3}")
_FOLLOWED: Final = re.compile(r"logtail/(?P<program>[^/]+)(?:/(?P<stream>stdout|stderr))?")
_ACTIONS: Final = frozenset({"refresh", "start", "stop", "restart", "clearlog"})
_ENDS: Final = frozenset({"stop", "restart"})
_QUERY: Final = ("action", "processname", "message", "limit")
_TAIL: Final = "tail.html"
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

    def __init__(
        self,
        url: str,
        credentials: Credentials,
        state: StateDir,
        waiting: Waiting,
        secrets: AgentSecrets,
    ) -> None:
        """Pass requests on to url.

        Args:
            url: Of supervisord's HTTP.
            credentials: What it asks for.
            state: Where the logs lie that are followed.
            waiting: Places for acts and followed logs.
            secrets: Hidden in the logs of agents that were given some.
        """
        self._url = url
        self._credentials = credentials
        self._state = state
        self._waiting = waiting
        self._secrets = secrets

    @operation(
        "Show supervisord's own web UI",
        {HTTPStatus.OK: "*/*", HTTPStatus.SEE_OTHER: None},
        scope=Scope.READ,
        problems=(RouteUnknownError, TooBusyError, SupervisordUnreachableError),
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
        followed = _FOLLOWED.fullmatch(path)
        if followed:
            log = self._log(followed["program"], followed["stream"] or "stdout")
            resp.content_type = falcon.MEDIA_TEXT
            resp.stream = FollowedLog(
                log,
                self._waiting,
                inputs.is_gone(req),
                who=permissions.caller_of(req).who,
                unsent_bytes=partial(streams.unsent_bytes, req),
                recheck=req.context.recheck,
                redact=lambda lines: self._secrets.redact_program(followed["program"], lines),
            )
        elif path == _TAIL and self._secrets.hides(program := _program(_query(req))):
            # supervisord cuts a log at any byte, and half a secret is not recognised as one.
            resp.status = HTTPStatus.SEE_OTHER
            resp.location = f"{_PREFIX}/logtail/{program}"
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
        if "action" in query:
            require_own_page(req)
            program = _program(query)
            req.context.target = f"{query['action']} {program}".strip()
            req.context.agent, _ = agent_of_program(program) or ("", 0)
            permissions.require_act(req, Scope.OPERATE)
            _refuse_suicide(query)
            with self._waiting.required_place(permissions.caller_of(req).who):
                answer = self._ask(path, query, _ACT_SECONDS)
        else:
            answer = self._ask(path, query, _ANSWER_SECONDS)
        location = answer.headers.get("Location")
        if location is not None:
            # supervisord says 301, which a browser may remember instead of acting again.
            resp.status = HTTPStatus.SEE_OTHER
            resp.location = _below_prefix(location)
            return
        resp.content_type = answer.headers.get("Content-Type", falcon.MEDIA_HTML)
        resp.data = answer.content

    def _ask(self, path: str, query: dict[str, str], seconds: float) -> requests.Response:
        """Ask supervisord for a page.

        Raises:
            SupervisordUnreachableError: No answer, or none that such a page gives.
        """
        try:
            with open_session(self._url) as session:
                answer = session.get(
                    f"{http_url(self._url)}/{path}?{urlencode(query)}",
                    auth=(self._credentials.username, self._credentials.password),
                    timeout=(_CONNECT_SECONDS, seconds),
                    allow_redirects=False,
                )
        except requests.RequestException as error:
            raise SupervisordUnreachableError(
                "cannot show supervisord's web UI: supervisord does not answer",
                cause="supervisord does not answer",
            ) from error
        if answer.status_code >= HTTPStatus.BAD_REQUEST:
            raise SupervisordUnreachableError(
                f"cannot show supervisord's web UI: it answered {answer.status_code}",
                cause=f"supervisord answered {answer.status_code}",
            )
        return answer

    def _log(self, program: str, stream: str) -> Path:
        """Find the log that supervisord writes for a program.

        Raises:
            RouteUnknownError: There is none here.
        """
        path: Path | None = None
        if program == SERVICE:
            path = self._state.logs / "deployer.log"
        elif agent_of_program(program) is not None:
            logs = {"stdout": self._state.stdout_log, "stderr": self._state.stderr_log}
            path = logs[stream](program)
        if path is None or not path.exists():
            raise RouteUnknownError(
                f"cannot follow the {stream} of {program[:80]}: there is no such log here",
                cause="no such log",
            )
        return path


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


def _program(query: dict[str, str]) -> str:
    """Name the program that a page is about: of ``GROUP:PROCESS`` the group, which is the same."""
    return query.get("processname", "").split(":")[0]


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
