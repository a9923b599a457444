"""One word for how an agent is, from what was asked, what runs, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from deployer.model import Agent, Desired, PortLease, Process, Release, State
from deployer.readings import Reading
from deployer.retries import Retry


class AgentStatus(StrEnum):
    """How an agent is, in our words."""

    INSTALLED = "installed"  # there, and never started
    STARTING = "starting"  # its process lives or comes back soon; it has not answered yet
    RUNNING = "running"  # it answers well
    DEGRADED = "degraded"  # it answers badly, or says that something is wrong
    STOPPING = "stopping"
    STOPPED = "stopped"
    CRASH_LOOPING = "crash_looping"  # it died too often; supervisord gave up
    FAILED = "failed"  # it should run and does not
    QUARANTINED = "quarantined"  # its row, code, manifest or Python is damaged or gone


WIRE_WORDS: Final = {
    AgentStatus.INSTALLED: "discovered",
    AgentStatus.STARTING: "starting",
    AgentStatus.RUNNING: "running",
    AgentStatus.DEGRADED: "running",
    AgentStatus.STOPPING: "running",
    AgentStatus.STOPPED: "stopped",
    AgentStatus.CRASH_LOOPING: "failed",
    AgentStatus.FAILED: "failed",
    AgentStatus.QUARANTINED: "failed",
}
"""The five words that ATOLL 2.x knows."""


@dataclass(frozen=True, slots=True)
class AgentView:
    """Everything that is known of one agent at one moment.

    Attributes:
        agent: What was asked of it.
        release: Its current release; None before the first.
        lease: The port it holds; None while it is stopped.
        process: What supervisord says; None when it knows no program for it.
        reading: What it answered last; None when this process was not asked yet.
        retry: When it is tried again after it failed; None when it is not.
        breach: Which limit it is over without being ended for it; empty: none.
    """

    agent: Agent
    release: Release | None
    lease: PortLease | None
    process: Process | None
    reading: Reading | None
    retry: Retry | None = None
    breach: str = ""

    @property
    def is_alive(self) -> bool:
        """Whether a process stands behind it."""
        return self.process is not None and self.process.state.is_alive

    @property
    def port(self) -> int | None:
        """The port it serves on, while it is up or coming up."""
        return None if self.lease is None else self.lease.port

    @property
    def next_try_at(self) -> datetime | None:
        """When it will be started again by itself; None when it will not."""
        if self.is_alive:
            return None
        if self.process is not None and self.process.next_try_at is not None:
            return self.process.next_try_at
        return None if self.retry is None else self.retry.next_at

    @property
    def status(self) -> AgentStatus:
        """One word for all of it."""
        state = None if self.process is None else self.process.state
        if state is State.STOPPING:
            return AgentStatus.STOPPING
        if state in {State.STARTING, State.RUNNING}:
            return self._status_alive()
        if self.agent.quarantine:
            return AgentStatus.QUARANTINED
        if self._is_crash_looping:
            return AgentStatus.CRASH_LOOPING
        if state in {None, State.STOPPED}:
            return self._status_at_rest()
        # Only supervisord's own restart is near; a retry of ours may be minutes away.
        is_near = self.process is not None and self.process.next_try_at is not None
        return AgentStatus.STARTING if is_near else AgentStatus.FAILED

    @property
    def _is_crash_looping(self) -> bool:
        if self.retry is not None and self.retry.is_crash_loop:
            return True
        return (
            self.process is not None
            and self.process.state is State.FATAL
            and self.process.restarts > 0
        )

    def _status_at_rest(self) -> AgentStatus:
        if self.agent.last_error:
            return AgentStatus.FAILED
        if self.agent.desired == Desired.RUNNING and self.process is not None:
            return AgentStatus.STARTING
        if self.process is None or self.process.started_at is None:
            return AgentStatus.INSTALLED if self.agent.port is None else AgentStatus.STOPPED
        return AgentStatus.STOPPED

    def _status_alive(self) -> AgentStatus:
        if self.reading is None or not self.reading.was_healthy:
            return AgentStatus.STARTING
        is_well = self.reading.answer.healthy and not self.reading.answer.degraded
        if is_well and not self.breach:
            return AgentStatus.RUNNING
        return AgentStatus.DEGRADED
