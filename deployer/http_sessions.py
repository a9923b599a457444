"""requests to servers that listen on a Unix socket, or on a port like all others."""

from __future__ import annotations

import socket
from typing import Any, Final

import requests
import urllib3
from requests.adapters import HTTPAdapter

_HOST: Final = "localhost"
_NOWHERE: Final = f"http://{_HOST}"


def http_url(url: str) -> str:
    """Spell the root of a server's HTTP for a session out of `open_session`."""
    return _NOWHERE if url.startswith("unix://") else url.rstrip("/")


def open_session(url: str) -> requests.Session:
    """Open a session that reaches a server at a ``unix://`` or ``http://`` URL; no proxies."""
    session = requests.Session()
    session.trust_env = False
    if url.startswith("unix://"):
        session.mount(_NOWHERE, UnixAdapter(url.removeprefix("unix://")))
    return session


class UnixAdapter(HTTPAdapter):
    """Sends requests to a Unix socket, whatever host they name."""

    def __init__(self, path: str) -> None:
        """Connect to path."""
        super().__init__()
        self._pool = _UnixPool(path)

    def get_connection_with_tls_context(self, *_args: Any, **_kwargs: Any) -> _UnixPool:
        """Give the one pool there is; requests asks here since 2.32."""
        return self._pool

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()
        super().close()


class _UnixPool(urllib3.HTTPConnectionPool):
    def __init__(self, path: str) -> None:
        super().__init__(_HOST)
        self._path = path

    def _new_conn(self) -> _UnixConnection:
        return _UnixConnection(self._path)


class _UnixConnection(urllib3.connection.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__(_HOST)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout if isinstance(self.timeout, float | int) else None)
        self.sock.connect(self._path)
