"""Paths, hosts and URLs as settings hold them."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, Field


def absolute(path: Path) -> Path:
    """Make a path absolute and free of symlinks, with ``~`` put in.

    Raises:
        ValueError: It holds control characters, which would end a line of a program config, or
            it leads nowhere: a home of nobody, symlinks in a circle.
    """
    if any(ord(character) < ord(" ") for character in str(path)):
        raise ValueError("must be a path without control characters")
    try:
        return path.expanduser().resolve()
    except RuntimeError as error:
        raise ValueError(f"must be a path that leads somewhere: {error}") from error


def plain(text: str) -> str:
    """Give text back that has neither spaces nor control characters.

    Raises:
        ValueError: It has some.
    """
    if not text.isprintable() or any(character.isspace() for character in text):
        raise ValueError("must be text without spaces and control characters")
    return text


AbsolutePath = Annotated[Path, AfterValidator(absolute)]
"""A path, made absolute and free of symlinks, with ``~`` put in."""

Address = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(plain)]
"""A host name or an IP address."""

UNIX: Final = "unix:"
_LONGEST_SOCKET: Final = 107
"""Bytes of a Unix socket's path: sockaddr_un has 108, with the NUL at the end (unix(7))."""


def listening(text: str) -> str:
    """Give back what the API may listen on: a host, or ``unix:`` and an absolute path.

    Raises:
        ValueError: The path is not one that a socket can have.
    """
    path = socket_path(plain(text))
    if path is not None and (not path.is_absolute() or len(bytes(path)) > _LONGEST_SOCKET):
        raise ValueError(
            f"must be unix: and an absolute path of at most {_LONGEST_SOCKET} bytes,"
            f" not {text[:120]!r}"
        )
    return text


def socket_path(host: str) -> Path | None:
    """Find the Unix socket that a host means; None: it is an address."""
    return Path(host.removeprefix(UNIX)) if host.startswith(UNIX) else None


Listening = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(listening)]
"""A host name, an IP address, or ``unix:/PATH``."""

Url = Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(plain)]
"""An address; which schemes make sense decides whoever opens it."""


def without_login(url: str) -> str:
    """Give an address without user and password, to be shown."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address, judged without asking any DNS."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or socket_path(host) is not None
