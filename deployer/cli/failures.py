"""Errors on a terminal, and the exit codes that tell scripts what they mean."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

from deployer.cli.durations import seconds_text
from deployer.errors import (
    DeployerError,
    Kind,
    ServeRefusedError,
    ServerUnreachableError,
    SettingsInvalidError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    USAGE = 2  # click's own, and settings that cannot be used
    UNREACHABLE = 3
    REFUSED = 4
    INTERRUPTED = 130  # what shells say of a program that SIGINT ended


def exit_code(error: DeployerError) -> ExitCode:
    """Tell how a command ends that this error ended."""
    match error:
        case SettingsInvalidError() | ServeRefusedError():
            return ExitCode.USAGE
        case ServerUnreachableError():
            return ExitCode.UNREACHABLE
        case _ if error.kind in {Kind.UNAUTHENTICATED, Kind.FORBIDDEN}:
            return ExitCode.REFUSED
        case _:
            return ExitCode.FAILED


def lines(error: DeployerError) -> Iterator[str]:
    """Say an error in lines for people: the sentence, then what is behind it, then what to do.

    Of a deployment that failed the sentence ends with the time that it took, and it is said which
    log the evidence is out of.
    """
    deployment: Mapping[str, Any] = error.document.get("deployment") or {}
    seconds = deployment.get("duration_seconds")
    yield error.detail if seconds is None else f"{error.detail} ({seconds_text(seconds)})"
    if error.cause and error.cause not in error.detail:
        yield f"cause: {error.cause}"
    told = [each for each in error.problems if str(each) not in error.detail]
    # With one problem the sentence holds it; with several the list is whole, to be worked down.
    for problem in error.problems if len(error.problems) > 1 else told:
        yield f"  - {problem}"
    if error.evidence and deployment:
        steps: list[Mapping[str, Any]] = deployment.get("steps") or []
        is_install = bool(steps) and steps[-1].get("name") == "install"
        yield f"the last lines of its {'install log' if is_install else 'log'}:"
    for line in error.evidence:
        yield f"  | {line}"
    if error.hint:
        yield f"hint: {error.hint}"
    if deployment.get("status") == "rolled_back":
        yield f"{deployment['agent']} is as it was before"


def problem_document(error: DeployerError) -> dict[str, Any]:
    """Say an error for machines: the server's own problem document, or one of the same form."""
    if error.document:
        return {"detail": error.detail, "code": error.code} | dict(error.document)
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": error.kind.value,
        "detail": error.detail,
        "code": error.code,
        "cause": error.cause,
        "hint": error.hint,
        "errors": [{"where": each.where, "message": each.message} for each in error.problems],
        "evidence": list(error.evidence),
    }
    return {name: value for name, value in document.items() if value}
