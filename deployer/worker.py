"""Runs queued deployments and acts in threads: several agents at once, one at a time for each."""

from __future__ import annotations

import contextvars
import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

from deployer import log_fields
from deployer.agents import Agents
from deployer.deployments import Deployments
from deployer.errors import (
    AgentBusyError,
    BadRequestError,
    DeployerError,
    ReleaseInUseError,
    SupervisordUnreachableError,
)
from deployer.event_kinds import EventKind
from deployer.model import Deployment, DeploymentStatus, Release
from deployer.parts import Parts
from deployer.statuses import AgentView
from deployer.store import Request
from deployer.strategies import choose_strategy

_log: Final = logging.getLogger(__name__)

Result = TypeVar("Result")

_LOCK_SECONDS: Final = 600.0
_SHORT_LOCK_SECONDS: Final = 10.0
_AGAIN_SECONDS: Final = 5.0
_ACTS_AT_ONCE: Final = 32


class Worker:
    """The threads in which agents are deployed, started and stopped.

    Until `resume` everything waits: the recovery takes each deployment that runs by then for one
    that the last process left.
    """

    def __init__(self, parts: Parts, deployments: Deployments, agents: Agents) -> None:
        """Begin with nothing to do."""
        self._store = parts.store
        self._copy = parts.state.database_copy
        self._locks = parts.locks
        self._trust = parts.trust
        self._deployments = deployments
        self._agents = agents
        self._guard = threading.Lock()
        self._draining: set[str] = set()
        self._canceled: set[str] = set()
        self._resumed = threading.Event()
        self._ended = threading.Event()
        self._deployers = ThreadPoolExecutor(
            max_workers=max(4, 2 * (os.cpu_count() or 1)), thread_name_prefix="deployment"
        )
        self._actors = ThreadPoolExecutor(_ACTS_AT_ONCE, thread_name_prefix="act")

    def deploy(self, request: Request) -> Deployment | Future[AgentView]:
        """Make a package live, with as little as that takes.

        Returns:
            When this very package is current already, the agent as it will be once it is started,
            or as it is if it serves or is not to be started; else a queued deployment.

        Raises:
            SignatureMissingError: It must be signed, and is not.
            SignatureInvalidError: It must be signed by a trusted key, and is by another.
        """
        self._require_vouched(request)
        release = self._store.releases.current_of_package(request.package.sha256)
        if release is None or request.force:
            return self.submit(request)
        if request.start:
            return self.act(lambda: self._agents.start(release.agent))
        return self.act(lambda: self._agents.view(release.agent))

    def submit(self, request: Request) -> Deployment:
        """Queue a deployment, or join the one that waits or runs for the very same.

        Raises:
            SignatureMissingError: The package must be signed, and is not.
            SignatureInvalidError: It must be signed by a trusted key, and is by another.
        """
        self._require_vouched(request)
        deployment = self._store.deployments.submit(request, frozenset(self._canceled))
        with log_fields.within(deployment=deployment.id, agent=deployment.agent):
            # Here, for only this thread knows the request: the deployment may run in a thread that
            # another request started.
            _log.info("deployment %s of %s is queued", deployment.id, deployment.agent)
        self._drain_soon(deployment.agent)
        return deployment

    def submit_rollback(
        self, agent: str, to: int | None, idempotency_id: str | None = None
    ) -> Deployment:
        """Queue a deployment of a release that is there already.

        Args:
            agent: Whose.
            to: The number of the release; None: the one before the current.
            idempotency_id: Of the row about the key that the request came with.

        Raises:
            AgentUnknownError: There is no such agent.
            ReleaseUnknownError: There is no such release.
            ReleaseInUseError: It is the current one.
            BadRequestError: There is none to go back to.
            SignatureMissingError: Its package must be signed, and is not.
            SignatureInvalidError: It must be signed by a trusted key, and is by another.
        """
        row = self._store.agents.get(agent)
        number = row.previous if to is None else to
        if number is None:
            raise BadRequestError(
                f"cannot roll {agent} back: there is no release before the current one",
                cause="no release to go back to",
                hint="deploy a package, or name a release with `to`",
            )
        release = self._store.releases.get(agent, number)
        if number == row.current:
            raise ReleaseInUseError(
                f"cannot roll {agent} back to release {number}: it is the current one",
                cause=f"release {number} is current",
                hint="restart the agent, or name another release",
            )
        return self.submit(self._again(release, idempotency_id))

    def delete_release(self, agent: str, number: int) -> Future[None]:
        """Delete a release that nobody needs, in a thread.

        Returns:
            The act, which raises what is raised here too, and AgentBusyError when somebody is at
            work on the agent.

        Raises:
            AgentUnknownError: There is no such agent.
            ReleaseUnknownError: There is no such release.
            ReleaseInUseError: It is the current one, or the one to go back to.
        """
        self._deployments.require_unneeded(agent, number)  # before a thread is taken

        def delete() -> None:
            what = f"delete release {number} of {agent}"
            with self._locks.hold(agent, what, timeout_seconds=_SHORT_LOCK_SECONDS):
                self._deployments.delete_release(agent, number)

        return self.act(delete)

    def cancel(self, deployment_id: str) -> Deployment:
        """Ask a deployment to end before it is activated; one that is over stays as it is.

        Raises:
            DeploymentUnknownError: There is none of this id.
        """
        deployment = self._store.deployments.get(deployment_id)
        with self._store.transaction():
            if self._store.deployments.cancel_queued(deployment):
                self._store.events.add(
                    EventKind.DEPLOYMENT_CANCELED,
                    deployment.agent,
                    f"deployment {deployment.id} of {deployment.agent} canceled while it waited",
                )
            elif not deployment.status.is_over:
                self._canceled.add(deployment.id)
        return self._store.deployments.get(deployment_id)

    def act(self, act: Callable[[], Result]) -> Future[Result]:
        """Do something with an agent in a thread; the caller waits as long as it likes."""

        def act_in_turn() -> Result:
            if not self._resumed.wait(_LOCK_SECONDS):
                raise AgentBusyError(
                    "cannot begin: the server still sets right what the last one left",
                    cause="the server is starting",
                    hint="GET /readyz tells when it takes work",
                )
            return act()

        # so that what is logged there names the request
        return self._actors.submit(contextvars.copy_context().run, act_in_turn)

    def resume(self) -> None:
        """Begin to work: with what was queued when the server ended, and what is to be undone."""
        unfinished = self._store.deployments.unfinished()
        with self._guard:
            for deployment in unfinished:
                if deployment.status is DeploymentStatus.RUNNING:
                    self._draining.add(deployment.agent)
                    self._deployers.submit(self._undo_and_drain, deployment)
            self._resumed.set()
        for deployment in self._store.deployments.unfinished():
            self._drain_soon(deployment.agent)

    def close(self) -> None:
        """Begin nothing new; what runs is not waited for."""
        self._ended.set()
        self._deployers.shutdown(wait=False, cancel_futures=True)
        self._actors.shutdown(wait=False, cancel_futures=True)

    def _require_vouched(self, request: Request) -> None:
        """Refuse at once what the deployment itself would refuse, before it is queued."""
        package = request.package
        self._trust.require_vouched(package.agent, package.version, package.sha256)

    def _again(self, release: Release, idempotency_id: str | None) -> Request:
        package = self._store.packages.get(release.sha256)
        strategy = choose_strategy(None, release.manifest)
        return Request(
            package=package,
            strategy=strategy,
            release=release.number,
            idempotency_id=idempotency_id,
        )

    def _undo_and_drain(self, deployment: Deployment) -> None:
        """Undo what the last process left, and only then carry out what waits behind it."""
        self._abandon_later(deployment)
        self._drain(deployment.agent)

    def _drain_soon(self, agent: str) -> None:
        with self._guard:
            if self._resumed.is_set() and agent not in self._draining:
                self._draining.add(agent)
                self._deployers.submit(self._drain, agent)

    def _drain(self, agent: str) -> None:
        """Carry out what is queued for one agent, the oldest first."""
        while not self._ended.is_set():
            try:
                deployment = self._next(agent)
            except sqlite3.Error:
                _log.exception("cannot read what is queued for %s", agent)
                self._ended.wait(_AGAIN_SECONDS)
                continue
            if deployment is None:
                return
            with log_fields.within(deployment=deployment.id, agent=agent):
                self._carry_out(deployment)

    def _next(self, agent: str) -> Deployment | None:
        with self._guard:
            for deployment in self._store.deployments.unfinished():
                if deployment.agent == agent and deployment.status is DeploymentStatus.QUEUED:
                    return deployment
            # Under the guard: whoever queues another one from here on finds nobody draining.
            self._draining.discard(agent)
            return None

    def _abandon_later(self, deployment: Deployment, why: str = "the server ended") -> None:
        """Undo a deployment as soon as the database can be written and supervisord answers."""
        while not self._ended.wait(_AGAIN_SECONDS):
            try:
                with self._locks.hold(
                    deployment.agent, f"undo {deployment.id}", timeout_seconds=_LOCK_SECONDS
                ):
                    self._deployments.abandon(deployment, why)
            except (sqlite3.Error, OSError, DeployerError) as error:
                _log.warning("cannot undo deployment %s yet: %s", deployment.id, error)
            except Exception:  # noqa: BLE001 - nobody else ends it, and its agent waits for that
                _log.exception("cannot undo deployment %s yet", deployment.id)
            else:
                return

    def _carry_out(self, deployment: Deployment) -> None:
        """Carry a deployment out; whatever comes, its row does not say "running" for ever."""
        try:
            self._run(deployment)
        except SupervisordUnreachableError as error:
            _log.error("cannot finish deployment %s: %s", deployment.id, error.detail)
            self._abandon_later(deployment, "supervisord did not answer")
        except Exception as error:  # noqa: BLE001 - nobody reads this thread's result
            # A full disk, most likely. The row still says "running", and nothing else may be done
            # with the agent until what was begun is undone.
            _log.exception("cannot write down how deployment %s ended", deployment.id)
            self._abandon_later(deployment, f"the server could not write its state ({error})")
        finally:
            self._canceled.discard(deployment.id)

    def _run(self, deployment: Deployment) -> None:
        try:
            with self._locks.hold(
                deployment.agent, f"deployment {deployment.id}", timeout_seconds=_LOCK_SECONDS
            ):
                self._deployments.run(deployment, canceled=lambda: deployment.id in self._canceled)
        except AgentBusyError as error:
            self._deployments.refuse(deployment, error)
        else:
            # Not under the lock: what happens to the agent from here on is nobody's doing.
            self._store.keep_copy(self._copy)
