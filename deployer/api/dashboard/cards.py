"""What the dashboard says of one agent: how it is, why, what to do, and how much it uses."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from deployer.api.dashboard import sparklines, words
from deployer.api.dashboard.sparklines import Sparkline
from deployer.api.documents.agents import address
from deployer.explanations import Explanation
from deployer.limits.footprints import Footprint
from deployer.limits.usages import Sample
from deployer.model import Desired
from deployer.statuses import AgentStatus, AgentView

_LEAST_CPUS: Final = 0.25
"""What reaches the upper edge at least: the noise of an idle agent is no mountain."""

_ROOM: Final = 1.25


class Tone(StrEnum):
    """How much something wants to be looked at."""

    GOOD = "good"
    IDLE = "idle"  # at rest, as somebody wanted it
    BUSY = "busy"  # on its way
    WARN = "warn"
    BAD = "bad"

    @property
    def is_ailing(self) -> bool:
        """Whether somebody should do something."""
        return self in {Tone.WARN, Tone.BAD}


_TONES: Final = {
    AgentStatus.INSTALLED: Tone.IDLE,
    AgentStatus.STARTING: Tone.BUSY,
    AgentStatus.RUNNING: Tone.GOOD,
    AgentStatus.DEGRADED: Tone.WARN,
    AgentStatus.STOPPING: Tone.BUSY,
    AgentStatus.STOPPED: Tone.IDLE,
    AgentStatus.CRASH_LOOPING: Tone.BAD,
    AgentStatus.FAILED: Tone.BAD,
    AgentStatus.QUARANTINED: Tone.BAD,
}


@dataclass(frozen=True, slots=True)
class Card:
    """One agent, as it is shown.

    Attributes:
        view: Everything that is known of it.
        tone: How much it wants to be looked at.
        cause: Why it is not as it should be; empty when it is.
        hint: What to do then.
        url: Where it is reached; empty while it is not.
        cpu: What it used in the last minute; None while it does not run.
        memory: The same.
        cpu_limit: How much it may use, in words; empty: as much as there is.
        memory_limit: The same.
    """

    view: AgentView
    tone: Tone
    cause: str
    hint: str
    url: str
    cpu: Sparkline | None
    memory: Sparkline | None
    cpu_limit: str
    memory_limit: str

    @property
    def name(self) -> str:
        """Its name."""
        return self.view.agent.name

    @property
    def status(self) -> str:
        """How it is, in a word or two."""
        return self.view.status.replace("_", " ")

    @property
    def version(self) -> str:
        """Its current release and version."""
        release = self.view.release
        if release is None:
            return ""
        return f"release {release.number}" + (f" · {release.version}" if release.version else "")

    @property
    def started_at(self) -> datetime | None:
        """Since when it runs; None while it does not."""
        process = self.view.process
        return process.started_at if process is not None and self.view.is_alive else None

    @property
    def restarts(self) -> int:
        """How often it was started again by itself."""
        return 0 if self.view.process is None else self.view.process.restarts

    @property
    def course(self) -> str:
        """How long it runs, and how often it was started again by itself."""
        parts = [f"for {words.uptime(self.started_at)}"] if self.started_at else []
        if self.restarts:
            parts.append(words.count(self.restarts, "restart"))
        return ", ".join(parts)

    @property
    def first_log(self) -> str:
        """Which of its logs says most about how it is."""
        return "stderr" if self.tone.is_ailing else "stdout"

    @property
    def has_release(self) -> bool:
        """Whether there is anything to start."""
        return self.view.release is not None

    @property
    def is_wanted(self) -> bool:
        """Whether it is to run, and tried again if it does not."""
        return self.view.agent.desired is Desired.RUNNING


def card(
    view: AgentView,
    host: str,
    footprint: Footprint | None,
    history: tuple[Sample, ...],
    explanation: Explanation,
) -> Card:
    """Say of an agent what there is to say.

    Args:
        view: What is known of it.
        host: By which its viewer knows this machine.
        footprint: What it may use; None before it has a release.
        history: What it used in the last minute, the latest last.
        explanation: Why it is not as it should be; empty when it is.
    """
    tone = _TONES[view.status]
    cause, hint = explanation.cause, explanation.hint
    if tone.is_ailing and not cause and view.reading is not None:
        cause = view.reading.answer.detail
    allowance = None if footprint is None else footprint.allowance
    cpus = None if allowance is None else allowance.cpus
    memory_bytes = None if allowance is None else allowance.memory_bytes
    is_up = view.is_alive and view.port is not None
    return Card(
        view=view,
        tone=tone,
        cause=cause if tone.is_ailing else "",
        hint=hint if tone.is_ailing else "",
        url=address(host, view.port) if is_up else "",
        cpu=_cpu(history) if view.is_alive else None,
        memory=_memory(history, memory_bytes) if view.is_alive else None,
        cpu_limit="" if cpus is None else words.percent(cpus),
        memory_limit="" if memory_bytes is None else words.memory(memory_bytes),
    )


def _cpu(history: tuple[Sample, ...]) -> Sparkline | None:
    used = [each.cpus for each in history if each.cpus is not None]
    return sparklines.draw(used, words.percent(used[-1]), top=_LEAST_CPUS) if used else None


def _memory(history: tuple[Sample, ...], limit: int | None) -> Sparkline | None:
    used = [float(each.memory_bytes) for each in history]
    if not used:
        return None
    # Against its limit, so that one sees how near it is; without one, against what it had.
    return sparklines.draw(used, words.memory(used[-1]), top=limit or max(1, *used) * _ROOM)
