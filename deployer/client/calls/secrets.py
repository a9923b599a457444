"""Calls about secrets: what agents are given at their start and nobody can read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deployer.client import nouns
from deployer.client.calls.asking import Asking, secret_path

if TYPE_CHECKING:
    from collections.abc import Sequence


class SecretCalls(Asking):
    """What may be asked about secrets."""

    def secrets(self) -> list[nouns.Secret]:
        """List secrets by name; nobody can read their values."""
        return self._list(nouns.Secret, "/v1/secrets", "secrets")

    def set_secret(
        self, name: str, value: str, *, agents: Sequence[str] | None = None
    ) -> nouns.Secret:
        """Set a secret, new or not; agents get it at their next start.

        Args:
            name: What manifests call it, in ``${secret:NAME}``.
            value: Its value.
            agents: Patterns of the agents that may use it; None: all.
        """
        media: dict[str, Any] = {"value": value}
        if agents is not None:
            media["agents"] = list(agents)
        return nouns.Secret.read(self._session.call("PUT", secret_path(name), media=media).document)

    def remove_secret(self, name: str) -> None:
        """Remove a secret; agents that refer to it do not start without it."""
        self._session.call("DELETE", secret_path(name))
