"""Places where a test may have this process killed: after every write and every outside act.

Off unless the variable ``ATOLL_FAULT_POINTS`` names a file. While that file is there, each place
that a deployment or an act reaches is appended to ``FILE.trace``; at the place whose number stands
in the file's first line, that line is removed, with the last one the file, and the process kills
itself by SIGKILL, as the kernel or an operator might at just that moment. Where ``supervisord``
follows the number, it is this process's parent that is killed, and this one goes on for as long as
it has not noticed; where ``everything`` does, both are. Where ``recovery`` follows it, the places
are those that a new process reaches while it sets right what the last one left.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Final

VARIABLE: Final = "ATOLL_FAULT_POINTS"

_THREADS: Final = ("deployment", "act")
_RECOVERY: Final = "recovery"
_guard: Final = threading.Lock()
_count = 0
_armed_at = 0


def reach(place: str) -> None:
    """Tell that something was just written or done; dies here if a test wants it so.

    Args:
        place: A dotted name, such as ``programs.write``.
    """
    path, thread = os.environ.get(VARIABLE), threading.current_thread().name
    if path is None or not thread.startswith((*_THREADS, _RECOVERY)):
        return
    with _guard:
        _count_up(Path(path), place, is_recovery=thread == _RECOVERY)


def _count_up(path: Path, place: str, *, is_recovery: bool) -> None:
    global _count, _armed_at  # noqa: PLW0603 - one process, one count
    try:
        armed_at = path.stat().st_mtime_ns
        first, *later = path.read_text(encoding="ascii").splitlines()
        number, *words = first.split()
        deadly = int(number)
    except (FileNotFoundError, ValueError):
        return
    if is_recovery != (_RECOVERY in words):
        return
    if armed_at != _armed_at:
        _count, _armed_at = 0, armed_at
    _count += 1
    with path.with_name(f"{path.name}.trace").open("a", encoding="utf-8") as trace:
        trace.write(f"{place}\n")
    if _count == deadly:
        if later:
            path.write_text("\n".join(later), encoding="ascii")
        else:
            path.unlink()
        if "supervisord" in words or "everything" in words:
            os.kill(os.getppid(), signal.SIGKILL)
        if "supervisord" not in words:
            os.kill(os.getpid(), signal.SIGKILL)
