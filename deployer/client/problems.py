"""Problem documents (RFC 9457) and failed exchanges, turned back into the server's own errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from deployer.client import nouns
from deployer.errors import (
    AuthenticationRequiredError,
    DeployerError,
    DeploymentAbandonedError,
    DeploymentCanceledError,
    ForbiddenError,
    PackageTooLargeError,
    Problem,
    ServerUnreachableError,
    TooBusyError,
    error_class,
)
from deployer.vocabulary import DeploymentStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROXY_ERRORS: Final[dict[int, type[DeployerError]]] = {
    401: AuthenticationRequiredError,
    403: ForbiddenError,
    413: PackageTooLargeError,
    429: TooBusyError,
}
"""What the statuses mean that a proxy in front of the server gives in pages of its own."""


def error_from_problem(document: Mapping[str, Any]) -> DeployerError:
    """Rebuild the error that the server raised.

    Args:
        document: A problem document; members that are missing count as empty.

    Returns:
        An error of the server's class, DeployerError for a code that this version does not know.
    """
    code = str(document.get("code", ""))
    error = error_class(code)(
        str(document.get("detail") or document.get("title") or "cannot tell what went wrong"),
        cause=str(document.get("cause") or ""),
        hint=str(document.get("hint") or ""),
        problems=[
            Problem(str(each.get("where", "")), str(each.get("message", "")))
            for each in document.get("errors") or ()
        ],
        evidence=[str(line) for line in document.get("evidence") or ()],
    )
    error.document = document
    return error


def error_from_status(url: str, status: int, reason: str) -> DeployerError:
    """Make an error of an answer that is no problem document, so comes from somebody between.

    Args:
        url: What was called.
        status: An HTTP status of 300 or more.
        reason: Its phrase, or where a redirect leads.
    """
    told = f"it answered {status} {reason}".rstrip()
    if cls := _PROXY_ERRORS.get(status):
        return cls(f"cannot use {url}: {told}", cause=told)
    return ServerUnreachableError(
        f"cannot use {url}: {told}",
        cause=told,
        hint="is this the address of an ATOLL Deployment Server?",
    )


def error_from_deployment(deployment: nouns.Deployment) -> DeployerError:
    """Make the error that says why a deployment that is over did not succeed."""
    problem: dict[str, Any] = {"deployment": deployment.document}
    if failure := deployment.failure:
        problem |= failure.document
    elif deployment.status == DeploymentStatus.CANCELED:
        problem["code"] = DeploymentCanceledError.code
        problem["detail"] = f"cannot deploy {deployment.agent}: the deployment was canceled"
    elif deployment.status == DeploymentStatus.ABANDONED:
        problem["code"] = DeploymentAbandonedError.code
        problem["detail"] = f"cannot deploy {deployment.agent}: the server ended meanwhile"
        problem["hint"] = "what was done is undone; deploy again"
    else:
        problem["detail"] = f"cannot deploy {deployment.agent}: it {deployment.status}"
    return error_from_problem(problem)


def deployment_of(error: DeployerError) -> nouns.Deployment | None:
    """Tell which deployment an error is about: all its steps, as the server last told them."""
    document = error.document.get("deployment")
    return nouns.Deployment.read(document) if document else None
