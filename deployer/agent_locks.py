"""One act on an agent at a time: locks with an owner, an age and a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from deployer.errors import AgentBusyError


@dataclass(frozen=True, slots=True)
class Holding:
    """Who holds an agent, and since when on the monotonic clock."""

    owner: str
    since: float
    thread: int


class AgentLocks:
    """A lock for each agent, that says who holds it and for how long."""

    def __init__(self) -> None:
        """Begin with nothing held."""
        self._holdings: dict[str, Holding] = {}
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, agent: str, owner: str, *, timeout_seconds: float) -> Iterator[None]:
        """Hold an agent while the block runs; a thread that holds it already goes straight in.

        Args:
            agent: Which agent.
            owner: What the holder does, such as ``deployment 12``; shown to those who wait.
            timeout_seconds: How long to wait for another holder.

        Raises:
            AgentBusyError: Somebody else held it all that time.
        """
        me = threading.get_ident()
        with self._changed:
            held = self._holdings.get(agent)
            nested = held is not None and held.thread == me
            if not nested:
                if not self._changed.wait_for(lambda: agent not in self._holdings, timeout_seconds):
                    raise self._busy(agent, owner)
                self._holdings[agent] = Holding(owner, time.monotonic(), me)
        try:
            yield
        finally:
            if not nested:
                with self._changed:
                    del self._holdings[agent]
                    self._changed.notify_all()

    def holder(self, agent: str) -> Holding | None:
        """Tell who holds an agent now."""
        with self._changed:
            return self._holdings.get(agent)

    def _busy(self, agent: str, owner: str) -> AgentBusyError:
        held = self._holdings[agent]
        age = time.monotonic() - held.since
        return AgentBusyError(
            f"cannot {owner}: {held.owner} has been at work on {agent} for {age:.0f} s",
            cause=f"{held.owner} is at work on {agent}",
            hint="wait until it is over, or kill the agent",
        )
