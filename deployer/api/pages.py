"""Pages for people: how they are made.

Nothing is fetched from elsewhere, and no script runs that does not come from here in a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import falcon
import jinja2

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
