"""Pages for people: how they are made, and the contract to read.

Nothing is fetched from elsewhere, and no script runs that does not come from here in a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import falcon
import jinja2

from deployer.api.operations import operation
from deployer.keys import Scope

_HERE: Final = Path(__file__).parent
_PAGES: Final = jinja2.Environment(
    loader=jinja2.FileSystemLoader([_HERE / "templates", _HERE / "dashboard" / "templates"]),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def render(template: str, values: Mapping[str, Any]) -> str:
    """Write a page or a part of one; every value in it is text, whatever it looks like."""
    return _PAGES.get_template(template).render(values)


def show(resp: falcon.Response, template: str, **values: Any) -> None:
    """Make a response a page."""
    resp.content_type = falcon.MEDIA_HTML
    resp.text = render(template, values)
    resp.set_header("Cache-Control", "no-store")
    resp.set_header("Content-Security-Policy", _POLICY)
    resp.set_header("Referrer-Policy", "same-origin")
    resp.set_header("X-Content-Type-Options", "nosniff")


class Docs:
    """The contract as a page, at ``/docs``."""

    def __init__(self, contract: Callable[[], Mapping[str, Any]]) -> None:
        """Show the OpenAPI document that contract makes."""
        self._contract = contract

    @operation(
        "Read this contract as a page",
        {HTTPStatus.OK: "text/html"},
        is_filtered=True,
        scope=Scope.READ,
    )
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Show every operation with what it takes and answers."""
        groups: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
        document = self._contract()
        for path, methods in document["paths"].items():
            for method, described in methods.items():
                groups.setdefault(described["tags"][0], []).append(
                    (method.upper(), path, described)
                )
        show(resp, "docs.html.j2", document=document, groups=groups)
