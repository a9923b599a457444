"""What is told of each agent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.samples import Sample

from deployer.instruments import PREFIX
from deployer.limits.footprints import Footprint
from deployer.model import Desired
from deployer.statuses import AgentStatus, AgentView

_AGENT: Final = ("agent",)


def agent_families(
    views: Iterable[AgentView], footprint: Callable[[AgentView], Footprint | None]
) -> tuple[Metric, ...]:
    """Make the families of agents; what is not known of an agent has no sample.

    Args:
        views: Of the agents that are told of.
        footprint: Tells what one may use and does use.
    """
    families = _Families()
    for view in views:
        families.add(view)
        families.add_usage(view, footprint(view))
    return families.all()


class _Families:
    """Families that are being filled."""

    def __init__(self) -> None:
        self._up = _gauge("up", "Whether the agent answers its health checks", ("agent", "release"))
        self._desired = _gauge("desired_up", "Whether the agent is meant to run")
        self._status = _gauge("status", "1 for the word for how it is", ("agent", "status"))
        self._started = _gauge("start_time_seconds", "When its process began, in Unix time")
        self._health = _gauge("health_check_seconds", "How long its last health check took")
        self._memory = _gauge(
            "memory_bytes", "Main memory of all its processes; what they share counts for each"
        )
        self._memory_limit = _gauge("memory_limit_bytes", "How much main memory it may use")
        self._cpu_limit = _gauge("cpu_limit_cores", "How many CPUs it may use")
        self._processes = _gauge("processes", "Its processes")
        self._disk = _gauge("disk_bytes", "What is in the directories that it may write")
        self._disk_limit = _gauge("disk_limit_bytes", "How much may be in them")
        self._restarts = _counter(
            "restarts", "Starts by its restart policy, since somebody last asked for one"
        )
        self._cpu = _counter(
            "cpu_seconds", "CPU time of all its processes, since its main process began"
        )

    def add(self, view: AgentView) -> None:
        """Take in how an agent is."""
        agent, process = [view.agent.name], view.process
        release = "" if view.release is None else str(view.release.number)
        self._up.add_metric([*agent, release], _is_up(view))
        self._desired.add_metric(agent, view.agent.desired is Desired.RUNNING)
        self._restarts.add_metric(agent, 0 if process is None else process.restarts)
        self._status.samples += _status_samples(view.agent.name, view.status)
        if view.is_alive and process is not None and process.started_at is not None:
            self._started.add_metric(agent, process.started_at.timestamp())
        if view.reading is not None:
            self._health.add_metric(agent, view.reading.answer.seconds)

    def add_usage(self, view: AgentView, footprint: Footprint | None) -> None:
        """Take in what an agent may use and does use."""
        if footprint is None:
            return
        agent, usage, allowance = [view.agent.name], footprint.usage, footprint.allowance
        known: list[tuple[GaugeMetricFamily | CounterMetricFamily, float | None]] = [
            (self._memory_limit, allowance.memory_bytes),
            (self._cpu_limit, allowance.cpus),
            (self._disk_limit, allowance.disk_bytes),
            (self._disk, None if footprint.disk is None else footprint.disk.size_bytes),
        ]
        if usage is not None:
            known += [
                (self._cpu, usage.cpu_seconds),
                (self._memory, usage.memory_bytes),
                (self._processes, usage.processes),
            ]
        for family, value in known:
            if value is not None:
                family.add_metric(agent, value)

    def all(self) -> tuple[Metric, ...]:
        """Give all of them."""
        return tuple(vars(self).values())


@lru_cache(maxsize=4096)
def _status_samples(agent: str, status: AgentStatus) -> tuple[Sample, ...]:
    """Give a sample for each word: half of all that agents have to tell, and seldom another."""
    family = _gauge("status", "", ("agent", "status"))
    for word in AgentStatus:
        family.add_metric((agent, word), word is status)
    return tuple(family.samples)


def _gauge(name: str, text: str, labels: tuple[str, ...] = _AGENT) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_agent_{name}", text, labels=labels)


def _counter(name: str, text: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"{PREFIX}_agent_{name}", text, labels=_AGENT)


def _is_up(view: AgentView) -> bool:
    if not view.is_alive or view.reading is None:
        return False
    return view.reading.answer.healthy or view.reading.answer.degraded
