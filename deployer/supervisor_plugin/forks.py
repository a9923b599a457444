"""Children of supervisord that are the launcher, without executing it first.

What supervisord has forked is a Python with the launcher already in memory. To start another one
for it takes 12 to 20 ms of a core, the greater part of all that a start costs beside the agent.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

from deployer import kernel, landlock, launcher, resource_limits, sandboxes

_FIRST_DESCRIPTOR: Final = 3
_OPEN_FILES: Final = Path("/proc/self/fd")
_SOURCES: Final = [
    str(Path(str(each.__file__)).resolve())
    for each in (launcher, kernel, landlock, resource_limits, sandboxes)
]
_COMMAND: Final = [sys.executable, "-I", "-S", _SOURCES[0]]

_Execute = Callable[[str, list[str], dict[str, str]], NoReturn]
_Stamp = tuple[int, int, int]


def launch_in_forks(options: Any) -> None:
    """Have supervisord's children that are to execute the launcher be the launcher.

    Should its files be others by then, as after an upgrade, they are executed as the config says.

    Args:
        options: supervisord's, by which its children execute programs.
    """
    execute: _Execute = options.execve
    stamps = _stamps()

    def execute_or_launch(filename: str, argv: list[str], variables: dict[str, str]) -> None:
        if argv[: len(_COMMAND)] == _COMMAND and _stamps() == stamps:
            gc.disable()  # what it looks at would have to be copied, and is gone in a moment
            try:
                launcher.main(argv[len(_COMMAND) :])
            except SystemExit as end:
                os._exit(end.code if isinstance(end.code, int) else 1)
        execute(filename, argv, variables)

    options.execve = execute_or_launch


def close_descriptors(options: Any, *, but: int = 0) -> None:
    """Close what a child of supervisord has inherited beside its standard streams.

    All of it: until it executes the agent it would keep pipes of other agents open.

    Args:
        options: supervisord's, which know how many there are where the system does not tell.
        but: How many after the standard streams stay open.
    """
    try:
        end = 1 + max(int(each.name) for each in _OPEN_FILES.iterdir())
    except OSError:
        end = options.minfds
    os.closerange(_FIRST_DESCRIPTOR + but, end)


def _stamps() -> list[_Stamp] | None:
    """Give what changes when a file of the launcher's is replaced; None: one is not there."""
    try:
        return [
            (status.st_ino, status.st_size, status.st_mtime_ns) for status in map(os.stat, _SOURCES)
        ]
    except OSError:
        return None
