"""The answer to one HTTP/1 request on a connection of its own: status, headers, start of the body.

`http.client` reads the same by way of the parser for mail, which took half of what a health check
costs. With hundreds of agents there are dozens of them a second. What cannot be read raises what
`http.client` would raise.
"""

from __future__ import annotations

import http.client
from io import BufferedReader
from typing import Final

_LINE_BYTES: Final = 64 * 1024
_MOST_HEADERS: Final = 100
_DIGITS: Final = 3
_BODILESS: Final = frozenset({http.client.NO_CONTENT, http.client.NOT_MODIFIED})


def read_head(stream: BufferedReader) -> tuple[int, dict[str, str]]:
    """Read the final status and its headers; those that only say to go on are passed over.

    Returns:
        The status, and the first value of each header by its name in lower case.

    Raises:
        http.client.RemoteDisconnected: The connection ended before the answer began.
        http.client.HTTPException: It is not HTTP/1.
    """
    while True:
        status, headers = _read_status(stream), _read_headers(stream)
        if status != http.client.CONTINUE:
            return status, headers


def read_body(stream: BufferedReader, status: int, headers: dict[str, str], most: int) -> bytes:
    """Read a body as far as it is wanted.

    Args:
        stream: Right behind the head.
        status: From `read_head`.
        headers: The same.
        most: So many bytes.

    Raises:
        http.client.IncompleteRead: It comes in chunks and ends within one.
    """
    if status < http.client.OK or status in _BODILESS:
        return b""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _read_chunks(stream, most)
    try:
        length = int(headers.get("content-length", most))
    except ValueError:  # no number, or one of thousands of digits
        length = most
    return stream.read(min(most, length) if length >= 0 else most)


def _read_line(stream: BufferedReader) -> bytes:
    line = stream.readline(_LINE_BYTES + 1)
    if len(line) > _LINE_BYTES:
        raise http.client.LineTooLong("line")
    return line


def _read_status(stream: BufferedReader) -> int:
    line = _read_line(stream)
    if not line:
        raise http.client.RemoteDisconnected("no answer")
    version, status, *_ = (*line.split(None, 2), b"", b"")
    if not (version.startswith(b"HTTP/1.") and len(status) == _DIGITS and status.isdigit()):
        raise http.client.BadStatusLine(repr(line))
    return int(status)


def _read_headers(stream: BufferedReader) -> dict[str, str]:
    headers: dict[str, str] = {}
    for _ in range(_MOST_HEADERS + 1):
        line = _read_line(stream)
        if line in {b"\r\n", b"\n", b""}:
            return headers
        name, _, value = line.decode("latin-1").partition(":")
        headers.setdefault(name.lower(), value.strip())
    raise http.client.HTTPException(f"more than {_MOST_HEADERS} headers")


def _read_chunks(stream: BufferedReader, most: int) -> bytes:
    body = b""
    while len(body) < most:
        size = _chunk_bytes(_read_line(stream))
        if size == 0:
            break
        wanted = min(size, most - len(body))
        piece = stream.read(wanted)
        body += piece
        if len(piece) < wanted:
            raise http.client.IncompleteRead(body)
        if wanted == size:
            stream.readline(_LINE_BYTES)  # what ends a chunk
    return body


def _chunk_bytes(line: bytes) -> int:
    try:
        size = int(line.partition(b";")[0], 16)
    except ValueError:
        size = -1
    if size < 0:
        raise http.client.IncompleteRead(b"")
    return size
