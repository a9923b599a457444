"""Calls about keys and the audit: who may do what, and who did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deployer.client import nouns
from deployer.client.calls.asking import PAGE, Asking, path_of

if TYPE_CHECKING:
    from collections.abc import Sequence


class KeyCalls(Asking):
    """What may be asked about keys and those who hold them."""

    def create_key(
        self,
        name: str,
        *,
        scope: str = "read",
        agents: Sequence[str] = ("*",),
        expires_in_days: float | None = None,
        key: str | None = None,
    ) -> nouns.Key:
        """Make an API key; its text is in the answer, this once.

        Args:
            name: What it is for.
            scope: read, operate, deploy or admin; each includes those before it.
            agents: Patterns of the agents for which that holds.
            expires_in_days: How long it lasts; None: until it is revoked.
            key: The Idempotency-Key, for who may ask again after their own death; None: a new one.

        Raises:
            ScopeMissingError: It takes an admin key to make one.
        """
        media: dict[str, Any] = {"name": name, "scope": scope, "agents": list(agents)}
        if expires_in_days is not None:
            media["expires_in_days"] = expires_in_days
        return nouns.Key.read(self._act("/v1/keys", media=media, key=key))

    def keys(self) -> list[nouns.Key]:
        """List API keys, without their texts."""
        return self._list(nouns.Key, "/v1/keys", "keys")

    def key(self, key_id: str) -> nouns.Key:
        """Look at one key, without its text.

        Raises:
            KeyUnknownError: There is none of this id.
        """
        return nouns.Key.read(self._get(path_of("keys", key_id)))

    def revoke_key(self, key_id: str) -> None:
        """Let nobody in with a key from now on.

        Raises:
            KeyUnknownError: There is none of this id.
        """
        self._session.call("DELETE", path_of("keys", key_id))

    def audit(
        self, *, agent: str | None = None, who: str | None = None, limit: int = PAGE
    ) -> list[nouns.AuditEntry]:
        """List who did what, the newest first, at most limit entries.

        Args:
            agent: Only what concerns this agent.
            who: Only what they did, such as ``key:ID``.
            limit: How many.
        """
        return self._list(
            nouns.AuditEntry, "/v1/audit", "entries", limit=limit, agent=agent, who=who
        )
