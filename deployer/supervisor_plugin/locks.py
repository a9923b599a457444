"""The lock that makes a state directory one server's."""

from __future__ import annotations

import fcntl
import os


class LockHeldError(Exception):
    """Another process holds the lock; the sentence names it."""


class Lock:
    """A file held with flock until it is closed or the process ends, however it ends."""

    def __init__(self, path: str) -> None:
        """Take the lock at path without waiting, and write our pid into the file.

        Args:
            path: Made if it is missing; empty: nothing is locked.

        Raises:
            LockHeldError: Somebody else has it.
        """
        self._descriptor = -1
        if not path:
            return
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise LockHeldError(
                f"cannot run supervisord: {path} is locked by process {owner};"
                " one state directory serves one server"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def close(self) -> None:
        """Give the lock back; once."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
