"""Listening sockets that outlive the processes that accept from them.

As long as somebody holds it, a listening socket takes connections: while nobody accepts they wait
in its backlog. So an agent that takes its socket over instead of binding one can be restarted,
replaced or killed, and no client is refused.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Collection
from ipaddress import ip_address
from typing import Final

Address = tuple[str, int]
"""A numeric host and a TCP port."""

INHERITED_DESCRIPTOR: Final = 3
"""Where a process finds its socket: SD_LISTEN_FDS_START of sd_listen_fds(3)."""

_LAST_PORT: Final = 65535
_BACKLOG: Final = 1024
"""Connections that may wait; the kernel cuts it to net.core.somaxconn."""


class HeldSockets:
    """Sockets by their address; none of them reaches a child unasked (PEP 446)."""

    def __init__(self) -> None:
        """Begin with none."""
        self._sockets: dict[Address, socket.socket] = {}
        self._idle: set[Address] = set()

    def addresses(self) -> list[Address]:
        """Give the address of every socket, sorted."""
        return sorted(self._sockets)

    def hold(self, address: Address) -> None:
        """Listen at an address until somebody lets it go; twice is as good as once.

        Raises:
            ValueError: The host is not a numeric address: to look a name up would hold supervisord
                up, and every agent with it; or the port is none.
            OSError: It cannot be had, mostly because another process listens there.
        """
        self._idle.discard(address)
        if address in self._sockets:
            return
        host, port = address
        family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET  # noqa: PLR2004 - IPv6
        if not 0 < port <= _LAST_PORT:
            raise ValueError(f"{port} is not a TCP port")
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        self._sockets[address] = listener

    def let_go(self, address: Address) -> None:
        """Close the socket of an address, if there is one: who waits is cut off, others refused."""
        self._idle.discard(address)
        if listener := self._sockets.pop(address, None):
            listener.close()

    def let_go_idle(self, in_use: Collection[Address]) -> None:
        """Close what nobody used now nor at the call before.

        A client had better be refused than wait for somebody who never comes, should whoever
        stopped an agent have forgotten its socket.

        Args:
            in_use: The sockets that a process accepts from, or soon will.
        """
        idle = self._sockets.keys() - set(in_use)
        for address in idle & self._idle:
            self.let_go(address)
        self._idle = idle & self._sockets.keys()

    def renew(self, address: Address) -> None:
        """Undo what a process may have done to the socket that it was given.

        It may have made the backlog shorter, or have shut the socket down for everybody; to listen
        again mends both, and keeps who waits already.
        """
        if listener := self._sockets.get(address):
            try:
                listener.listen(_BACKLOG)
            except OSError:  # shut down, and somebody else was quicker to listen there
                self.let_go(address)

    def hand_over(self, address: Address) -> bool:
        """Put a socket where a child that is about to execute a program inherits it.

        Only ever called in the child. The way that it blocks is shared with everybody who has the
        socket, so the last process may have left it otherwise than the next one expects.

        Returns:
            False when none is held.
        """
        listener = self._sockets.get(address)
        if listener is None:
            return False
        if listener.fileno() != INHERITED_DESCRIPTOR:
            os.dup2(listener.fileno(), INHERITED_DESCRIPTOR)
        os.set_inheritable(INHERITED_DESCRIPTOR, True)  # noqa: FBT003 - the only way to say it
        os.set_blocking(INHERITED_DESCRIPTOR, True)
        return True

    def close(self) -> None:
        """Let go of all."""
        for address in self.addresses():
            with contextlib.suppress(OSError):
                self.let_go(address)
