"""Open connections, so shared that nobody can take all of them.

A connection that asks nothing costs a descriptor and no thread; but there are only so many, and
whoever may open one can open them all. So when all are taken, whoever has the most gives up the one
that has waited longest; and one that does not come to the point is closed. So is one that asks on
without taking answers: one request of a connection is answered at a time, and the next one when
that answer has been taken, so that no thread waits for a client.
"""

from __future__ import annotations

import contextlib
import fcntl
import resource
import socket
import sys
import termios
from collections import Counter
from collections.abc import Hashable
from typing import Final, Protocol

HEAD_SECONDS: Final = 10.0
"""How long the head of a request may take, from the first byte, or from the connection on."""

BODY_SECONDS: Final = 60.0
"""How long the rest of a request may take that anybody may send: it is small."""

SILENT_SECONDS: Final = 60.0
"""How long a large body that was let in may pause."""

STUCK_SECONDS: Final = 60.0
"""How long a client may take nothing of its answer; one that takes a little goes on for ever."""

AHEAD_BYTES: Final = 64 * 1024
"""How much may be sent behind a request before it is answered; no known client sends any."""

MARGIN: Final = 100
"""How many more connections than places waitress takes, so that it never stops to accept."""

_MOST: Final = 1000
_FEWEST: Final = 50


class Connection(Protocol):
    """What must be known of a connection.

    Attributes:
        owner: Who made it, as far as anybody can tell.
        waits_since: Since when nothing has been asked, or nothing been taken of an answer; None: it
            is being answered, or sends what it may send.
    """

    owner: Hashable

    @property
    def waits_since(self) -> float | None:
        """See above."""

    def give_up(self) -> None:
        """Close it, as soon as that can be."""


class Places:
    """Who has which connections; for the one thread that accepts them."""

    def __init__(self, most: int) -> None:
        """Let so many be open."""
        self.most = most
        self._open: dict[Connection, None] = {}

    def __len__(self) -> int:
        """Count the connections that are open."""
        return len(self._open)

    def add(self, connection: Connection) -> None:
        """Take a connection in, and if there is no place, have another one given up for it."""
        self._open[connection] = None
        if len(self._open) <= self.most:
            return
        for owner, _ in Counter(each.owner for each in self._open).most_common():
            waiting = [
                (since, each)
                for each in self._open
                if each.owner == owner and (since := each.waits_since) is not None
            ]
            if waiting:
                _, longest = min(waiting, key=lambda pair: pair[0])
                self.remove(longest)
                longest.give_up()
                return

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._open.pop(connection, None)


def affordable() -> int:
    """Count the connections that this process can have open, and still open its files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(_FEWEST, min(_MOST, soft // 2 - MARGIN))


def queued_bytes(sock: socket.socket) -> int:
    """Count what the kernel holds for the other end; 0 where it does not say.

    It holds megabytes, and takes more only once much of them is gone: with a slow client, who reads
    all the time, that can last minutes.
    """
    with contextlib.suppress(OSError, ValueError):  # the latter once it is closed
        return int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    return 0
