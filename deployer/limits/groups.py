"""The groups of one server: a root of its own in each hierarchy, below it one group a run.

A run's group is called ``PROGRAM.PID``. The roots' names carry a mark of the state directory, so
that two servers on one machine never meet, and so that what a killed server left is known for ours.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deployer.state_dir import StateDir

PROCESSES: Final = "cgroup.procs"
"""The file that lists a group's processes, and that a pid is written to to join."""

_JOIN_SECONDS: Final = 5.0
"""How long a launcher may take between making its group and joining it."""

_END_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True)
class RunGroup:
    """The group of one run.

    Attributes:
        directory: In one hierarchy.
        program: Whose run.
        pid: The run's main process.
    """

    directory: Path
    program: str
    pid: int


def mark(state_root: Path) -> str:
    """Name the root of a state directory's groups."""
    return f"atoll-{hashlib.sha256(os.fsencode(state_root)).hexdigest()[:12]}"


def pids_in(group: Path) -> tuple[int, ...]:
    """List the processes of a group; none when it is gone.

    A process of another pid namespace is listed as 0, which as an address would mean ourselves.
    """
    try:
        pids = map(int, _read(f"{group}/{PROCESSES}").split())
        return tuple(pid for pid in pids if pid > 0)
    except (OSError, ValueError):
        return ()


def read_counter(file: str, word: str) -> int:
    """Read the number behind a word in a file of words and numbers; 0 when it is not there."""
    with contextlib.suppress(OSError):
        for line in _read(file).decode().splitlines():
            name, _, count = line.partition(" ")
            if name == word:
                return int(count)
    return 0


def _read(file: str) -> bytes:
    """Read a file of the kernel's: of each agent several are read every few seconds."""
    with open(file, "rb", buffering=0) as raw:  # noqa: PTH123 - pathlib costs as much as the kernel
        return raw.read()


def run_groups(root: Path) -> Iterator[RunGroup]:
    """List the groups of runs below a root."""
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(root)):  # noqa: PTH208 - asked every second
            program, _, pid = name.rpartition(".")
            # a file of the kernel's is never called so
            if program and pid.isdecimal():
                yield RunGroup(root / name, program, int(pid))


def is_over(group: RunGroup) -> bool:
    """Tell whether the run of a group has ended: its main process is gone, or is another one."""
    if group.pid in pids_in(group.directory):
        return False
    try:
        age = time.time() - group.directory.stat().st_mtime
    except OSError:
        return True
    return age > _JOIN_SECONDS or not Path("/proc", str(group.pid)).exists()


def remove_group(directory: Path) -> bool:
    """End what is left in a group, and remove it.

    Returns:
        False when a process in it lives on: it hangs in the kernel, or its uid is not ours to end.
    """
    deadline = time.monotonic() + _END_SECONDS
    is_asked = False
    while True:
        try:
            directory.rmdir()  # first of all: mostly nothing is left
        except FileNotFoundError:
            return True
        except OSError:
            if time.monotonic() > deadline:
                return False
            if is_asked:  # a process that was killed leaves its group a moment later
                time.sleep(_LOOK_SECONDS)
            _kill(directory)
            is_asked = True
        else:
            return True


def remove_roots(roots: Iterable[Path]) -> None:
    """Remove a server's groups with everything in them; only when no agent is to live on."""
    for root in roots:
        with contextlib.suppress(OSError):
            for directory in root.iterdir():
                if directory.is_dir():
                    remove_group(directory)
        remove_group(root)


def read_roots(path: Path) -> tuple[Path, ...]:
    """Read where a server has made groups."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return ()
    return tuple(map(Path, lines))


def remove_leftover_groups(state: StateDir) -> None:
    """Remove the groups of a server that is gone, with everything in them.

    Only whoever holds the state directory's lock may call this, while no supervisord of that
    directory lives.
    """
    ours = mark(state.root)
    remove_roots(root for root in read_roots(state.group_roots) if root.name == ours)
    state.group_roots.unlink(missing_ok=True)


def _kill(directory: Path) -> None:
    """End every process of a group; cgroup2 does it in one go, also while they fork."""
    with contextlib.suppress(OSError):
        (directory / "cgroup.kill").write_text("1")
        return
    for pid in pids_in(directory):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
