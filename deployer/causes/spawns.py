"""Why supervisord could not even start a process: what it says, in the words of the machine."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Final

from deployer.causes.nouns import Cause

_NO_LOG: Final = re.compile(r"making dispatchers for '[^']*': (E[A-Z]+)")
_CODES: Final = {name: number for number, name in errno.errorcode.items()}


def explain_missing_logs(logs: Path) -> Cause | None:
    """Say that the directory of the agents' logs is gone; None when it is there."""
    if logs.is_dir():
        return None
    return Cause(
        f"the log directory {logs} is gone",
        f"make it again (mkdir -m 700 {logs}) and restart the server, whose own log went with it",
        "log-directory",
    )


def explain_spawn(message: str, logs: Path) -> Cause | None:
    """Say why supervisord could not start a process.

    Args:
        message: supervisord's own sentence.
        logs: The directory of the agents' logs.

    Returns:
        The cause; None when the sentence says enough by itself. Its code is ``log-directory`` or
        ``disk-full``.
    """
    found = _NO_LOG.search(message)
    if found is None:
        return None
    number = _CODES.get(found[1], 0)
    if number in {errno.ENOSPC, errno.EDQUOT}:
        return Cause(
            f"disk full: no log can be opened in {logs}",
            "free space, or inodes, there, and start the agent again",
            "disk-full",
        )
    if (gone := explain_missing_logs(logs)) is not None:
        return gone
    return Cause(
        f"no log can be opened in {logs}: {os.strerror(number) if number else found[1]}",
        "supervisord must be able to write there: see its owner and mode, and the disk",
        "log-directory",
    )
