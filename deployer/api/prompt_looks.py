"""Requests that the thread which reads them answers itself, instead of handing them to another one.

Handing over costs more than answering what lies in memory: two threads wake each other for it, and
compete for the interpreter. But that thread serves every connection, so it must never wait: not for
the database, not for a lock that somebody holds for long, not for a client. What is not known to be
so cheap goes the usual way, through the same application.
"""

from __future__ import annotations

import re
from typing import Any, Final

from deployer.agents import Agents
from deployer.api.callers import Callers

_OPEN: Final = frozenset({("GET", "/livez"), ("GET", "/health")})
_LOOKS: Final = frozenset({("GET", "/agents"), ("POST", "/check")})
_PLAIN_QUERY: Final = re.compile(r"(?:checksum=[0-9A-Fa-f]*)?")
"""``start`` acts, in whatever spelling: also where letters of the name are percent-encoded."""

_JUDGED: Final = ("ORIGIN", "REFERER", "SEC_FETCH_SITE")
"""Headers for which a request may be refused; refusals are written down."""


class PromptLooks:
    """Tells which requests are answered at once."""

    def __init__(self, callers: Callers, agents: Agents) -> None:
        """Know what is cheap.

        Args:
            callers: Tells who sends a request.
            agents: What is looked at.
        """
        self._callers = callers
        self._agents = agents

    def judge(self, request: Any) -> bool:
        """Tell whether a request is answered out of memory, and cannot be refused.

        Args:
            request: Whole, as waitress' parser has read it.
        """
        if request.error or request.chunked or request.content_length or request.expect_continue:
            return False
        if not self._callers.asks_for_keys:
            return False  # then the Host header decides who gets in, and the gate judges that
        what, headers = (request.command, request.path), request.headers
        if what in _OPEN:
            return True
        return (
            what in _LOOKS
            and _PLAIN_QUERY.fullmatch(request.query) is not None
            and not any(name in headers for name in _JUDGED)
            and self._agents.has_new_standings()
            and self._callers.remembers(
                headers.get("AUTHORIZATION", ""), headers.get("X_API_KEY", "")
            )
        )
