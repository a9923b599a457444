"""Processes that outlived the supervisord that started them: found by their marker, and ended."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Final

import psutil

from deployer.state_dir import MARKER

_END_SECONDS: Final = 5.0


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
