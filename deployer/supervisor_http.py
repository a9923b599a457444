"""Single requests to supervisord's HTTP server, over a Unix socket or TCP.

By the standard library alone: requests and what it brings take 5 MiB of a process that asks nobody
else, and several times as long for a call. Head and body go in one piece, so that supervisord,
which has one thread, need not turn to a request twice.
"""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote, urlsplit

_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Page:
    """What supervisord answered.

    Attributes:
        status: Of HTTP; a redirect is not followed.
        headers: By their names, in any case.
        content: The body.
    """

    status: int
    headers: http.client.HTTPMessage
    content: bytes

    @property
    def is_error(self) -> bool:
        """Whether it is none of what was asked for."""
        return self.status >= HTTPStatus.BAD_REQUEST


class SupervisorHttp:
    """The way to one HTTP server; each request has a connection of its own, so from any thread.

    On a Unix socket keeping connections alive gains nothing, and stale ones cannot be met.
    """

    def __init__(self, url: str, username: str, password: str) -> None:
        """Remember the way; nothing is sent yet.

        Args:
            url: ``unix:///path/of/supervisor.sock`` or ``http://host:port``; no proxies are asked.
            username: What it asks for; empty: what the URL says, or nothing.
            password: Goes with it.
        """
        self._url = url
        self._path = url.removeprefix("unix://") if url.startswith("unix://") else None
        self._login = f"{username}:{password}" if username else ""

    def ask(
        self,
        target: str,
        body: bytes | None = None,
        *,
        connect_seconds: float,
        answer_seconds: float,
    ) -> Page:
        """Send a GET, or with a body a POST of XML, and read the answer to its end.

        Args:
            target: Path and query, encoded already, without the slash at the beginning.
            body: What is posted.
            connect_seconds: For connecting.
            answer_seconds: For each pause of the answer.

        Raises:
            OSError: No connection, or a pause that lasted too long.
            http.client.HTTPException: The answer is no HTTP, or the URL none of such a server.
        """
        method = "GET" if body is None else "POST"
        request = f"{method} {self._head(target, body)}\r\n\r\n".encode("latin-1") + (body or b"")
        with self._connect(connect_seconds) as connection:
            connection.settimeout(answer_seconds)
            connection.sendall(request)
            with http.client.HTTPResponse(connection, method=method) as response:
                response.begin()
                return Page(response.status, response.headers, response.read())

    def _head(self, target: str, body: bytes | None) -> str:
        root, host, login = "", "localhost", self._login
        if self._path is None:
            parts = urlsplit(self._url)
            root, host = parts.path.rstrip("/"), parts.netloc.rpartition("@")[2]
            if not login and parts.username:
                login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        lines = [f"{root}/{target} HTTP/1.1", f"Host: {host}", "Connection: close"]
        if login:
            lines.append(f"Authorization: Basic {base64.b64encode(login.encode()).decode()}")
        if body is not None:
            lines += ["Content-Type: text/xml", f"Content-Length: {len(body)}"]
        return "\r\n".join(lines)

    def _connect(self, seconds: float) -> socket.socket:
        if self._path is None:
            return _connect_by_tcp(self._url, seconds)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(seconds)
            connection.connect(self._path)
        except BaseException:
            connection.close()
            raise
        return connection


def _connect_by_tcp(url: str, seconds: float) -> socket.socket:
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port or _PORTS[parts.scheme]
    except (KeyError, ValueError) as error:
        raise http.client.InvalidURL(
            f"neither unix:///PATH nor http://HOST:PORT: {error}"
        ) from None
    connection = socket.create_connection((host, port), seconds)
    if parts.scheme == "http":
        return connection
    return ssl.create_default_context().wrap_socket(connection, server_hostname=host)
