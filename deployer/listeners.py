"""The Unix socket that the API listens on."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path


def bind_socket(path: Path, mode: str) -> socket.socket:
    """Bind a Unix socket, in the place of one that nobody listens on any more.

    Nobody can connect before somebody listens, so there is no moment in which more than mode says
    may.

    Args:
        path: Where; the directory must be there.
        mode: Of the socket, in octal digits.

    Returns:
        A socket that does not listen yet.

    Raises:
        OSError: Something else lies there, somebody listens, or the directory cannot be written.
    """
    if path.exists():
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise FileExistsError(errno.EEXIST, "something that is no socket lies there", str(path))
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
            else:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), str(path))
    bound = socket.socket(socket.AF_UNIX)
    try:
        bound.bind(str(path))
        path.chmod(int(mode, 8))
    except OSError:
        bound.close()
        raise
    return bound
