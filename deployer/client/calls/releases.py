"""Calls about releases: what an agent has run, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deployer.client import deploys, nouns
from deployer.client.calls.asking import ACT_SECONDS, DEPLOY_SECONDS, Asking, agent_path

if TYPE_CHECKING:
    from collections.abc import Callable

    OnProgress = Callable[[nouns.Step], None]


class ReleaseCalls(Asking):
    """What may be asked about an agent's releases."""

    def releases(self, name: str) -> list[nouns.Release]:
        """List an agent's releases."""
        return self._list(nouns.Release, agent_path(name, "releases"), "releases")

    def release(self, name: str, number: int) -> nouns.Release:
        """Look at one release.

        Raises:
            ReleaseUnknownError: The agent has none of this number.
        """
        return nouns.Release.read(self._get(agent_path(name, "releases", str(int(number)))))

    def rollback(
        self,
        name: str,
        *,
        to: int | None = None,
        wait_seconds: float = DEPLOY_SECONDS,
        on_progress: OnProgress | None = None,
        key: str | None = None,
    ) -> nouns.Deployed:
        """Put an earlier release live again and wait until it serves.

        Args:
            name: The agent's.
            to: The release's number; None: the one before the current.
            wait_seconds: For the whole deployment.
            on_progress: Is told of each change of a step.
            key: The Idempotency-Key, for who may ask again after their own death; None: a new one.

        Raises:
            WaitTimeoutError: It is not over after wait_seconds; it goes on.
            DeployerError: Why it failed, as `deploy` raises it.
        """
        media = {} if to is None else {"to": to}
        deployment = nouns.Deployment.read(
            self._act(agent_path(name, "rollback"), media=media, key=key)
        )
        return deploys.outcome(deploys.follow(self._session, deployment, wait_seconds, on_progress))

    def delete_release(self, name: str, number: int, *, wait_seconds: float = ACT_SECONDS) -> None:
        """Discard a release that is neither current nor needed to go back.

        Args:
            name: The agent's.
            number: The release's.
            wait_seconds: How long to wait until it is gone.

        Raises:
            AgentBusyError: Somebody is at work on the agent.
            ReleaseInUseError: It is needed.
            WaitTimeoutError: It is still there after wait_seconds.
        """
        path = agent_path(name, "releases", str(int(number)))
        self._remove(path, f"release {int(number)} of {name}", wait_seconds)
