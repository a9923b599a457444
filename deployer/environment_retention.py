"""Which environments stay: those that a release shares, and those that one did not long ago."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Final

from deployer.parts import Parts

_log: Final = logging.getLogger(__name__)

_GRACE_SECONDS: Final = 24 * 3600.0
"""How long nobody must have shared one: agents that are removed often come back."""


class EnvironmentRetention:
    """Deletes environments that no release shares any more.

    Who shares one is read off the releases that lie on the disk each time anew: nothing is counted
    that could be wrong after a crash, or with a database from yesterday.
    """

    def __init__(self, parts: Parts, *, grace_seconds: float = _GRACE_SECONDS) -> None:
        """Work with the parts of one server."""
        self._files = parts.files
        self._shared = parts.shared
        self._compilations = parts.compilations
        self._grace_seconds = grace_seconds
        self._unused_since: dict[Path, float] = {}

    def trim(self) -> None:
        """Delete what no release has shared for a day, as far as this server has seen."""
        used = self._files.shared_environments()
        unused = [path for path in self._shared.all() if path not in used]
        at = time.monotonic()
        self._unused_since = {path: self._unused_since.get(path, at) for path in unused}
        for path, since in self._unused_since.items():
            if at - since >= self._grace_seconds:
                self._remove(path, "nothing has shared it for a day")

    def remove_halves(self) -> None:
        """Delete what a server had begun to make, or to delete, when it was killed."""
        for path in self._shared.all():
            if not self._shared.is_whole(path):
                self._remove(path, "it never became whole")

    def _remove(self, path: Path, why: str) -> None:
        if self._shared.remove(
            path,
            is_used=lambda: path in self._files.shared_environments(),
            before=lambda: self._compilations.end(path),
        ):
            _log.info("the environment %s was deleted: %s", path, why)
