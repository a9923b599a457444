"""Which agents are over a limit that does not end them: they serve, and are said to be degraded."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import MappingProxyType

from deployer.limits.disk_scans import DiskScan


class Breaches:
    """What was found on the disk at the last look, and whose limit it is over."""

    def __init__(self) -> None:
        """Begin with nothing known."""
        self._scans: dict[str, DiskScan] = {}
        self._sentences: Mapping[str, str] = MappingProxyType({})
        self._lock = threading.Lock()
        self._generation = 0

    @property
    def generation(self) -> int:
        """Count of changes so far that a status could show."""
        return self._generation

    def scan_of(self, agent: str) -> DiskScan | None:
        """Give what was found on the disk; None: nobody has looked yet."""
        return self._scans.get(agent)

    def of(self, agent: str) -> str:
        """Say which limit an agent is over; empty: none."""
        return self._sentences.get(agent, "")

    def replace(self, scans: Mapping[str, DiskScan], sentences: Mapping[str, str]) -> None:
        """Take in what was found at a look at all agents."""
        with self._lock:
            self._scans = dict(scans)
            if sentences != self._sentences:
                self._sentences = dict(sentences)
                self._generation += 1
