"""What agents have on the disk: looked at now and then, told, and stopped where settings say so."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Final

from deployer.agents import Agents
from deployer.byte_sizes import size_text
from deployer.errors import DeployerError
from deployer.event_kinds import EventKind
from deployer.limits.disk_scans import DiskScan, scan_disks
from deployer.parts import Parts
from deployer.runs import Runs

_log: Final = logging.getLogger(__name__)

_SCAN_SECONDS: Final = 10.0
"""For each of an agent's directories: a million files take about half of it."""


class Quotas:
    """Looks at every agent's directories, in a thread of its own."""

    def __init__(self, parts: Parts, runs: Runs, agents: Agents) -> None:
        """Work with the parts of one server; nothing happens before `start`."""
        self._limits = parts.settings.limits
        self._state = parts.state
        self._store = parts.store
        self._breaches = parts.breaches
        self._runs = runs
        self._agents = agents
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._watch, name="quotas", daemon=True).start()

    def close(self) -> None:
        """Stop looking."""
        self._ended.set()

    def look(self) -> None:
        """Look at every agent once, and do what follows."""
        views = [view for view in self._agents.views() if view.release is not None]
        names = [view.agent.name for view in views]
        scans = dict(
            zip(names, scan_disks(map(self._directories, names), _SCAN_SECONDS), strict=True)
        )
        sentences = {}
        for view in views:
            if view.release is None:
                continue
            limit = self._runs.allowance(view.release).disk_bytes
            sentence = breach(scans[view.agent.name], limit)
            if sentence:
                sentences[view.agent.name] = sentence
        news = [name for name in sentences if not self._breaches.of(name)]
        self._breaches.replace(scans, sentences)
        for name in news:
            self._store.events.add(EventKind.AGENT_OVER_LIMIT, name, f"{name} {sentences[name]}")
        if self._limits.disk_over == "stop":
            for view in views:
                if view.agent.name in sentences and view.is_alive:
                    self._stop(view.agent.name, sentences[view.agent.name])

    def _watch(self) -> None:
        while not self._ended.wait(self._limits.disk_seconds):
            try:
                self.look()
            except Exception:  # noqa: BLE001 - the next look may do better
                _log.exception("cannot look at what agents have on the disk")

    def _directories(self, name: str) -> tuple[Path, ...]:
        """Name what an agent may write."""
        state = self._state
        return state.agent_data(name), state.agent_tmp(name), state.agent_run(name)

    def _stop(self, name: str, sentence: str) -> None:
        try:
            self._agents.stop_over_limit(name, f"{name} is stopped: it {sentence}")
        except DeployerError as error:
            _log.warning("cannot stop %s: %s", name, error.detail)


def breach(scan: DiskScan, limit: int | None) -> str:
    """Say in what an agent is over its limit, such as ``has ... on the disk``; empty: it is not."""
    if limit is None:
        return ""
    if scan.is_deep:
        return (
            "has folders so deep inside each other that what is in them cannot be measured, and may"
            f" have {size_text(limit)} on the disk"
        )
    if scan.size_bytes <= limit:
        return ""
    least = "" if scan.is_whole else "at least "
    return f"has {least}{size_text(scan.size_bytes)} on the disk and may have {size_text(limit)}"
