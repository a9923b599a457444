"""Patterns of agents' names: for whom a key vouches, whom a secret is for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated, Final

from pydantic import Field

AGENT_PATTERN: Final = re.compile(r"[A-Za-z0-9._*?-]{1,63}")
"""What a pattern may be, for ``fullmatch``: a name in which ``*`` and ``?`` stand for others.

Without brackets, so that SQLite's GLOB and `fnmatch.fnmatchcase` understand it alike.
"""

EVERY_AGENT: Final = ("*",)

AgentPattern = Annotated[str, Field(pattern=f"^{AGENT_PATTERN.pattern}$")]
"""A pattern, as settings and requests hold it."""


def is_meant(agent: str, patterns: Iterable[str]) -> bool:
    """Tell whether any of the patterns means an agent."""
    return any(fnmatchcase(agent, pattern) for pattern in patterns)
