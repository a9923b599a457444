"""How documents become responses."""

from __future__ import annotations

import falcon
from pydantic import BaseModel


def write(resp: falcon.Response, document: BaseModel) -> None:
    """Make a response a document, as JSON."""
    resp.content_type = falcon.MEDIA_JSON
    resp.data = document.model_dump_json().encode()
