"""Places where a test may have this process killed: after every write and every outside act.

Off unless the variable ``ATOLL_FAULT_POINTS`` names a file. While that file is there, each place
that a deployment or an act reaches is appended to ``FILE.trace``; at the place whose number stands
in the file, the file is removed and the process kills itself by SIGKILL, as the kernel or an
operator might at just that moment. Where ``supervisord`` follows the number, it is this process's
parent that is killed, and this one goes on for as long as it has not noticed.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Final

VARIABLE: Final = "ATOLL_FAULT_POINTS"

_THREADS: Final = ("deployment", "act")
_guard: Final = threading.Lock()
_count = 0
_armed_at = 0


def reach(place: str) -> None:
    """Tell that something was just written or done; dies here if a test wants it so.

    Args:
        place: A dotted name, such as ``programs.write``.
    """
    path = os.environ.get(VARIABLE)
    if path is None or not threading.current_thread().name.startswith(_THREADS):
        return
    with _guard:
        _count_up(Path(path), place)


def _count_up(path: Path, place: str) -> None:
    global _count, _armed_at  # noqa: PLW0603 - one process, one count
    try:
        armed_at = path.stat().st_mtime_ns
        number, *victim = path.read_text(encoding="ascii").split()
        deadly = int(number)
    except (FileNotFoundError, ValueError):
        return
    if armed_at != _armed_at:
        _count, _armed_at = 0, armed_at
    _count += 1
    with path.with_name(f"{path.name}.trace").open("a", encoding="utf-8") as trace:
        trace.write(f"{place}\n")
    if _count == deadly:
        path.unlink()
        os.kill(os.getppid() if victim == ["supervisord"] else os.getpid(), signal.SIGKILL)
