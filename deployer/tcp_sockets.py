"""The kernel's sockets at one TCP port, as `ss -t` finds them: by sock_diag(7).

Who listens there is found at once. For connections the kernel walks its whole table, 3 to 15 ms.
(`deployer.peers` asks for one connection, found at once as well.)
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Final

# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h
_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLMSG_DONE: Final = 3
_REQUEST_DUMP: Final = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_HEADER: Final = struct.Struct("=IHHII")
_ASKED: Final = struct.Struct("=BBBxI2s46x")
_TOLD: Final = struct.Struct("=56xIIII")  # rqueue, wqueue, uid and inode of struct inet_diag_msg

LISTENING: Final = 1 << 10  # netinet/tcp.h: TCP_LISTEN
READABLE: Final = 1 << 1 | 1 << 8  # TCP_ESTABLISHED, TCP_CLOSE_WAIT

_ANSWER_BYTES: Final = 65536
_MOST_PARTS: Final = 256  # tens of thousands of connections; supervisord's loop waits meanwhile
_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class TcpSocket:
    """A socket at a port.

    Attributes:
        inode: As in /proc/PID/fd; 0: no process has it, for it waits to be accepted, or is closed.
        waiting: Of a listener the connections that wait to be accepted, else the bytes to be read.
    """

    inode: int
    waiting: int


def sockets_at(port: int, family: socket.AddressFamily, states: int) -> list[TcpSocket]:
    """Ask the kernel what there is at a port.

    Args:
        port: A TCP port of this machine, whatever the address.
        family: AF_INET, or AF_INET6 with those that are bound to both.
        states: `LISTENING` or `READABLE`.

    Raises:
        OSError: Nobody answers such questions here.
    """
    asked = _ASKED.pack(family, socket.IPPROTO_TCP, 0, states, port.to_bytes(2, "big"))
    size = _HEADER.size + len(asked)
    found: list[TcpSocket] = []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
            kernel.settimeout(_SECONDS)  # it answers while it is asked
            kernel.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + asked)
            for _ in range(_MOST_PARTS):
                if not _read_part(kernel.recv(_ANSWER_BYTES), found):
                    break
    except (struct.error, AttributeError) as error:  # a part that is cut; not Linux
        raise OSError(f"cannot ask for sockets: {error}") from error
    return found


def _read_part(answer: bytes, found: list[TcpSocket]) -> bool:
    """Read one part of an answer; returns whether there is more."""
    while answer:
        size, kind, *_ = _HEADER.unpack_from(answer)
        if kind == _NLMSG_DONE:
            return False
        if kind != _SOCK_DIAG_BY_FAMILY or size < _HEADER.size:
            raise OSError("cannot ask for sockets: the kernel refuses")
        waiting, _, _, inode = _TOLD.unpack_from(answer, _HEADER.size)
        found.append(TcpSocket(inode, waiting))
        answer = answer[(size + 3) & ~3 :]
    return True
