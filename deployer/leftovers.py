"""Processes that outlived the supervisord that started them: found by their marker, and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import psutil

from deployer.state_dir import MARKER, StateDir

_END_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.01

_END_ALL: Final = """
import os, sys
uid = int(sys.argv[1])
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
os.kill(-1, 9)
"""
"""Ends all that its user may end, which is all that is the user's, but itself."""


def find_leftovers(root: Path) -> list[psutil.Process]:
    """Find the processes that carry the marker of a state directory, without this one itself.

    Args:
        root: The state directory, as in the marker.

    Returns:
        Those that we may look into.
    """
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(MARKER) == str(root):
                found.append(process)
    return found


def end_leftovers(root: Path) -> list[int]:
    """End what outlived its supervisord, each with its process group if that is its own.

    Only whoever holds the state directory's lock may call this: a marked process is an orphan only
    while no supervisord of that directory lives.

    Returns:
        The pids of what was found.
    """
    leftovers = find_leftovers(root)
    marked = {process.pid for process in leftovers}
    for process in leftovers:
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            group = os.getpgid(process.pid)
            if group not in {os.getpgrp(), 0, 1}:
                _end_group(group, process, marked)
            process.kill()
    psutil.wait_procs(leftovers, timeout=_END_SECONDS)
    return [process.pid for process in leftovers]


def _end_group(group: int, process: psutil.Process, marked: set[int]) -> None:
    """End the group of a marked process, which may have joined one that is not its own.

    So the leader must be marked as well. If it has ended, as agents do with their supervisord,
    those of the same user are ended: none that the process could not have ended itself.
    """
    if group in marked:
        os.killpg(group, signal.SIGKILL)
    elif _has_ended(group):
        user = process.uids().real
        for each in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getpgid(each.pid) == group and each.uids().real == user:
                    each.kill()


def _has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def end_processes_of(uid: int, root: Path) -> list[int]:
    """End every process of an agent's own user, wherever it has hidden.

    Leaving its process group and its variables behind gets no process away from its uid.

    Args:
        uid: Of an agent of which nothing may run.
        root: The state directory. Should another server have given the same number to an agent of
            its own, whose processes carry its marker, those are left alone; not where variables of
            others cannot be read (root without CAP_SYS_PTRACE): what escapes would live on.

    Returns:
        The pids of what was found at first.
    """
    found = _processes_of(uid, root)
    left, deadline = found, time.monotonic() + _END_SECONDS
    while left and time.monotonic() < deadline:
        if len(left) == len(_processes_of(uid)):  # all of them are ours: none slips away by a fork
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(  # noqa: S603 - our own words
                    [sys.executable, "-I", "-S", "-c", _END_ALL, str(uid)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    timeout=_END_SECONDS,
                    check=False,  # it may find none left, or be ended itself by one that is
                )
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_LOOK_SECONDS)
        left = _processes_of(uid, root)
    return found


def has_processes(uid: int) -> bool:
    """Tell whether anything on this machine runs as a user."""
    return bool(_processes_of(uid))


def _processes_of(uid: int, root: Path | None = None) -> list[int]:
    """List the live processes of a user, but for those with the marker of another server.

    /proc/PID itself may belong to root: a process can close itself to its own user. So each status
    is read, some milliseconds in all, unless the kernel says at once that there is no such process.
    """
    found: list[int] = []
    try:
        os.getpriority(os.PRIO_USER, uid)
    except ProcessLookupError:
        return found
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            status = Path(entry.path, "status").read_bytes()
            if b"\nUid:\t%d\t" % uid not in status or b"\nState:\tZ" in status:
                continue
            if root is None or not _is_of_another_server(_markers_of(entry.path), uid, root):
                found.append(int(entry.name))
    return found


def _markers_of(process: str) -> list[bytes]:
    """Read which servers a process says it is of; none where its variables are closed to us.

    Raises:
        OSError: It is gone.
    """
    try:
        variables = Path(process, "environ").read_bytes()
    except PermissionError:
        return []
    return [each for each in variables.split(b"\0") if each.startswith(f"{MARKER}=".encode())]


def _is_of_another_server(markers: list[bytes], uid: int, root: Path) -> bool:
    """Tell whether a process is another server's, which must have given it its user.

    A process can write any marker into its variables; what lies in a server's own directories is
    that server's word.
    """
    if len(markers) != 1:
        return False
    try:
        other = Path(os.fsdecode(markers[0].partition(b"=")[2])).resolve()
        if other == root.resolve():
            return False
        state = StateDir(other)
        owners = {path.lstat().st_uid for path in (state.root, state.agents, state.builds)}
        homes = (*state.agents.glob("*/data"), state.builds / "site" / "home")
        return owners == {os.geteuid()} and any(_is_owned(home, uid) for home in homes)
    except (OSError, ValueError, RuntimeError):
        return False


def _is_owned(path: Path, uid: int) -> bool:
    with contextlib.suppress(OSError):
        return path.lstat().st_uid == uid
    return False
