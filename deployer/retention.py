"""What is kept for how long: deletes the rest now and then, while nobody asks."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import Final

from deployer.environment_retention import EnvironmentRetention
from deployer.package_retention import PackageRetention
from deployer.parts import Parts
from deployer.store import idempotency, now

_log: Final = logging.getLogger(__name__)

_TRIM_SECONDS: Final = 600.0


class Retention:
    """Lets neither rows nor files become too many or too old, in a thread of its own."""

    def __init__(self, parts: Parts) -> None:
        """Work with the parts of one server; nothing happens before `start`."""
        self._settings = parts.settings
        self._store = parts.store
        self._packages = PackageRetention(parts)
        self._environments = EnvironmentRetention(parts)
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin to trim."""
        threading.Thread(target=self._keep_trimming, name="trim", daemon=True).start()

    def close(self) -> None:
        """Stop trimming."""
        self._ended.set()

    def trim(self) -> None:
        """Delete what is too old of the timeline, the audit, packages and environments."""
        oldest = now() - timedelta(days=self._settings.events_days)
        self._store.events.trim(kept=self._settings.events_kept, before=oldest)
        if self._settings.audit_days:
            self._store.audit.trim(now() - timedelta(days=self._settings.audit_days))
        self._store.idempotency.trim(now() - idempotency.KEPT)
        self._packages.trim()
        self._environments.trim()

    def _keep_trimming(self) -> None:
        while True:
            try:
                self.trim()
            except Exception:  # noqa: BLE001 - the disk may be full: it is tried again
                _log.exception("cannot trim the timeline, or what was uploaded")
            if self._ended.wait(_TRIM_SECONDS):
                return
