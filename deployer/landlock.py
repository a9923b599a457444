"""Landlock: a process forbids itself all files, ports and signals but those that it names.

Documented in landlock(7) and https://docs.kernel.org/userspace-api/landlock.html. Each version of
it (ABI) can refuse more than the one before; what a kernel cannot refuse stays open.
"""

from __future__ import annotations

import os
import sys

from deployer.kernel import SandboxError, system_call, u64

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ONLY_TELL_VERSION = 1
_PATH_BENEATH, _NET_PORT = 1, 2

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_FIRST_RIGHTS = (1 << 13) - 1
_LATER_RIGHTS = ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV))  # ABI, and what it brought
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_FILE_TYPE, _DIRECTORY = 0o170000, 0o040000  # inode(7); the stat module is not worth its time

_BIND_TCP, _NETWORK_ABI = 1, 4
_ABSTRACT_SOCKETS, _SIGNALS, _SCOPE_ABI = 1, 2, 6


def find_abi() -> int:
    """Ask the kernel which version it has; 0: none."""
    try:
        return system_call(_CREATE_RULESET, None, 0, _ONLY_TELL_VERSION, act="ask for Landlock")
    except SandboxError:
        return 0


def restrict(
    readable: list[bytes], writable: list[bytes], unlisted: list[bytes], ports: tuple[int, ...]
) -> None:
    """Forbid this process, and all that it starts, everything that is not named.

    Args:
        readable: Files, or directories with all below them.
        writable: The same.
        unlisted: Writable directories in which names cannot be listed.
        ports: TCP ports that can be bound.

    Raises:
        SandboxError: The kernel has no Landlock, or refused.
    """
    abi = find_abi()
    if not abi:
        raise SandboxError("cannot restrict by Landlock: this kernel has none")
    handled = _FIRST_RIGHTS
    for since, right in _LATER_RIGHTS:
        handled |= right if abi >= since else 0
    attributes = u64(handled)
    if abi >= _NETWORK_ABI:
        attributes += u64(_BIND_TCP)
    if abi >= _SCOPE_ABI:
        attributes += u64(_ABSTRACT_SOCKETS | _SIGNALS)
    ruleset = system_call(
        _CREATE_RULESET, attributes, len(attributes), 0, act="make a Landlock ruleset"
    )
    for paths, rights in (
        (readable, _READ),
        (writable, handled),
        (unlisted, handled & ~_READ_DIR),
    ):
        for path in paths:
            _allow_path(ruleset, path, rights)
    if abi >= _NETWORK_ABI:
        for port in ports:
            rule = u64(_BIND_TCP, port)
            system_call(_ADD_RULE, ruleset, _NET_PORT, rule, 0, act=f"allow TCP port {port}")
    system_call(_RESTRICT_SELF, ruleset, 0, act="restrict by Landlock")
    os.close(ruleset)


def _allow_path(ruleset: int, path: bytes, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there, or closed to this user, needs no permission
    if os.fstat(descriptor).st_mode & _FILE_TYPE != _DIRECTORY:
        rights &= _OF_FILES
    rule = u64(rights) + descriptor.to_bytes(4, sys.byteorder)
    system_call(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0, act=f"allow {os.fsdecode(path)}")
    os.close(descriptor)
