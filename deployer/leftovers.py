"""Processes that outlived the supervisord that started them: found by their marker, and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final

import psutil

from deployer.state_dir import MARKER

_END_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.01


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
    """End what outlived its supervisord, each with its process group.

    Only whoever holds the state directory's lock may call this: a marked process is an orphan only
    while no supervisord of that directory lives.

    Returns:
        The pids of what was found.
    """
    leftovers = find_leftovers(root)
    for process in leftovers:
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            group = os.getpgid(process.pid)
            if group not in {os.getpgrp(), 0, 1}:
                os.killpg(group, signal.SIGKILL)
            process.kill()
    psutil.wait_procs(leftovers, timeout=_END_SECONDS)
    return [process.pid for process in leftovers]


def end_processes_of(uid: int, root: Path) -> list[int]:
    """End every process of a user that is one of ours, wherever it has hidden.

    Leaving its process group and its variables behind gets no process away from its uid.

    Args:
        uid: A user of which nothing may run.
        root: The state directory. Processes that carry the marker of another are left alone.

    Returns:
        The pids of what was found at first.
    """
    found = _processes_of(uid, root)
    left, deadline = found, time.monotonic() + _END_SECONDS
    while left and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(_LOOK_SECONDS)
        left = _processes_of(uid, root)
    return [process.pid for process in found]


def _processes_of(uid: int, root: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.uids().real == uid and process.status() != psutil.STATUS_ZOMBIE:
                marker = process.environ().get(MARKER, str(root))
                found += [process] if marker == str(root) else []
    return found
