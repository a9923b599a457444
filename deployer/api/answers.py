"""How documents become responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import falcon
from pydantic import BaseModel

Source = TypeVar("Source")
Made = TypeVar("Made")


def write(resp: falcon.Response, document: BaseModel) -> None:
    """Make a response a document, as JSON."""
    write_json(resp, json_of(document))


def write_json(resp: falcon.Response, data: bytes) -> None:
    """Make a response out of a document that is written already."""
    resp.content_type = falcon.MEDIA_JSON
    resp.data = data


class Kept(Generic[Source, Made]):
    """What was made last, kept as long as what it was made of is the very same."""

    def __init__(self, make: Callable[[Source], Made]) -> None:
        """Give what make makes."""
        self._make = make
        self._last: tuple[Source, Made] | None = None

    def of(self, source: Source) -> Made:
        """Make it of a source that nobody changes, such as a tuple of frozen nouns."""
        last = self._last
        if last is not None and last[0] is source:
            return last[1]
        made = self._make(source)
        self._last = source, made  # at once: threads must not mix theirs
        return made


def json_of(document: BaseModel) -> bytes:
    """Write a document as JSON."""
    return document.model_dump_json().encode()
