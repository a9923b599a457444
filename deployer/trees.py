"""Directory trees whose owner may be hostile: however deep, and whatever its symlinks point at.

Every step goes from an open directory to an entry of it that is no symlink, so whoever plants links
or moves directories about meanwhile gets an error at worst, and never an act somewhere else. There
is no recursion: an agent can nest directories deeper than Python calls.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class _Level:
    """A directory on the way down: its name above, what is left of it, and which one it is."""

    name: str
    left: list[str]
    identity: tuple[int, int]

    @classmethod
    def of(cls, name: str, descriptor: int) -> _Level:
        names = os.listdir(descriptor)
        return cls(name, names, _identity(descriptor))


def delete_tree(path: Path) -> None:
    """Delete a file or a directory with all below it, if it is there; never follows a symlink.

    Raises:
        OSError: Something of it cannot be deleted, or somebody moves it meanwhile.
    """
    try:
        if not stat.S_ISDIR(path.lstat().st_mode):
            path.unlink()
            return
    except FileNotFoundError:
        return
    for directory, name, status in _walk(path, opens_closed_ones=True):
        remove = os.rmdir if stat.S_ISDIR(status.st_mode) else os.unlink
        remove(name, dir_fd=directory)
    path.rmdir()


def change_owner(path: Path, uid: int) -> list[str]:
    """Give a directory, with all below it, to a user and the group of the same number.

    The directory itself comes last: one that has the right owner was given away as a whole.

    Args:
        path: A directory.
        uid: Who gets it.

    Returns:
        The names of files left as they were, because they have further names: those may lie where
        nothing must be given away, such as in an installer's cache.

    Raises:
        OSError: It is no directory, or cannot be given away.
    """
    left = []
    for directory, name, status in _walk(path):
        if status.st_uid == uid and status.st_gid == uid:
            continue
        if not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1:
            left.append(name)
            continue
        os.chown(name, uid, uid, dir_fd=directory, follow_symlinks=False)
    descriptor = os.open(path, _DIRECTORY)
    try:
        os.chown(descriptor, uid, uid)
    finally:
        os.close(descriptor)
    return left


def _walk(
    top: Path, *, opens_closed_ones: bool = False
) -> Iterator[tuple[int, str, os.stat_result]]:
    """Give everything below a directory, what is in a directory before that itself.

    Args:
        top: The directory.
        opens_closed_ones: Get into directories that their owner has closed to itself.

    Yields:
        The open directory that holds it, its name there, and what it is.
    """
    descriptor = _enter(None, str(top), opens_closed_ones=opens_closed_ones)
    try:
        levels = [_Level.of("", descriptor)]
        while levels:
            if levels[-1].left:
                name = levels[-1].left.pop()
                try:
                    status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                except FileNotFoundError:  # whoever owns it is not at rest
                    continue
                if not stat.S_ISDIR(status.st_mode):
                    yield descriptor, name, status
                    continue
                below = _enter(descriptor, name, opens_closed_ones=opens_closed_ones)
                os.close(descriptor)
                descriptor = below
                levels.append(_Level.of(name, descriptor))
                continue
            done = levels.pop()
            if not levels:
                return
            above = os.open("..", _DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = above
            if _identity(descriptor) != levels[-1].identity:
                raise OSError(f"{top}: {done.name!r} was moved away meanwhile")
            status = os.stat(done.name, dir_fd=descriptor, follow_symlinks=False)
            yield descriptor, done.name, status
    finally:
        os.close(descriptor)


def _enter(directory: int | None, name: str, *, opens_closed_ones: bool) -> int:
    if opens_closed_ones and sys.platform == "linux" and os.geteuid() != 0:
        place = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            status = os.fstat(place)
            if status.st_uid == os.geteuid() and status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
                # By way of /proc: a descriptor that only names something cannot be changed itself.
                Path(f"/proc/self/fd/{place}").chmod(stat.S_IMODE(status.st_mode) | stat.S_IRWXU)
        finally:
            os.close(place)
    return os.open(name, _DIRECTORY, dir_fd=directory)


def _identity(directory: int) -> tuple[int, int]:
    status = os.fstat(directory)
    return status.st_dev, status.st_ino


def sync_directory(path: Path) -> None:
    """Have the names in a directory outlive a power cut; what the files hold is synced by itself.

    Raises:
        OSError: The disk cannot take it, or the directory is gone.
    """
    descriptor = os.open(path, _DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
