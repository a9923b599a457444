"""Calls about deployments: how a package becomes a release that serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deployer.client import deploys, nouns
from deployer.client.archives import open_archive
from deployer.client.calls.asking import (
    DEPLOY_SECONDS,
    LONGEST_HOLD_SECONDS,
    PAGE,
    Asking,
    agent_path,
    new_key,
    path_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    OnProgress = Callable[[nouns.Step], None]


class DeploymentCalls(Asking):
    """What may be asked about deployments."""

    def deploy(
        self,
        package: Path | str | bytes,
        *,
        strategy: str | None = None,
        force: bool = False,
        start: bool = True,
        wait_seconds: float = DEPLOY_SECONDS,
        on_progress: OnProgress | None = None,
        key: str | None = None,
    ) -> nouns.Deployed:
        """Put a package live and wait until it serves, in as many requests as it takes.

        Args:
            package: A ZIP file, a directory to be packed, or a ZIP's bytes.
            strategy: rehearse, replace or parallel; None: what the manifest says.
            force: Make a new release even when this very package is the current one.
            start: False: install and make current, but do not start.
            wait_seconds: For the whole deployment.
            on_progress: Is told of each change of a step, the upload's percents among them.
            key: The Idempotency-Key, for who may ask again after their own death; None: a new one.

        Raises:
            WaitTimeoutError: It is not over after wait_seconds; it goes on.
            DeployerError: Why it failed, with cause, hint and evidence, by the server's own
                class; `deployment_of` gives the deployment with its steps.
        """
        options = {"strategy": strategy, "force": force, "start": start}
        options = {name: value for name, value in options.items() if value is not None}
        archive = open_archive(package)
        return deploys.deploy(
            self._session,
            archive,
            options,
            wait_seconds,
            on_progress,
            idempotency_key=key or new_key(),
        )

    def plan(
        self,
        name: str,
        package: Path | str | bytes,
        strategy: str | None = None,
        *,
        on_progress: OnProgress | None = None,
    ) -> nouns.Plan:
        """Ask what deploying a package would do; it is uploaded if need be, and nothing is changed.

        Args:
            name: The agent that it is meant for.
            package: A ZIP file, a directory to be packed, or a ZIP's bytes.
            strategy: rehearse, replace or parallel; None: what the manifest says.
            on_progress: Is told of the step ``upload``, at each percent.
        """
        options = {} if strategy is None else {"strategy": strategy}
        path, archive = agent_path(name, "plan"), open_archive(package)
        reply = deploys.name_package(
            self._session, path, archive, options, on_progress, hold_seconds=LONGEST_HOLD_SECONDS
        )
        return nouns.Plan.read(reply.document)

    def deployments(self, *, agent: str | None = None, limit: int = PAGE) -> list[nouns.Deployment]:
        """List deployments, at most limit of them."""
        return self._list(
            nouns.Deployment, "/v1/deployments", "deployments", limit=limit, agent=agent
        )

    def deployment(self, deployment_id: str) -> nouns.Deployment:
        """Look at one deployment as it is now."""
        return nouns.Deployment.read(self._get(path_of("deployments", deployment_id)))

    def follow_deployment(
        self,
        deployment_id: str,
        *,
        wait_seconds: float = DEPLOY_SECONDS,
        on_progress: OnProgress | None = None,
    ) -> nouns.Deployment:
        """Wait until a deployment is over, whether well or not.

        Raises:
            WaitTimeoutError: It is not over after wait_seconds; it goes on.
        """
        deployment = self.deployment(deployment_id)
        return deploys.follow(self._session, deployment, wait_seconds, on_progress)

    def cancel_deployment(self, deployment_id: str) -> nouns.Deployment:
        """Ask a deployment to end before it is activated."""
        return nouns.Deployment.read(self._act(path_of("deployments", deployment_id, "cancel")))
