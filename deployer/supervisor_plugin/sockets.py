"""Listening sockets that outlive the processes that accept from them.

As long as somebody holds it, a listening socket takes connections: while nobody accepts they wait
in its backlog. So an agent that takes its socket over instead of binding one can be restarted,
replaced or killed, and no client is refused.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import sys
from collections.abc import Collection
from ipaddress import ip_address
from typing import Final

Address = tuple[str, int]
"""A numeric host and a TCP port."""

INHERITED_DESCRIPTOR: Final = 3
"""Where a process finds its socket: SD_LISTEN_FDS_START of sd_listen_fds(3)."""

_LAST_PORT: Final = 65535
_ATTACH_REUSEPORT_CBPF: Final = 51  # SO_ATTACH_REUSEPORT_CBPF of asm-generic/socket.h
_TAKE_THE_SECOND: Final = struct.pack("HBBI", 0x06, 0, 0, 1)  # BPF_RET | BPF_K, 1: filter.txt
_UNACKED: Final = slice(24, 28)
"""Where struct tcp_info of linux/tcp.h has tcpi_unacked: of a listener, who waits for accept."""

_BACKLOG: Final = 1024
"""Connections that may wait; the kernel cuts it to net.core.somaxconn."""


class HeldSockets:
    """Sockets by their address; none of them reaches a child unasked (PEP 446)."""

    def __init__(self) -> None:
        """Begin with none."""
        self._sockets: dict[Address, socket.socket] = {}
        self._former: dict[Address, socket.socket] = {}  # that new connections go past
        self._idle: set[Address] = set()

    def __contains__(self, address: object) -> bool:
        """Tell whether the socket of an address is held."""
        return address in self._sockets

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
        self._sockets[address] = _listen(address)

    def let_go(self, address: Address) -> None:
        """Close the socket of an address, if there is one: who waits is cut off, others refused."""
        self._idle.discard(address)
        for listeners in (self._former, self._sockets):
            if listener := listeners.pop(address, None):
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

    def divert(self, address: Address, *, past_waiting: bool = False) -> bool:
        """Send new connections past the process that accepts now, into a socket for the next one.

        That process keeps the socket it was given, and no connection comes to it any more. So it
        can read what it has accepted before it is told to end; servers that accept eagerly, such
        as uvicorn, close unread connections then. A process that lets clients wait in its socket
        is not such a server, and what waits there is not to be lost with it.

        Args:
            address: Whose socket.
            past_waiting: Also while clients wait, because they will not wait for long.

        Returns:
            False when all stays as it was: clients wait, or the system cannot do it.
        """
        former = self._sockets.get(address)
        if former is None or sys.platform != "linux":
            return False
        fresh = None
        try:
            if not past_waiting and _count_waiting(former):
                return False
            former.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            fresh = _listen(address, beside=former)
            _prefer_second(fresh)
        except OSError:
            if fresh is not None:
                fresh.close()
            former.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
            return False
        self._sockets[address] = fresh
        self._former[address] = former
        return True

    def is_diverted(self, address: Address) -> bool:
        """Tell whether new connections go past the process that accepts now."""
        return address in self._former

    def count_waiting(self, address: Address) -> int:
        """Count who waits for the process that accepts now."""
        listener = self._former.get(address) or self._sockets.get(address)
        return _count_waiting(listener) if listener else 0

    def renew(self, address: Address) -> None:
        """Undo what a process that has ended may have done to the socket that it was given.

        It may have made the backlog shorter, or have shut the socket down for everybody; to listen
        again mends both, and keeps who waits already. A socket that once stood beside another one
        stands alone now.
        """
        if former := self._former.pop(address, None):
            former.close()
        if listener := self._sockets.get(address):
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
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


def _listen(address: Address, *, beside: socket.socket | None = None) -> socket.socket:
    host, port = address
    family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET  # noqa: PLR2004 - IPv6
    if not 0 < port <= _LAST_PORT:
        raise ValueError(f"{port} is not a TCP port")
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if beside is not None:
            # which the launcher has given to the agent's user, and only sockets of one user share
            owner = os.fstat(beside.fileno())
            os.fchown(listener.fileno(), owner.st_uid, owner.st_gid)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _prefer_second(listener: socket.socket) -> None:
    """Have the kernel choose the second of the two sockets at an address for each connection.

    Once the first is gone there is no second, and the kernel takes what is left: socket(7).
    """
    instruction = ctypes.create_string_buffer(_TAKE_THE_SECOND)
    program = struct.pack("@HP", 1, ctypes.addressof(instruction))  # struct sock_fprog
    listener.setsockopt(socket.SOL_SOCKET, _ATTACH_REUSEPORT_CBPF, program)


def _count_waiting(listener: socket.socket) -> int:
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNACKED.stop)
    return int.from_bytes(info[_UNACKED], sys.byteorder)
