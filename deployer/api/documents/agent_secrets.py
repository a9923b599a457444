"""How a secret is written: everything but its value."""

from __future__ import annotations

from datetime import datetime

from deployer import agent_secrets
from deployer.api.documents.shapes import Document


class Secret(Document):
    """A secret; its value is never told. The problem says why it cannot be read, if so."""

    name: str
    agents: list[str]
    created_at: datetime
    changed_at: datetime
    problem: str


class SecretList(Document):
    """Secrets by name."""

    secrets: list[Secret]
    count: int
    next: str | None


def secret(noun: agent_secrets.Secret) -> Secret:
    """Write a secret."""
    return Secret(
        name=noun.name,
        agents=list(noun.agents),
        created_at=noun.created_at,
        changed_at=noun.changed_at,
        problem=noun.problem,
    )
