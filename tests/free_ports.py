"""Ports for tests: free, in a row, and nobody else's who runs tests on this machine meanwhile."""

from __future__ import annotations

import os
import socket
from typing import Final

from deployer.ports import can_bind

_FIRST: Final = 12_000
_LAST: Final = 32_000
"""The kernel gives ports beyond to whoever connects."""

_BLOCK: Final = 32
_reserved: dict[int, socket.socket] = {}


def free_ports(count: int) -> int:
    """Reserve so many neighbouring free ports, until `release_ports` or this process's end.

    Several processes test at once, and a server binds its ports long after it was told them. So a
    block of ports belongs to whoever holds an abstract socket of its name.

    Returns:
        The first of them.
    """
    needed = range(-(-count // _BLOCK))
    blocks = range(_FIRST, _LAST - len(needed) * _BLOCK, _BLOCK)
    begin = os.getpid() * 7919 % len(blocks)  # far from where neighbouring processes begin
    for first in (*blocks[begin:], *blocks[:begin]):
        taken: list[int] = []
        for block in (first + number * _BLOCK for number in needed):
            if not _reserve(block):
                break
            taken.append(block)
        if len(taken) == len(needed) and all(map(can_bind, range(first, first + count))):
            return first
        release_ports(*taken)
    raise AssertionError(f"no {count} free ports in a row")


def release_ports(*blocks: int) -> None:
    """Let others have blocks that begin with these ports."""
    for block in blocks:
        if block in _reserved:
            _reserved.pop(block).close()


def _reserve(block: int) -> bool:
    if block in _reserved:
        return False
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0atoll-test-ports-{block}")
    except OSError:
        name.close()
        return False
    _reserved[block] = name
    return True
