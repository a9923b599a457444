"""A secret, as a frozen noun."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from deployer.client.answers import TEXTS, TIME, Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret(Answer):
    """A secret, without its value.

    Attributes:
        name: What manifests call it.
        agents: Patterns of the agents that may use it.
        created_at: When it was first set.
        changed_at: When it was last set.
        problem: Why the server cannot read it; empty when it can.
    """

    name: str
    agents: tuple[str, ...] = field(default=(), metadata=TEXTS)
    created_at: datetime | None = field(default=None, metadata=TIME)
    changed_at: datetime | None = field(default=None, metadata=TIME)
    problem: str = ""
