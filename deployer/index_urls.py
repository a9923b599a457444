"""Addresses that dependencies come from, compared with those that are allowed."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote, urlsplit


def is_below(url: str, allowed: Sequence[str]) -> bool:
    """Tell whether an address is one of those allowed, or lies below one.

    Scheme, host and port must be the same, and the path must go on at a slash: what is allowed as
    ``https://a.example/team`` allows ``/team/simple`` and not ``/teammate``. A login in either does
    not count. An address with ``..`` in it lies nowhere: readers differ on what it means.

    Args:
        url: An address, or the path of a directory.
        allowed: The same.
    """
    if ".." in unquote(url).replace("\\", "/").split("/"):
        return False
    place = _place(url)
    return any(
        place[0] == base[0] and place[1].startswith(base[1]) for base in map(_place, allowed)
    )


def _place(url: str) -> tuple[tuple[str, str, int | None], str]:
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    return (parts.scheme, parts.hostname or "", port), f"{parts.path.rstrip('/')}/"
