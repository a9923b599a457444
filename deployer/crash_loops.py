"""Programs that die again and again under a supervisord that would restart them for ever.

Our plugin counts deaths itself. A supervisord without it limits only deaths within a second of the
start, so whoever watches it has to count the others.
"""

from __future__ import annotations

from collections.abc import Callable

from deployer.model import Process, RestartPolicy, State
from deployer.restarts import Restarts


def is_death(was: Process | None, process: Process) -> bool:
    """Tell whether a process that nobody stopped has died, be another one in its place or not."""
    return (
        was is not None
        and was.pid is not None
        and process.pid != was.pid
        and process.state not in {State.STOPPING, State.STOPPED}
    )


class CrashLoops:
    """The deaths of every program, by the same rules as the plugin's."""

    def __init__(self, make: Callable[[RestartPolicy], Restarts] = Restarts) -> None:
        """Begin without a death.

        Args:
            make: Counts the deaths of one program.
        """
        self._make = make
        self._restarts: dict[str, Restarts] = {}

    def record_death(self, program: str, policy: RestartPolicy) -> str | None:
        """Count a death.

        Args:
            program: Whose.
            policy: How often it may be started again.

        Returns:
            Why it is to be left alone, and then nothing is known of it any more; None: it may go
            on.
        """
        restarts = self._restarts.setdefault(program, self._make(policy))
        restarts.policy = policy
        if restarts.record_death() is None:
            del self._restarts[program]
            return restarts.explain_giving_up()
        restarts.record_restart()
        return None
