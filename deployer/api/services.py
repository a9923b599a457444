"""What resources call: the sequences of one server, and the limit on held requests."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from deployer.agents import Agents
from deployer.api.callers import Callers
from deployer.api.documents import Check
from deployer.api.refusals import Refusals
from deployer.errors import TooBusyError
from deployer.explanations import Explanations
from deployer.keys import Caller
from deployer.metrics import Metrics
from deployer.parts import Parts
from deployer.plans import Plans
from deployer.worker import Worker

LOOK_UP_SECONDS: Final = 1.0
"""How often whoever holds a request looks whether its client is still there."""

_HINT: Final = "ask without waiting, or try again in a second"


class Waiting:
    """Lets only so many requests be held at once, so that the others always find a thread.

    One caller gets half of the places at most; all who show no key are one.

    Attributes:
        limit: How many.
    """

    def __init__(self, limit: int) -> None:
        """Let limit requests be held."""
        self.limit = limit
        self._held: Counter[str] = Counter()
        self._guard = threading.Lock()
        self._closed = threading.Event()

    @property
    def held(self) -> int:
        """How many are held now."""
        return self._held.total()

    def close(self) -> None:
        """Let everybody go who waits: the server ends. Safe to call in a signal handler."""
        self._closed.set()

    @property
    def is_closed(self) -> bool:
        """Whether the server ends, so that nothing more is worth waiting for."""
        return self._closed.is_set()

    @contextmanager
    def place(self, who: str) -> Iterator[bool]:
        """Take a place while the block runs.

        Args:
            who: Whose request it is.

        Yields:
            False when there is none: answer at once with what is known.
        """
        with self._guard:
            has_share = self._held[who] < (self.limit + 1) // 2
            taken = has_share and self._held.total() < self.limit
            self._held[who] += taken
        try:
            yield taken
        finally:
            if taken:
                with self._guard:
                    self._held[who] -= 1
                    self._held += Counter()  # forgets those who hold none

    def hold(
        self, future: Future[Any], seconds: float, is_gone: Callable[[], bool], who: str
    ) -> bool:
        """Wait until an act is over; without a place, not at all.

        Args:
            future: The act.
            seconds: How long to wait at most.
            is_gone: Tells that the client has left.
            who: Whose request it is.

        Returns:
            Whether it is over, well or not.
        """
        deadline = time.monotonic() + seconds
        with self.place(who) as may_wait:
            while may_wait and not (is_gone() or self.is_closed):
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                if wait([future], timeout=min(left, LOOK_UP_SECONDS)).done:
                    break
        return future.done()

    @contextmanager
    def required_place(self, who: str, hint: str = _HINT) -> Iterator[None]:
        """Take a place for a request that makes no sense without being held.

        Args:
            who: Whose request it is.
            hint: What to do where there is none.

        Raises:
            TooBusyError: There is none.
        """
        with self.place(who) as taken:
            if not taken:
                raise TooBusyError(
                    "cannot hold another request: as many as there may be are held already",
                    cause="too many held requests",
                    hint=hint,
                )
            yield


@dataclass(frozen=True, slots=True)
class Services:
    """The sequences of one server.

    Attributes:
        parts: Its adapters; resources read through them and leave acts to the sequences.
        agents: Acts on agents, and how they are.
        explanations: Why they are so.
        worker: Runs deployments and acts in threads.
        plans: Tells what deployments would do.
        waiting: Places for held requests.
        callers: Tells who sends a request.
        refusals: Counts those who are not let in.
        metrics: What there is to be scraped.
        started_at: When this process began.
        checks: Looks at everything that must be so for the server to take work, and tells what a
            caller may know of it; nobody known: no more than what is well.
    """

    parts: Parts
    agents: Agents
    explanations: Explanations
    worker: Worker
    plans: Plans
    waiting: Waiting
    callers: Callers
    refusals: Refusals
    metrics: Metrics
    started_at: datetime
    checks: Callable[[Caller | None], list[Check]]
