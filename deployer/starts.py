"""Starts and stops that the server itself decides on: a few at a time, and one for each agent."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class Starts:
    """What is done to set agents right, twice as much at a time as there are cores.

    Whoever brings agents back at the server's start and whoever looks after them from then on share
    it: neither does again what the other is about to do.
    """

    def __init__(self, at_once: int | None = None) -> None:
        """Begin with nothing to do.

        Args:
            at_once: How many agents are seen to at a time; None: twice as many as cores.
        """
        self._names: set[str] = set()
        self._guard = threading.Lock()
        self._pool = ThreadPoolExecutor(
            at_once or 2 * (os.cpu_count() or 1), thread_name_prefix="start"
        )

    def __contains__(self, name: object) -> bool:
        """Tell whether an agent's turn is still to come, or not over."""
        return name in self._names

    def submit(self, name: str, act: Callable[[], None]) -> bool:
        """See to an agent when its turn comes.

        Args:
            name: Which one.
            act: Does it, and lets no error out.

        Returns:
            False when somebody sees to that agent already, and nothing was queued.
        """
        with self._guard:
            if name in self._names:
                return False
            self._names.add(name)
        self._pool.submit(self._run, name, act)
        return True

    def close(self) -> None:
        """Begin nothing new; what runs is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        finally:
            with self._guard:
                self._names.discard(name)
