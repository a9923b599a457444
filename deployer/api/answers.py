"""How documents become responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import falcon
from pydantic import BaseModel

Source = TypeVar("Source")


def write(resp: falcon.Response, document: BaseModel) -> None:
    """Make a response a document, as JSON."""
    write_json(resp, document.model_dump_json().encode())


def write_json(resp: falcon.Response, data: bytes) -> None:
    """Make a response out of a document that is written already."""
    resp.content_type = falcon.MEDIA_JSON
    resp.data = data


class Rendering(Generic[Source]):
    """The bytes that were made last, kept as long as what they were made of is the very same."""

    def __init__(self, make: Callable[[Source], BaseModel]) -> None:
        """Write what make makes."""
        self._make = make
        self._last: tuple[Source, bytes] | None = None

    def of(self, source: Source) -> bytes:
        """Give the JSON of a source that nobody changes, such as a tuple of frozen nouns."""
        last = self._last
        if last is not None and last[0] is source:
            return last[1]
        data = self._make(source).model_dump_json().encode()
        self._last = source, data
        return data
