"""Who is at the other end of a connection: the user of that process, if it runs on this machine.

The kernel is asked by sock_diag(7) for the one socket of the four numbers in question, some
microseconds; where that is refused, its table is read. A process that connects, writes and closes
before anybody accepts is nobody's any more by then; that is told apart from another machine's by
our own end, which has seen the end as well.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, Final

_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))

# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h, netinet/tcp.h
_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_HEADER: Final = struct.Struct("=IHHII")
_ASKED: Final = struct.Struct("=BBBxI2s2s16s16sI8s")
_TOLD: Final = struct.Struct("=BBBB2s2s16s16sI8sIIIII")
_ANY: Final = 0xFFFFFFFF
_NO_COOKIE: Final = b"\xff" * 8
_ESTABLISHED: Final = 1
_LISTEN: Final = 10

_ANSWER_BYTES: Final = 8192
_SECONDS: Final = 1.0
_CREDENTIALS: Final = struct.Struct("3i")
"""struct ucred of unix(7): pid, uid, gid."""

Address = tuple[Any, ...]
"""As `socket.socket.getsockname` gives it."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a connection.

    Attributes:
        uid: The user; None: of another machine, or nobody can tell.
        has_left: It may have been a process of this machine, which closed its end too soon to tell.
    """

    uid: int | None = None
    has_left: bool = False

    def may_be_of(self, uids: range | None) -> bool:
        """Tell whether it is one of these users, or may have been."""
        return uids is not None and (self.has_left if self.uid is None else self.uid in uids)


@dataclass(frozen=True, slots=True)
class _Socket:
    """What the kernel tells of a socket; inode 0: no process has it any more."""

    uid: int
    inode: int


_Find = Callable[[Address, Address], _Socket | None]
"""Finds the socket that has the first address and is connected to the second."""


class Peers:
    """Tells who connects to this process."""

    def __init__(self) -> None:
        """Find a way that works here: a connection to ourselves must be found to be ours."""
        self._find = next((find for find in (_ask, _read_tables) if _finds_us(find)), None)

    @property
    def can_tell(self) -> bool:
        """Whether the users of connections by TCP can be told here at all."""
        return self._find is not None

    def find(self, connection: socket.socket, address: Address) -> Peer:
        """Tell who made a connection; ask as soon as it is accepted.

        Args:
            connection: Our end.
            address: The other one, as `socket.socket.accept` gave it.
        """
        if connection.family == socket.AF_UNIX:
            return _find_by_unix(connection)
        if self._find is None:
            return Peer()
        with suppress(OSError):  # a netlink socket less than there may be, our end reset
            found = self._find(address, connection.getsockname())
            if found is not None and found.inode:
                return Peer(found.uid)
            if found is None and _is_established(connection):
                return Peer()
        return Peer(has_left=True)


def _find_by_unix(connection: socket.socket) -> Peer:
    if sys.platform != "linux":
        return Peer()
    said = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(said)
    return Peer(uid)


def _ask(near: Address, far: Address) -> _Socket | None:
    """Ask by netlink.

    Raises:
        OSError: Nobody answers such questions here.
    """
    near_ip, far_ip = _ip(near), _ip(far)
    family = socket.AF_INET if near_ip.version == 4 else socket.AF_INET6  # noqa: PLR2004 - of IP
    asked = _ASKED.pack(
        family,
        socket.IPPROTO_TCP,
        0,
        _ANY,
        near[1].to_bytes(2, "big"),
        far[1].to_bytes(2, "big"),
        near_ip.packed,
        far_ip.packed,
        near[3] if len(near) > 3 else 0,  # noqa: PLR2004 - where the scope of IPv6 stands
        _NO_COOKIE,
    )
    size = _HEADER.size + len(asked)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_SECONDS)
        kernel.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + asked)
        answer = kernel.recv(_ANSWER_BYTES)
    if _HEADER.unpack_from(answer)[1] != _SOCK_DIAG_BY_FAMILY:
        return None  # an error, and there is none but that there is no such socket
    _, state, _, _, *_, uid, inode = _TOLD.unpack_from(answer, _HEADER.size)
    # Where no connection fits, the kernel gives who listens there.
    return None if state == _LISTEN else _Socket(uid, inode)


def _read_tables(near: Address, far: Address) -> _Socket | None:
    """Look into the tables of proc(5), which takes the kernel as long as they are.

    Raises:
        OSError: There are none.
    """
    wanted = {
        (_in_table(near, is_mapped=is_mapped), _in_table(far, is_mapped=is_mapped))
        for is_mapped in (False, True)
    }
    for table in _TABLES:
        if table is _TABLES[1] and not table.exists():  # without IPv6
            continue
        for line in table.read_text(encoding="ascii").splitlines()[1:]:
            _, local, remote, _, _, _, _, uid, _, inode, *_ = line.split()
            if (local, remote) in wanted:
                return _Socket(int(uid), int(inode))
    return None


def _in_table(address: Address, *, is_mapped: bool) -> str:
    packed = _ip(address).packed
    if is_mapped and len(packed) == 4:  # noqa: PLR2004 - bytes of an IPv4 address
        packed = b"\0" * 10 + b"\xff\xff" + packed
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    text = "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)
    return f"{text}:{address[1]:04X}"


def _ip(address: Address) -> IPv4Address | IPv6Address:
    ip = ip_address(address[0].partition("%")[0])
    return getattr(ip, "ipv4_mapped", None) or ip


def _is_established(connection: socket.socket) -> bool:
    """Tell whether neither end has said that it is over."""
    return bool(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED)


def _finds_us(find: _Find) -> bool:
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            socket.create_connection(listener.getsockname(), timeout=_SECONDS) as ours,
        ):
            found = find(ours.getsockname(), listener.getsockname())
    except (OSError, AttributeError):  # AttributeError: not Linux
        return False
    return found is not None and found.uid == os.geteuid()
