"""When a program that died by itself is started again: numbers and clocks, and no supervisord."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

from deployer.model import RestartPolicy

SERVICE_DELAYS: Final = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
"""How long the API waits before its first, second, ... restart in a row; the last one for ever."""

_SHORTEST_DELAY: Final = 0.1
"""After the first, at least: nobody may keep supervisord busy with forks."""
_LARGEST_EXPONENT: Final = 30  # beyond, only the cap counts


def restart_delay(policy: RestartPolicy, earlier_deaths: int, jitter: float = 1.0) -> float | None:
    """Tell how long to wait before a restart.

    Args:
        policy: The numbers; `deployer.model.RestartPolicy` says what they mean.
        earlier_deaths: That count, which is within the window.
        jitter: A factor about 1, so that agents which died together do not start together.

    Returns:
        Seconds, or None: it is not started again.
    """
    if not policy.enabled:
        return None
    if policy.max_restarts is not None and earlier_deaths >= policy.max_restarts:
        return None
    if earlier_deaths == 0:
        return 0.0
    delay = policy.delay_seconds * 2.0 ** min(earlier_deaths - 1, _LARGEST_EXPONENT)
    return max(_SHORTEST_DELAY, min(delay * jitter, policy.max_delay_seconds))


class Restarts:
    """The deaths of one program, and what follows from them.

    The window is measured on a clock that stands still while the program waits to be started again.
    Else long delays alone would make deaths expire, and a program that dies at every start would be
    started for ever.

    Attributes:
        policy: May be replaced at any time; deaths so far go on counting.
        count: Restarts since somebody last asked for a start.
    """

    def __init__(
        self,
        policy: RestartPolicy,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = lambda: random.uniform(0.9, 1.1),  # noqa: S311 - no secret
    ) -> None:
        """Start without a death."""
        self.policy = policy
        self.count = 0
        self._clock = clock
        self._jitter = jitter
        self._deaths: list[float] = []
        self._waited = 0.0
        self._waiting_since = 0.0

    def forget(self) -> None:
        """Begin anew: somebody asked for a start."""
        self.count = 0
        self._deaths.clear()

    def record_death(self) -> float | None:
        """Count a death that nobody asked for.

        Returns:
            Seconds until the program is to be started again; None: it is not.
        """
        self._waiting_since = self._clock()
        now = self._waiting_since - self._waited
        window = self.policy.window_seconds
        self._deaths = [death for death in self._deaths if now - death < window]
        delay = self._delay(len(self._deaths))
        self._deaths.append(now)
        return delay

    def record_restart(self) -> None:
        """Count a start that followed a death."""
        self.count += 1
        self._waited += self._clock() - self._waiting_since

    def explain_giving_up(self) -> str:
        """Say why the last death was not followed by a restart."""
        if not self.policy.enabled:
            return "not started again: automatic restarts are off"
        return (
            f"gave up after {self.count} restarts: it died {len(self._deaths)} times within"
            f" {self.policy.window_seconds:g} s"
        )

    def _delay(self, earlier_deaths: int) -> float | None:
        return restart_delay(self.policy, earlier_deaths, self._jitter())


class ServiceRestarts(Restarts):
    """The API's own: always started again, since nobody else could."""

    def _delay(self, earlier_deaths: int) -> float | None:
        return SERVICE_DELAYS[min(earlier_deaths, len(SERVICE_DELAYS) - 1)]
