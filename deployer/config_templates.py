"""The Jinja2 templates of supervisord's configuration files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import jinja2

_HERE: Final = Path(__file__).resolve().parent
_TEMPLATES: Final = jinja2.Environment(
    # inside the wheel; beside the package in a source tree
    loader=jinja2.FileSystemLoader(
        [_HERE / "supervisor_templates", _HERE.parent / "supervisor_templates"]
    ),
    undefined=jinja2.StrictUndefined,
    autoescape=False,  # noqa: S701 - INI, not HTML; what goes in is parsed back and compared
    trim_blocks=True,
    keep_trailing_newline=True,
)


def render(template: str, values: Mapping[str, object]) -> str:
    """Fill one of the templates in ``supervisor_templates``."""
    return _TEMPLATES.get_template(template).render(values)
