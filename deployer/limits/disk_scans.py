"""How much agents have on the disk, added up by a process of its own at idle priority.

A directory may hold a million files, which take seconds to look at: in a process of its own that
keeps nobody waiting, and can be ended when it takes too long. Run as ``python -I -S disk_scans.py
SECONDS DIRECTORY...``, it prints a line for each directory: bytes, entries, whether that is all,
whether there is more too deep down.
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

_DEEPEST = 128
"""Folders inside each other; each costs a descriptor, and a deeper one is not looked into."""

_BLOCK_BYTES = 512  # what st_blocks counts, whatever the file system's own blocks are
_ENTRIES_A_LOOK = 1000  # at the clock
_START_SECONDS = 10.0


@dataclass(frozen=True)
class DiskScan:
    """What was found below some directories.

    Attributes:
        size_bytes: That the disk holds for it; of a file with several names once.
        entries: Files and folders.
        is_whole: False: there is more, for it took too long or lies too deep.
        is_deep: There are folders too deep to be looked into.
    """

    size_bytes: int = 0
    entries: int = 0
    is_whole: bool = True
    is_deep: bool = False


def scan_disks(groups: Iterable[Iterable[Path]], seconds: float) -> list[DiskScan]:
    """Look at what lies below directories, each group of them added up.

    Args:
        groups: Directories; those that are not there count as empty. Links are never followed, and
            other file systems mounted below are left out.
        seconds: For each directory; then what was found so far counts.

    Returns:
        A scan for each group.

    Raises:
        OSError: The process that looks could not be started, or did not come to its end.
    """
    lists = [list(map(str, directories)) for directories in groups]
    paths = [path for paths in lists for path in paths]
    command = [sys.executable, "-I", "-S", __file__, str(seconds), *paths]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and file
            command,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_START_SECONDS + seconds * len(paths),
        )
    except subprocess.SubprocessError as error:
        raise OSError(f"cannot look at what agents have on the disk: {error}") from error
    lines = iter(done.stdout.decode("ascii").splitlines())
    return [_sum(next(lines) for _ in each) for each in lists]


def scan(directory: str, seconds: float) -> DiskScan:
    """Look at one directory until the time is over."""
    deadline = time.monotonic() + seconds
    size_bytes = entries = 0
    linked: set[tuple[int, int]] = set()
    walk = _Walk()
    with contextlib.closing(walk.entries(directory)) as found:
        for status in found:
            entries += 1
            if entries % _ENTRIES_A_LOOK == 0 and time.monotonic() > deadline:
                walk.is_whole = False
                break
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                identity = status.st_dev, status.st_ino
                if identity in linked:
                    continue
                linked.add(identity)
            size_bytes += status.st_blocks * _BLOCK_BYTES
    return DiskScan(size_bytes, entries, walk.is_whole and not walk.is_deep, walk.is_deep)


class _Walk:
    """A way through everything below a directory, folder by folder.

    It goes by descriptors, so that a folder which becomes a link meanwhile leads nowhere.

    Attributes:
        is_whole: Whether there was time for everything.
        is_deep: Whether it has passed folders over that lie too deep.
    """

    def __init__(self) -> None:
        self.is_whole = True
        self.is_deep = False
        self._folders: list[tuple[int, os._ScandirIterator[str]]] = []

    def entries(self, directory: str) -> Generator[os.stat_result, None, None]:
        """Give the status of each file and folder on the directory's file system."""
        try:
            self._enter(directory, None)
            device = os.fstat(self._folders[0][0]).st_dev if self._folders else 0
            while self._folders:
                folder, names = self._folders[-1]
                entry = next(names, None)
                if entry is None:
                    self._leave()
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue  # it is gone
                yield status
                if stat.S_ISDIR(status.st_mode) and status.st_dev == device:
                    self._enter(entry.name, folder)
        finally:
            while self._folders:
                self._leave()

    def _leave(self) -> None:
        folder, names = self._folders.pop()
        names.close()
        os.close(folder)

    def _enter(self, name: str, folder: int | None) -> None:
        if len(self._folders) >= _DEEPEST:
            self.is_deep = True
            return
        with contextlib.suppress(OSError):  # it is gone, or not ours to look into
            below = _open(name, folder)
            self._folders.append((below, os.scandir(below)))


def _open(name: str, folder: int | None) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, dir_fd=folder)


def _sum(lines: Iterable[str]) -> DiskScan:
    total = DiskScan()
    for line in lines:
        size_bytes, entries, is_whole, is_deep = map(int, line.split())
        total = DiskScan(
            total.size_bytes + size_bytes,
            total.entries + entries,
            total.is_whole and bool(is_whole),
            total.is_deep or bool(is_deep),
        )
    return total


def _main(arguments: list[str]) -> None:
    seconds, *directories = arguments
    os.nice(19)  # the kernel derives the priority of reads and writes from it, too
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    for directory in directories:
        found = scan(directory, float(seconds))
        flags = f"{found.is_whole:d} {found.is_deep:d}"
        sys.stdout.write(f"{found.size_bytes} {found.entries} {flags}\n")


if __name__ == "__main__":
    _main(sys.argv[1:])
