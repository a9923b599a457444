"""The protocol of one deploy: name the package, upload it when asked to, watch until it is over."""

from __future__ import annotations

import base64
import contextlib
import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from deployer.byte_sizes import size_text
from deployer.client import nouns, streams
from deployer.client.archives import Archive, Upload
from deployer.client.problems import deployment_of, error_from_deployment
from deployer.client.sessions import NotStreamedError
from deployer.errors import (
    ChecksumConflictError,
    DeployerError,
    NoTrustedKeysError,
    PackageUnknownError,
    ServerUnreachableError,
    SignatureMissingError,
    TooBusyError,
    WaitTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from deployer.client.sessions import Reply, Session

LONGEST_HOLD_SECONDS: Final = 20
"""Well below the server's 120 s, and below the 30 s after which many proxies give up."""

START_SECONDS: Final = 60
"""How long the server holds the request for an installed agent that it only has to start."""

_PATH: Final = "/v1/deployments"
_AWAY_SECONDS: Final = 30.0  # an API that was killed is back within 5
_BUSY_PAUSE_SECONDS: Final = 0.5


def upload(
    session: Session, archive: Archive, on_progress: Callable[[nouns.Step], None] | None = None
) -> nouns.Package:
    """Send a package's bytes; those that the server has already are not stored twice.

    Args:
        session: Where to.
        archive: What to send.
        on_progress: Is told of the step ``upload`` as it begins, at each percent, and at its end.
    """
    clock = _Clock("upload", on_progress)
    whole = size_text(archive.size_bytes)
    clock.tell("running", f"0B of {whole}, 0 %")
    percent_told = 0

    def tell_percent(sent_bytes: int) -> None:
        nonlocal percent_told
        percent = 100 * sent_bytes // max(1, archive.size_bytes)
        if percent > percent_told:
            percent_told = percent
            clock.tell("running", f"{size_text(sent_bytes)} of {whole}, {percent} %")

    try:
        with archive.open() as file:
            body = Upload(file, archive.size_bytes, tell_percent)
            reply = session.call(
                "POST",
                "/v1/packages",
                body=body,
                headers=_headers(archive),
                is_idempotent=True,  # those bytes are stored once
            )
    except DeployerError as error:
        clock.tell("failed", error.cause or error.detail)
        raise
    clock.tell("done", f"{archive.size_bytes} bytes")
    return nouns.Package.read({"md5": archive.md5, "sha256": archive.sha256} | dict(reply.document))


def _headers(archive: Archive) -> dict[str, str]:
    headers = {"Content-Type": "application/zip"}
    if archive.signature is not None:
        headers["X-Package-Signature"] = base64.b64encode(archive.signature).decode()
    return headers


def add_signature(session: Session, archive: Archive) -> nouns.Package:
    """Send a package's signature alone.

    Raises:
        SignatureMissingError: It has none.
    """
    if archive.signature is None:
        raise SignatureMissingError(
            "cannot send a signature: no .minisig file lies beside the package",
            cause="no signature beside the package",
            hint="make one with `atoll-deployer sign PACKAGE.zip --key FILE`",
        )
    path = f"/v1/packages/{archive.sha256}/signature"
    headers = {"Content-Type": "text/plain"}
    reply = session.call("PUT", path, body=archive.signature, headers=headers)
    return nouns.Package.read(reply.document)


def _vouch(
    session: Session, archive: Archive, on_progress: Callable[[nouns.Step], None] | None
) -> None:
    """Send a package's signature, and the package with it when the server does not have that.

    A server that trusts no keys has no use for it.
    """
    if archive.signature is None:
        return
    try:
        with contextlib.suppress(NoTrustedKeysError):
            add_signature(session, archive)
    except PackageUnknownError:
        upload(session, archive, on_progress)


def deploy(
    session: Session,
    archive: Archive,
    options: dict[str, Any],
    wait_seconds: float,
    on_progress: Callable[[nouns.Step], None] | None = None,
    *,
    idempotency_key: str,
) -> nouns.Deployed:
    """Deploy a package by its MD5, uploading it only when the server does not have it.

    Two packages may share an MD5; the server says so, and then the SHA-256 names this one.

    Args:
        session: Where to.
        archive: What to deploy.
        options: Further members of the request: strategy, force, start.
        wait_seconds: For the whole deployment.
        on_progress: Is told of each change of a step.
        idempotency_key: Names this deployment among all that this caller asks for.

    Raises:
        WaitTimeoutError: It is not over after wait_seconds; it goes on.
        DeployerError: Why it failed, by the server's own class; `deployment_of` has its steps.
    """
    reply = name_package(
        session, _PATH, archive, options, on_progress, idempotency_key=idempotency_key
    )
    if "id" not in reply.document:
        return nouns.Deployed(connection=nouns.Connection.read(reply.document), deployment=None)
    deployment = nouns.Deployment.read(reply.document)
    return outcome(follow(session, deployment, wait_seconds, on_progress))


def name_package(
    session: Session,
    path: str,
    archive: Archive,
    options: dict[str, Any],
    on_progress: Callable[[nouns.Step], None] | None = None,
    *,
    hold_seconds: float = START_SECONDS,
    idempotency_key: str | None = None,
) -> Reply:
    """Ask something about a package, which is uploaded when the server does not have it.

    Args:
        session: Whom to ask.
        path: Where.
        archive: The package, which the request's member ``package`` names.
        options: Further members of the request.
        on_progress: Is told of the step ``upload``, at each percent.
        hold_seconds: How long the server may hold the request.
        idempotency_key: Of the request; None: it only looks.
    """

    def ask(checksum: str) -> Reply:
        media = {"package": checksum} | options
        call = partial(
            session.call,
            "POST",
            path,
            media=media,
            hold_seconds=hold_seconds,
            idempotency_key=idempotency_key,
            is_idempotent=True,
        )
        try:
            return call()
        except PackageUnknownError:
            upload(session, archive, on_progress)
        return call()

    _vouch(session, archive, on_progress)
    try:
        return ask(archive.md5)
    except ChecksumConflictError:
        return ask(archive.sha256)


def outcome(deployment: nouns.Deployment) -> nouns.Deployed:
    """Tell what a deployment that is over came to.

    Raises:
        DeployerError: Why it did not succeed; `deployment_of` has its steps.
    """
    if not deployment.succeeded:
        raise error_from_deployment(deployment)
    return nouns.Deployed(connection=deployment.connection, deployment=deployment)


def follow(
    session: Session,
    deployment: nouns.Deployment,
    wait_seconds: float,
    on_progress: Callable[[nouns.Step], None] | None = None,
) -> nouns.Deployment:
    """Watch a deployment until it is over, whether well or not.

    An API that is killed meanwhile comes back and settles the deployment, so half a minute
    without an answer is borne. A server that streams as much as it can already is asked again and
    again instead.

    Raises:
        WaitTimeoutError: It is not over after wait_seconds; it goes on.
        ServerUnreachableError: The server stays away.
    """
    deadline = time.monotonic() + wait_seconds
    path = f"{_PATH}/{deployment.id}/events"
    try:
        for event in streams.follow(session, path, {}, deadline=deadline):
            if event.event == "end":
                return nouns.Deployment.read(event.document)
            if event.event == "step" and on_progress is not None:
                on_progress(nouns.Step.read(event.document))
    except (TooBusyError, NotStreamedError):
        return _look_until(session, deployment, deadline, wait_seconds, on_progress)
    last = _look(session, deployment.id, {"wait": 0})
    if last.is_over:
        return last
    raise _overdue(last, wait_seconds)


def _look_until(
    session: Session,
    deployment: nouns.Deployment,
    deadline: float,
    wait_seconds: float,
    on_progress: Callable[[nouns.Step], None] | None,
) -> nouns.Deployment:
    """Watch a deployment by looking at it, held by the server as long as nothing changes."""
    told: dict[int, tuple[str, str]] = {}  # outcome and message of each step, by its place
    answered_at = time.monotonic()
    while True:
        if on_progress is not None:
            _tell_changes(deployment, told, on_progress)
        if deployment.is_over:
            return deployment
        left = deadline - time.monotonic()
        if left <= 0:
            raise _overdue(deployment, wait_seconds)
        asked_at, before = time.monotonic(), deployment
        params = {"wait": max(1, min(LONGEST_HOLD_SECONDS, int(left)))}
        if on_progress is not None:
            params["after"] = _progress(deployment)
        try:
            deployment = _look(session, deployment.id, params)
            answered_at = time.monotonic()
        except ServerUnreachableError:
            if time.monotonic() - answered_at > _AWAY_SECONDS:
                raise
        if deployment == before and time.monotonic() - asked_at < _BUSY_PAUSE_SECONDS:
            # The server is away, or holds as many requests already as it can.
            time.sleep(min(_BUSY_PAUSE_SECONDS, left))


def _tell_changes(
    deployment: nouns.Deployment,
    told: dict[int, tuple[str, str]],
    on_progress: Callable[[nouns.Step], None],
) -> None:
    for place, step in enumerate(deployment.steps):
        if told.get(place) != (step.outcome, step.message):
            told[place] = (step.outcome, step.message)
            on_progress(step)


def _progress(deployment: nouns.Deployment) -> int:
    """Count what began and what ended, as the server does to see whether it has news for us."""
    return sum(1 if step.ended_at is None else 2 for step in deployment.steps)


def _look(session: Session, deployment_id: str, params: dict[str, int]) -> nouns.Deployment:
    path = f"{_PATH}/{deployment_id}"
    try:
        reply = session.call("GET", path, params=params, hold_seconds=params["wait"])
    except TooBusyError:
        # Too many requests are held already: look without being held.
        reply = session.call("GET", path)
    except DeployerError as error:
        # A held request may answer with the failure itself.
        if (deployment := deployment_of(error)) is None:
            raise
        return deployment
    return nouns.Deployment.read(reply.document)


def _overdue(deployment: nouns.Deployment, wait_seconds: float) -> WaitTimeoutError:
    step = deployment.steps[-1].name if deployment.steps else deployment.status
    error = WaitTimeoutError(
        f"cannot wait longer for the deployment of {deployment.agent}: after {wait_seconds:g} s"
        f" it is still at {step}",
        cause=f"still at {step} after {wait_seconds:g} s",
        hint="the server goes on with it; watch it, or cancel it",
    )
    error.document = {"code": error.code, "deployment": deployment.document}
    return error


class _Clock:
    """Tells the course of a step that the client itself does."""

    def __init__(self, name: str, on_progress: Callable[[nouns.Step], None] | None) -> None:
        self._name = name
        self._on_progress = on_progress
        self._started_at = datetime.now(UTC)

    def tell(self, outcome: str, message: str) -> None:
        if self._on_progress is None:
            return
        now = datetime.now(UTC)
        step = nouns.Step(
            name=self._name,
            outcome=outcome,
            started_at=self._started_at,
            ended_at=None if outcome == "running" else now,
            duration_seconds=(now - self._started_at).total_seconds(),
            message=message,
        )
        self._on_progress(step)
