"""Which packages stay: those that something refers to, and those that came just now."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Final

from deployer.parts import Parts
from deployer.store import now

_log: Final = logging.getLogger(__name__)


class PackageRetention:
    """Deletes packages that nobody can ask for any more."""

    def __init__(self, parts: Parts) -> None:
        """Work with the parts of one server."""
        self._store = parts.store
        self._files = parts.files
        self._kept = timedelta(hours=parts.settings.packages_kept_hours)

    def trim(self) -> None:
        """Delete what no release was made from and nobody has uploaded lately."""
        for sha256 in self._store.packages.remove_unused(now() - self._kept):
            self._delete_archive(sha256)

    def remove_strays(self) -> None:
        """Delete archives without a row: of an upload that was killed before its row was there."""
        for archive in self._files.archives():
            self._delete_archive(archive.stem)

    def _delete_archive(self, sha256: str) -> None:
        """Delete a ZIP unless it has a row, also one that came this moment: uploads wait."""
        with self._store.transaction():
            if self._store.packages.find(sha256) is None:
                self._files.delete_archive(sha256)
                _log.info("the archive of package %s was deleted: nothing needs it", sha256)
