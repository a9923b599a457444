"""Scripts and styles of the pages: files of ours, the same for everybody."""

from __future__ import annotations

import hashlib
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Final

import falcon

from deployer.api.operations import operation
from deployer.errors import RouteUnknownError

_FOLDER: Final = Path(__file__).parent / "assets"
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
PREFIX: Final = "/-/assets/"
"""What their addresses begin with; ``-`` can be no agent's name."""

NAMES: Final = tuple(sorted(each.name for each in _FOLDER.iterdir()))


class Assets:
    """All of them, at ``/-/assets/{name}``."""

    @operation(
        "Read a part of the pages",
        {HTTPStatus.OK: tuple(_TYPES.values()), HTTPStatus.NOT_MODIFIED: None},
        scope=None,
        problems=(RouteUnknownError,),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Give one, unless the browser has the very same."""
        if name not in NAMES:
            raise RouteUnknownError(
                f"cannot find {req.path}: pages have no such part", cause="no such part of a page"
            )
        path = _FOLDER / name
        data, tag = _read(path)
        resp.etag = tag
        resp.cache_control = ("no-cache",)  # asked for each time, sent after an upgrade
        if req.if_none_match is not None and tag in req.if_none_match:
            resp.status = HTTPStatus.NOT_MODIFIED
            return
        resp.content_type = _TYPES[path.suffix]
        resp.data = data


@cache
def _read(path: Path) -> tuple[bytes, str]:
    data = path.read_bytes()
    return data, hashlib.sha256(data).hexdigest()[:32]
