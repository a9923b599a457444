"""What a process has accepted at an address, and has not read yet."""

from __future__ import annotations

import socket
from ipaddress import ip_address

from deployer.tcp_sockets import READABLE, sockets_at


def accepted(address: tuple[str, int]) -> dict[int, int]:
    """Give the bytes to be read by the inode of each accepted connection; none if nobody can tell.

    Args:
        address: A numeric host and a TCP port; connections to other hosts of the port count too.
    """
    host, port = address
    try:
        family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET  # noqa: PLR2004 - of IP
        found = sockets_at(port, family, READABLE)
    except (OSError, ValueError, OverflowError):  # no numeric host, no port
        return {}
    return {each.inode: each.waiting for each in found if each.inode}
