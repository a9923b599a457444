"""Packages: looked up by checksum, uploaded once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from typing import BinaryIO, Final, cast

import falcon
from falcon.media.multipart import MultipartForm

from deployer import packages
from deployer.api import documents, inputs, problem_sets
from deployer.api.answers import write
from deployer.api.operations import operation
from deployer.api.permissions import caller_of, require_agent
from deployer.api.services import Services
from deployer.api.signatures import sent_signature
from deployer.errors import (
    PackageTooLargeError,
    PackageUnknownError,
    Problem,
    RequestInvalidError,
    UnsupportedMediaTypeError,
)
from deployer.event_kinds import EventKind
from deployer.keys import Scope
from deployer.launches import requirement_rules
from deployer.model import Package
from deployer.store import now
from deployer.trust import missing

ZIP_TYPES: Final = ("application/zip", "application/x-zip-compressed", "application/octet-stream")
FORM: Final = "multipart/form-data"
UPLOAD_TYPES: Final = (*ZIP_TYPES, FORM)


@contextmanager
def uploaded_file(req: falcon.Request) -> Iterator[tuple[BinaryIO, dict[str, str]]]:
    """Open the ZIP in a request: its whole body, or the part ``file`` of a form.

    Yields:
        The bytes, and the form's text fields: those behind the bytes are there after the block.

    Raises:
        UnsupportedMediaTypeError: The body is neither.
        RequestInvalidError: The form has no part ``file``, or two.
    """
    media_type = inputs.media_type(req)
    fields: dict[str, str] = {}
    if media_type in ZIP_TYPES:
        yield cast("BinaryIO", req.bounded_stream), fields
        return
    if media_type != FORM:
        raise UnsupportedMediaTypeError(
            f"cannot take a body of type {media_type[:80]!r}: send application/zip, or"
            " multipart/form-data with a part `file`",
            cause="send application/zip or multipart/form-data",
        )
    files = 0
    for part in cast("MultipartForm", req.get_media()):
        if part.name != "file":
            # Not as text only: a signature is a file to those who send it.
            fields[part.name or ""] = part.get_data().decode("utf-8", "replace")
            continue
        files += 1
        if files == 1:
            yield cast("BinaryIO", part.stream), fields
    if files != 1:
        number = "no part" if files == 0 else "more than one part"
        raise RequestInvalidError(
            f"cannot find the package: the form has {number} `file`",
            cause=f"{number} `file`",
            problems=(Problem("file", "must be there once"),),
        )


class PackageReceiver:
    """Takes an upload in: stored once it has passed every rule, else nothing of it stays."""

    def __init__(self, services: Services) -> None:
        """Store through services."""
        self._settings = services.parts.settings
        self._state = services.parts.state
        self._store = services.parts.store
        self._files = services.parts.files
        self._trust = services.parts.trust

    def receive(self, req: falcon.Request) -> tuple[Package, bool, dict[str, str]]:
        """Take the ZIP of a request in.

        Returns:
            The package, whether it is new, and the fields of the form it came in.

        Raises:
            PackageTooLargeError: It is larger than the settings allow.
            AgentForbiddenError: It is for an agent that is not its sender's.
            PackageInvalidError: It, its manifest or its requirements break a rule.
            ChecksumConflictError: Other bytes of the same MD5 are known.
            SignatureInvalidError: The signature that came with it is not one to trust.
            SignatureMissingError: None came with it, and one is required.
        """
        limit = self._settings.limits.upload_bytes
        # A form's own lines come on top; its part is counted exactly while it is copied.
        if (req.content_length or 0) > limit + 64 * 1024:
            raise PackageTooLargeError(
                f"cannot take {req.content_length} bytes: a package may have {limit}",
                cause=f"package larger than {limit} bytes",
                hint="leave data and environments out of the package, or raise limits.upload_bytes",
            )
        with ExitStack() as undo:
            with uploaded_file(req) as (stream, fields):
                received = packages.receive(stream, self._state.tmp, max_bytes=limit)
                undo.callback(received.path.unlink, missing_ok=True)
            package, is_new = self._take(req, received, sent_signature(req, fields))
        return package, is_new, fields

    def _take(
        self, req: falcon.Request, received: packages.Received, sent: bytes | None
    ) -> tuple[Package, bool]:
        req.context.target = received.md5
        known = self._store.packages.find(received.sha256)
        if known is not None:
            require_agent(req, known.agent)
        # Before anything looks into the ZIP: where signatures are required, what nobody vouches
        # for is not even parsed.
        signature = None if sent is None else self._trust.verify(received.path, sent)
        if signature is None and self._trust.is_required:
            if known is None:
                raise missing("this package")
            self._trust.require_vouched(known.agent, known.version, known.sha256)
        is_kept = known is not None and self._files.archive(received.sha256).exists()
        package = known if known is not None and is_kept else self._inspect(received)
        require_agent(req, package.agent)
        if signature is not None:
            self._trust.require_fit(signature, package.agent, package.version)
        is_new = not is_kept and self._keep(received, package)
        if not is_new:  # its sender is about to deploy it
            self._store.packages.touch(package.sha256)
        if signature is not None and sent is not None:
            self._trust.keep(package.sha256, sent)
        return package, is_new

    def _inspect(self, received: packages.Received) -> Package:
        inspected = packages.inspect(
            received.path,
            self._settings.limits,
            has_runtime=bool(self._settings.runtime_requirements),
            rules=requirement_rules(self._settings),
        )
        return packages.package_of(received, inspected, received_at=now())

    def _keep(self, received: packages.Received, package: Package) -> bool:
        with self._store.transaction():
            is_new = self._store.packages.add(package)
            # Inside: a row without its file would be believed; a file without its row goes at the
            # next start.
            self._files.keep_archive(received.path, received.sha256)
            if is_new:
                sentence = (
                    f"package {package.md5} of {package.agent} was received:"
                    f" version {package.version or 'unknown'}, {package.size_bytes} bytes"
                )
                self._store.events.add(EventKind.PACKAGE_RECEIVED, package.agent, sentence)
        return is_new


class Packages:
    """All packages, at ``/v1/packages``."""

    def __init__(self, services: Services, receiver: PackageReceiver) -> None:
        """Take packages in through receiver."""
        self._trust = services.parts.trust
        self._receiver = receiver

    @operation(
        "Upload a package",
        {HTTPStatus.CREATED: documents.Package, HTTPStatus.OK: documents.Package},
        scope=Scope.DEPLOY,
        problems=problem_sets.UPLOAD,
        body=UPLOAD_TYPES,
        is_filtered=True,
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Take a ZIP in: 201 when it is new, 200 when the very same bytes were known."""
        package, is_new, _ = self._receiver.receive(req)
        resp.status = HTTPStatus.CREATED if is_new else HTTPStatus.OK
        resp.location = f"/v1/packages/{package.md5}"
        voucher = self._trust.voucher(package.agent, package.sha256)
        write(resp, documents.package(package, voucher))


class OnePackage:
    """A package by its MD5 or SHA-256, at ``/v1/packages/{checksum}``."""

    def __init__(self, services: Services) -> None:
        """Look packages up through services."""
        self._store = services.parts.store
        self._trust = services.parts.trust

    @operation(
        "Tell whether a package is known",
        {HTTPStatus.OK: documents.Package},
        scope=Scope.READ,
        problems=(PackageUnknownError,),
        is_filtered=True,
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, checksum: str) -> None:
        """Answer 200 with the package, or 404: upload it; HEAD asks the same without the body."""
        package = self._store.packages.get(checksum.lower(), caller_of(req).agents)
        voucher = self._trust.voucher(package.agent, package.sha256)
        write(resp, documents.package(package, voucher))
