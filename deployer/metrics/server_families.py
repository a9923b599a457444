"""What is told of the server as a whole."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from deployer import __version__
from deployer.instruments import PREFIX
from deployer.model import DeploymentStatus
from deployer.parts import Parts
from deployer.store import now

_FRESH_SECONDS: Final = 10.0
"""All states are read anew every two seconds, as long as supervisord answers."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """What is read out of the store: again only once something has been written.

    Attributes:
        generation: Of the store, before it was read.
        leases: Ports that are leased.
        deployments: How many deployments have each status.
        expiries: When keys expire, ascending.
    """

    generation: int
    leases: int
    deployments: Mapping[DeploymentStatus, int]
    expiries: tuple[datetime, ...]


class ServerFamilies:
    """Figures about one server, each looked up when it is asked for."""

    def __init__(self, parts: Parts, *, held: Callable[[], int], held_limit: int) -> None:
        """Tell of a server with these parts; see `deployer.metrics.Metrics`."""
        self._store = parts.store
        self._processes = parts.processes
        self._root = parts.state.root
        self._ports = len(parts.settings.agent_ports)
        self._held = held
        self._held_limit = held_limit
        self._last = _Rows(-1, 0, {}, ())

    def collect(self) -> tuple[Metric, ...]:
        """Make the families."""
        rows = self._rows()
        disk = os.statvfs(self._root)
        read_at = self._processes.read_at
        is_fresh = read_at is not None and time.monotonic() - read_at < _FRESH_SECONDS
        return (
            _gauge("supervisord_up", "Whether supervisord answers", is_fresh),
            _gauge("ports_leased", "Ports that agents hold", rows.leases),
            _gauge("ports", "Ports that agents can be given", self._ports),
            _gauge("held_requests", "Requests that are held or streaming", self._held()),
            _gauge("held_requests_limit", "How many may be at once", self._held_limit),
            _gauge(
                "disk_free_bytes",
                "What may still be written where the state lies",
                disk.f_bavail * disk.f_frsize,
            ),
            _gauge("disk_size_bytes", "How large that disk is", disk.f_blocks * disk.f_frsize),
            *_deployment_families(rows.deployments),
            # without the key's name, which only admins may read
            _gauge(
                "next_key_expiry_timestamp_seconds",
                "When the next API key expires, in Unix time; nothing when none does",
                _next_expiry(rows.expiries),
            ),
        )

    def _rows(self) -> _Rows:
        rows, generation = self._last, self._store.generation
        if rows.generation != generation:
            expiries = (key.expires_at for key in self._store.keys.all())
            rows = _Rows(
                generation,
                leases=len(self._store.leases.all()),
                deployments=self._store.deployments.count_by_status(),
                expiries=tuple(sorted(each for each in expiries if each is not None)),
            )
            self._last = rows  # at once: threads must not mix theirs
        return rows


def build_family() -> Metric:
    """Say what this server is."""
    family = GaugeMetricFamily(
        f"{PREFIX}_build_info", "1, with what this server is", labels=("version", "python")
    )
    family.add_metric((__version__, platform.python_version()), 1)
    return family


def _deployment_families(counts: Mapping[DeploymentStatus, int]) -> tuple[Metric, ...]:
    over = CounterMetricFamily(
        f"{PREFIX}_deployments", "Deployments that are over, by how they ended", labels=("status",)
    )
    unfinished = GaugeMetricFamily(
        f"{PREFIX}_deployments_unfinished", "Deployments that wait or run", labels=("status",)
    )
    for status in DeploymentStatus:  # with 0 too, or the first failure would be no increase
        family = over if status.is_over else unfinished
        family.add_metric((status,), counts.get(status, 0))
    return over, unfinished


def _next_expiry(expiries: tuple[datetime, ...]) -> float | None:
    moment = now()
    return next((each.timestamp() for each in expiries if each > moment), None)


def _gauge(name: str, text: str, value: float | None) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, value=value)
