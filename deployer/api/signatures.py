"""Signatures of packages: sent along with an upload, or for a package that is here already."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import falcon

from deployer.api import documents, problem_sets
from deployer.api.answers import write
from deployer.api.operations import operation
from deployer.api.permissions import caller_of
from deployer.api.services import Services
from deployer.errors import PackageUnknownError, SignatureInvalidError
from deployer.event_kinds import EventKind
from deployer.keys import Scope
from deployer.signatures import LARGEST_SIGNATURE

HEADER: Final = "X-Package-Signature"
"""Carries the whole .minisig file in base64, where the body is the ZIP itself."""

FIELD: Final = "signature"
"""Names the part of a form that is the .minisig file."""


def sent_signature(req: falcon.Request, fields: Mapping[str, str]) -> bytes | None:
    """Find the signature that came with a package, in the form or in the header.

    Args:
        req: The request.
        fields: Of the form, if it is one.

    Raises:
        SignatureInvalidError: The header is not base64.
    """
    in_form = fields.get(FIELD)
    if in_form is not None:
        return in_form.encode()
    text = req.get_header(HEADER)
    if text is None:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureInvalidError(
            f"cannot read the signature: the header {HEADER} is not base64",
            cause="signature unreadable: not base64",
            hint="send the whole .minisig file in base64, on one line",
        ) from error


class PackageSignature:
    """The signature of a package, at ``/v1/packages/{checksum}/signature``."""

    def __init__(self, services: Services) -> None:
        """Keep signatures through services."""
        self._store = services.parts.store
        self._files = services.parts.files
        self._trust = services.parts.trust

    @operation(
        "Sign a package that is here already",
        {HTTPStatus.OK: documents.Package},
        scope=Scope.DEPLOY,
        problems=(*problem_sets.VOUCHING, PackageUnknownError),
        body=("text/plain", "application/octet-stream"),
        is_filtered=True,
    )
    def on_put(self, req: falcon.Request, resp: falcon.Response, checksum: str) -> None:
        """Take a .minisig file, in the place of the one before."""
        package = self._store.packages.get(checksum.lower(), caller_of(req).agents)
        req.context.agent, req.context.target = package.agent, package.md5
        self._trust.require_keys()
        data = req.bounded_stream.read(LARGEST_SIGNATURE + 1)
        signature = self._trust.verify(self._files.archive(package.sha256), data)
        if signature is not None:
            self._trust.require_fit(signature, package.agent, package.version)
            self._trust.keep(package.sha256, data)
            sentence = f"package {package.md5} of {package.agent} was signed by {signature.key}"
            self._store.events.add(EventKind.PACKAGE_SIGNED, package.agent, sentence)
        voucher = self._trust.voucher(package.agent, package.sha256)
        write(resp, documents.package(package, voucher))
