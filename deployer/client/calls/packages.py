"""Calls about packages: what was uploaded, and who vouches for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deployer.client import deploys, nouns
from deployer.client.archives import open_archive
from deployer.client.calls.asking import Asking, path_of
from deployer.errors import PackageUnknownError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class PackageCalls(Asking):
    """What may be asked about packages."""

    def package(self, checksum: str) -> nouns.Package:
        """Look at a package that the server holds.

        Args:
            checksum: Its MD5 or SHA-256, in hex.

        Raises:
            PackageUnknownError: It was not uploaded, or is gone: upload it.
        """
        # GET, as an answer to HEAD has no body to tell an unknown package from a wrong address.
        return nouns.Package.read(self._get(path_of("packages", checksum)))

    def has_package(self, checksum: str) -> bool:
        """Ask whether the server holds a package, by its MD5 or SHA-256."""
        try:
            self.package(checksum)
        except PackageUnknownError:
            return False
        return True

    def upload(
        self,
        package: Path | str | bytes,
        *,
        on_progress: Callable[[nouns.Step], None] | None = None,
    ) -> nouns.Package:
        """Send a package without deploying it; a file is read as it is sent.

        Args:
            package: A ZIP file, a directory to be packed, or a ZIP's bytes.
            on_progress: Is told of the step ``upload``, at each percent.

        Raises:
            PackageInvalidError: It breaks a rule; every problem is listed.
            PackageTooLargeError: The server takes none so large.
        """
        return deploys.upload(self._session, open_archive(package), on_progress)

    def add_signature(self, package: Path | str) -> nouns.Package:
        """Send the signature that lies beside a ZIP, for a package that the server has already.

        Raises:
            SignatureMissingError: There is none.
            SignatureInvalidError: The server does not trust it.
            NoTrustedKeysError: The server trusts nobody's.
            PackageUnknownError: The server does not have the package.
        """
        return deploys.add_signature(self._session, open_archive(package))
