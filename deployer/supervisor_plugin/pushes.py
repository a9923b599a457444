"""States on their way to the API: a datagram for each change, for whoever listens."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Mapping


class Pushes:
    """A socket that never blocks and never fails: now and then the API reads all states anyway."""

    def __init__(self, path: str) -> None:
        """Send to the datagram socket at path, whenever somebody has bound it; empty: never."""
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0)

    def send(self, document: Mapping[str, object]) -> None:
        """Send a process's state as JSON, or drop it."""
        if self._path:
            with contextlib.suppress(OSError):
                self._socket.sendto(json.dumps(document).encode(), self._path)

    def close(self) -> None:
        """Send nothing any more."""
        self._path = ""
        self._socket.close()
