"""The connections that a process has accepted at an address, and what it has not read of them yet.

The kernel is asked by sock_diag(7), as `ss -t` does, for the connections of one port: it walks its
whole table for that, 3 to 15 ms. (`deployer.peers` asks for one connection, found at once.)
"""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address
from typing import Final

# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h
_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_REQUEST_DUMP: Final = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_HEADER: Final = struct.Struct("=IHHII")
_ASKED: Final = struct.Struct("=BBBxI2s46x")
_TOLD: Final = struct.Struct("=56xIIII")  # rqueue, wqueue, uid and inode of struct inet_diag_msg
_READABLE: Final = 1 << 1 | 1 << 8  # TCP_ESTABLISHED, TCP_CLOSE_WAIT

_ANSWER_BYTES: Final = 65536
_MOST_PARTS: Final = 256  # tens of thousands of connections; supervisord's loop waits meanwhile
_SECONDS: Final = 0.2


def accepted(address: tuple[str, int]) -> dict[int, int]:
    """Give the bytes to be read by the inode of each accepted connection; none if nobody can tell.

    Args:
        address: A numeric host and a TCP port; connections to other hosts of the port count too.
    """
    found: dict[int, int] = {}
    host, port = address
    try:
        family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET  # noqa: PLR2004 - of IP
        asked = _ASKED.pack(family, socket.IPPROTO_TCP, 0, _READABLE, port.to_bytes(2, "big"))
        size = _HEADER.size + len(asked)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
            kernel.settimeout(_SECONDS)  # it answers while it is asked
            kernel.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + asked)
            for _ in range(_MOST_PARTS):
                if not _read_part(kernel.recv(_ANSWER_BYTES), found):
                    break
    # no numeric host, a part that is cut; AttributeError: not Linux
    except (OSError, ValueError, struct.error, AttributeError):
        return {}
    return found


def _read_part(answer: bytes, found: dict[int, int]) -> bool:
    """Read one part of an answer; returns whether there is more."""
    while answer:
        size, kind, *_ = _HEADER.unpack_from(answer)
        if kind != _SOCK_DIAG_BY_FAMILY or size < _HEADER.size:  # NLMSG_DONE, or an error
            return False
        unread, _, _, inode = _TOLD.unpack_from(answer, _HEADER.size)
        if inode:  # else it waits to be accepted
            found[inode] = unread
        answer = answer[(size + 3) & ~3 :]
    return True
