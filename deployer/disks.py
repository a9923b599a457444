"""Room on the disk: asked for before something is written, not found out half-way."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deployer.errors import NoSpaceError

_HINT: Final = "delete releases, agents or logs that nobody needs, or enlarge the disk"


@contextmanager
def telling_when_full(path: Path) -> Iterator[None]:
    """Turn the error of a full disk into words.

    Args:
        path: What the block writes.

    Raises:
        NoSpaceError: There was no room.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise NoSpaceError(
            f"cannot write {path}: the disk is full", cause=f"disk full: {path}", hint=_HINT
        ) from error


def free_bytes(path: Path) -> int:
    """Tell how much may still be written to the file system that a path lies on."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def tree_bytes(directory: Path) -> int:
    """Add up the files below a directory, as large as they read; links are not followed."""
    return sum(
        Path(folder, name).lstat().st_size
        for folder, _, names in os.walk(directory)
        for name in names
    )


def require_space(path: Path, size_bytes: int, inodes: int) -> None:
    """Make sure that a file system has room.

    Args:
        path: Anything on it.
        size_bytes: What is about to be written.
        inodes: How many files and folders that is; not asked where the file system makes them as
            they are needed.

    Raises:
        NoSpaceError: It has not; both figures are in the sentence.
    """
    status = os.statvfs(path)
    free_bytes = status.f_bavail * status.f_frsize
    if free_bytes < size_bytes:
        raise NoSpaceError(
            f"cannot write {size_bytes:,} bytes below {path}: the disk has {free_bytes:,} left",
            cause=f"disk full: {free_bytes:,} bytes left",
            hint=_HINT,
        )
    if status.f_files and status.f_favail < inodes:
        raise NoSpaceError(
            f"cannot make {inodes:,} files below {path}: the disk has {status.f_favail:,} inodes"
            " left",
            cause=f"disk full: {status.f_favail:,} inodes left",
            hint=_HINT,
        )
