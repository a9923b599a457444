"""What makes supervisord's loop turn before its second is over."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Callable
from typing import Any, Final

_SHORTEST_SECONDS: Final = 0.005
"""Should something stay due for ever, the loop turns 200 times a second and not without end."""

_MOST_REAPED: Final = 100
"""In one turn: where supervisord's recursion ends."""


class SignalWakeup:
    """A socket pair that becomes readable with every signal, such as SIGCHLD.

    Without it a signal does not end the poll (PEP 475), and a death is noticed a second later.
    """

    def __init__(self, socket_map: dict[int, Any]) -> None:
        """Join the sockets that supervisord polls."""
        self._map = socket_map
        self._receiver, self._sender = socket.socketpair()
        self._receiver.settimeout(0)
        self._sender.settimeout(0)
        signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        self._map[self._receiver.fileno()] = self

    def close(self) -> None:
        """Leave supervisord as it was."""
        signal.set_wakeup_fd(-1)
        self._map.pop(self._receiver.fileno(), None)
        self._receiver.close()
        self._sender.close()

    def wake(self) -> None:
        """Have the loop turn once more without a pause."""
        with contextlib.suppress(OSError):  # it is full, so the loop turns anyway
            self._sender.send(b"\0")

    def readable(self) -> bool:
        """Tell that it is to be polled."""
        return True

    def writable(self) -> bool:
        """Tell that nothing is ever sent."""
        return False

    def handle_read_event(self) -> None:
        """Swallow what woke us: the loop reaps after every turn anyway."""
        with contextlib.suppress(BlockingIOError):
            self._receiver.recv(4096)

    def handle_error(self) -> None:
        """Go on: the worst is a late turn."""


def wake_when_more_are_dead(supervisord: Any, wakeup: SignalWakeup) -> None:
    """Have supervisord reap on at once where it stops after the hundredth child of a turn.

    The signals of those that are left have come already, so the loop would rest for a second.
    """
    reap = supervisord.reap

    def reap_and_wake(once: bool = False, recursionguard: int = 0) -> Any:  # noqa: FBT001, FBT002 - stock's signature
        if recursionguard == _MOST_REAPED:
            wakeup.wake()
        return reap(once, recursionguard)

    supervisord.reap = reap_and_wake


def wake_when_due(options: Any, seconds_until_due: Callable[[], float | None]) -> None:
    """Have supervisord poll no longer than until the next thing is due.

    Args:
        options: supervisord's, which hold its poller.
        seconds_until_due: None: nothing is due; negative: something is overdue.
    """
    poll = options.poller.poll

    def poll_until_due(timeout: float) -> Any:
        try:
            due = seconds_until_due()
        except Exception as error:  # noqa: BLE001 - it would end supervisord
            sentence = f"agents: cannot tell what is due next: {error!r}"
            options.logger.critical(sentence)
            due = None
        return poll(timeout if due is None else min(timeout, max(due, _SHORTEST_SECONDS)))

    options.poller.poll = poll_until_due
