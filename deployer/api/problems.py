"""Errors as problem documents (RFC 9457): the only place where an error becomes a status."""

from __future__ import annotations

import http
import json
import logging
import sqlite3
from typing import Any, Final

import falcon

from deployer.errors import (
    BadRequestError,
    DeployerError,
    Kind,
    NoSpaceError,
    PackageTooLargeError,
    RouteUnknownError,
    UnsupportedMediaTypeError,
)

_log: Final = logging.getLogger(__name__)

STATUSES: Final = {
    Kind.MALFORMED: http.HTTPStatus.BAD_REQUEST,
    Kind.INVALID: http.HTTPStatus.UNPROCESSABLE_ENTITY,
    Kind.UNAUTHENTICATED: http.HTTPStatus.UNAUTHORIZED,
    Kind.FORBIDDEN: http.HTTPStatus.FORBIDDEN,
    Kind.UNKNOWN: http.HTTPStatus.NOT_FOUND,
    Kind.CONFLICT: http.HTTPStatus.CONFLICT,
    Kind.TOO_LARGE: http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Kind.UNSUPPORTED: http.HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Kind.BUSY: http.HTTPStatus.TOO_MANY_REQUESTS,
    Kind.TIMEOUT: http.HTTPStatus.REQUEST_TIMEOUT,
    Kind.UNAVAILABLE: http.HTTPStatus.SERVICE_UNAVAILABLE,
    Kind.NO_SPACE: http.HTTPStatus.INSUFFICIENT_STORAGE,
    Kind.INTERNAL: http.HTTPStatus.INTERNAL_SERVER_ERROR,
}

_REASON_CHARACTERS: Final = 120
_RETRY_SECONDS: Final = 1


def problem_document(error: DeployerError, request_id: str, **more: Any) -> dict[str, Any]:
    """Write an error as the members of a problem document.

    Args:
        error: What went wrong.
        request_id: As in X-Request-Id, to find the request in the server's log.
        more: Further members, such as the deployment that failed.
    """
    status = STATUSES[error.kind]
    document: dict[str, Any] = {
        "type": f"urn:atoll-deployer:problem:{error.code}",
        "title": error.code.replace("-", " ").capitalize(),
        "status": status.value,
        "detail": error.detail,
        "code": error.code,
    }
    if error.cause:
        document["cause"] = error.cause
    if error.hint:
        document["hint"] = error.hint
    if error.problems:
        document["errors"] = [
            {"where": problem.where, "message": problem.message} for problem in error.problems
        ]
    if error.evidence:
        document["evidence"] = list(error.evidence)
    return {**document, **more, "request_id": request_id}


def status_members(status: int) -> dict[str, Any]:
    """Name a problem after its status, where none of our own errors stands behind it."""
    phrase = http.HTTPStatus(status).phrase
    code = phrase.lower().replace(" ", "-")
    return {
        "type": f"urn:atoll-deployer:problem:{code}",
        "title": phrase.capitalize(),
        "status": status,
        "code": code,
    }


def reason_phrase(error: DeployerError) -> str:
    """Shorten an error to what fits a status line: printable ASCII, at most 120 characters.

    ATOLL's client shows its user nothing else.
    """
    words = error.cause or error.detail
    plain = " ".join(words.encode("ascii", "replace").decode().split())
    plain = "".join(character if character.isprintable() else "?" for character in plain)
    return plain[:_REASON_CHARACTERS]


def write_problem(
    resp: falcon.Response, error: DeployerError, *, request_id: str, **more: Any
) -> None:
    """Make a response the problem document of an error."""
    status = STATUSES[error.kind]
    resp.status = status
    resp.content_type = "application/problem+json"
    resp.data = json.dumps(problem_document(error, request_id, **more)).encode()
    if error.kind is Kind.UNAUTHENTICATED:
        resp.set_header("WWW-Authenticate", 'Bearer realm="atoll-deployer"')
    default = _RETRY_SECONDS if error.kind is Kind.BUSY else None
    seconds = getattr(error, "retry_after_seconds", default)
    if seconds is not None:
        resp.set_header("Retry-After", str(seconds))


def on_error(
    req: falcon.Request, resp: falcon.Response, error: DeployerError, _params: dict[str, Any]
) -> None:
    """Answer with one of our own errors."""
    write_problem(resp, error, request_id=req.context.request_id)
    if getattr(req.context, "is_wire", False):
        # Only here: proxies and HTTP/2 drop reason phrases, so nothing of ours relies on them.
        status = STATUSES[error.kind]
        resp.status = f"{status.value} {reason_phrase(error)}"


def on_http_error(
    req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, params: dict[str, Any]
) -> None:
    """Answer with an error of falcon's as with one of ours."""
    status = falcon.http_status_to_code(error.status)
    words = error.description or error.title or http.HTTPStatus(status).phrase
    ours: DeployerError
    if status == http.HTTPStatus.NOT_FOUND:
        ours = RouteUnknownError(
            f"cannot find {req.method} {req.path}: there is no such address",
            cause="no such address",
            hint="GET /openapi.json lists what there is",
        )
    elif status == http.HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
        ours = UnsupportedMediaTypeError(f"cannot read the body: {words}")
    elif status == http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        ours = PackageTooLargeError(f"cannot take the body: {words}")
    else:
        ours = BadRequestError(f"cannot do {req.method} {req.path}: {words}")
    on_error(req, resp, ours, params)
    if status != STATUSES[ours.kind]:
        resp.status = error.status
        document = problem_document(ours, req.context.request_id)
        resp.data = json.dumps(document | status_members(status)).encode()
    for name, value in dict(error.headers or {}).items():
        resp.set_header(name, value)


def on_surprise(
    req: falcon.Request, resp: falcon.Response, error: Exception, params: dict[str, Any]
) -> None:
    """Answer with what nobody foresaw: its traceback goes to the log, not to the client."""
    _log.error(
        "%s %s (request %s) broke", req.method, req.path, req.context.request_id, exc_info=error
    )
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        full = NoSpaceError(
            f"cannot do {req.method} {req.path}: the disk is full, so nothing can be written down",
            cause="disk full: state.db",
            hint="free space below the state directory",
        )
        on_error(req, resp, full, params)
        return
    ours = DeployerError(
        f"cannot do {req.method} {req.path}: the server failed",
        cause="the server failed",
        hint=f"the server's log has the traceback under request {req.context.request_id}",
    )
    on_error(req, resp, ours, params)
