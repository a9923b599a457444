"""Who may do what: scopes, the agents that they hold for, keys, and those who call.

A key's text is ``atoll_ID_SECRET``. The id is no secret: logs, the audit and people name keys by
it. The secret has 256 random bits, so what is kept of a key is its plain SHA-256: slow hashes and
salts make guessing a person's password dear, and nobody guesses this; they would only make every
request dear.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from deployer.agent_patterns import EVERY_AGENT, is_meant

SHORTEST_TEXT: Final = 32
"""Fewer characters than this are no random secret, whoever wrote them."""

_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32
_TEXT: Final = re.compile(r"atoll_(?P<id>[0-9a-f]{12})_[A-Za-z0-9_-]{43}")


class Scope(StrEnum):
    """How much somebody may do; each includes those before it.

    The order of the members is the order of the scopes.
    """

    READ = "read"  # look
    OPERATE = "operate"  # start, stop, restart, kill
    DEPLOY = "deploy"  # decide which code runs: upload, deploy, roll back, remove
    ADMIN = "admin"  # keys and the audit

    def includes(self, other: Scope) -> bool:
        """Tell whether whoever has this scope may do what needs the other."""
        return _RANKS[self] >= _RANKS[other]


_RANKS: Final = {scope: rank for rank, scope in enumerate(Scope)}


@dataclass(frozen=True, slots=True)
class Key:
    """What is kept of an API key: never its text.

    Attributes:
        id: 12 hex digits, random, never given twice.
        name: What it is for, in its maker's words.
        scope: How much its holder may do.
        agents: Patterns of the agents for which that holds.
        digest: The SHA-256 of its text, in hex.
        created_at: When it was made.
        expires_at: From when on it is none any more; None: never.
        last_used_at: About when it last let somebody in; None: never yet.
        is_local: It lies in the state directory's file ``token``.
    """

    id: str
    name: str
    scope: Scope
    agents: tuple[str, ...]
    digest: str
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    is_local: bool = False

    def has_expired(self, moment: datetime) -> bool:
        """Tell whether it is none any more."""
        return self.expires_at is not None and self.expires_at <= moment


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request, and what they may do.

    Attributes:
        who: ``key:ID``, ``mtls:SUBJECT``, ``unix`` or ``none``, as the audit names them.
        name: The key's; empty for others.
        scope: How much they may do.
        agents: Patterns of the agents for which that holds.
        expires_at: When that ends; None: never.
    """

    who: str
    scope: Scope
    name: str = ""
    agents: tuple[str, ...] = EVERY_AGENT
    expires_at: datetime | None = None

    @property
    def sees_all(self) -> bool:
        """Whether no agent is hidden from them."""
        return "*" in self.agents

    def sees(self, agent: str) -> bool:
        """Tell whether an agent of this name is theirs to see and to act on."""
        return is_meant(agent, self.agents)


def new_text() -> str:
    """Make the text of a new key."""
    return f"atoll_{secrets.token_hex(_ID_BYTES)}_{secrets.token_urlsafe(_SECRET_BYTES)}"


def id_of(text: str) -> str:
    """Give the id in a key's text; for a text that somebody chose themselves, one out of its hash.

    Such a text may lie in the file ``token``.
    """
    match = _TEXT.fullmatch(text)
    return match["id"] if match else digest_of(f"id of {text}")[: 2 * _ID_BYTES]


def digest_of(text: str) -> str:
    """Hash a key's text to what is kept of it."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
