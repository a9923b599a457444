"""The kernel's own calls, where the standard library has none; a failed one says what it was for.

Standard library only, and little of it: the launcher pays for it at every start. Numbers here and
in what is built on this are those of the kernel's headers (linux/*.h); system calls this young have
one number on all architectures that Debian runs on.
"""

from __future__ import annotations

import ctypes
import os
import sys


class SandboxError(Exception):
    """Which step failed, and why; the process must not become an agent."""


def call(name: str, *arguments: int | bytes | None, act: str) -> int:
    """Call a function of the C library.

    Args:
        name: Such as ``mount``.
        arguments: As it takes them.
        act: What it is for, to stand behind "cannot".

    Raises:
        SandboxError: It failed.
    """
    # All the width of a register: an int alone would leave the upper half to chance.
    wide = (ctypes.c_long(each) if isinstance(each, int) else each for each in arguments)
    result: int = getattr(_libc, name)(*wide)
    if result < 0:
        raise SandboxError(f"cannot {act}: {os.strerror(ctypes.get_errno())}")
    return result


def system_call(number: int, *arguments: int | bytes | None, act: str) -> int:
    """Make a system call that the C library has no function for; the rest is as in `call`."""
    return call("syscall", number, *arguments, act=act)


def u64(*numbers: int) -> bytes:
    """Write numbers as a struct of ``__u64``."""
    return b"".join(number.to_bytes(8, sys.byteorder) for number in numbers)


_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
