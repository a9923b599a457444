"""The one place that sequences a deployment, and the way back from each of its steps."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from deployer.disks import require_space
from deployer.environments import Environments
from deployer.errors import (
    DeployerError,
    DeploymentAbandonedError,
    DeploymentCanceledError,
    ReleaseInUseError,
    SupervisordUnreachableError,
    TooManyAgentsError,
)
from deployer.event_kinds import EventKind
from deployer.journals import Journal
from deployer.model import (
    Agent,
    Deployment,
    DeploymentStatus,
    Desired,
    Failure,
    Release,
    ReleaseStatus,
    Run,
    Strategy,
)
from deployer.parts import Parts
from deployer.preparations import Preparations
from deployer.runs import Runs
from deployer.scans import Scans

_log: Final = logging.getLogger(__name__)

_TAKE_OVER_BYTES: Final = 16 * 1024**2
_TAKE_OVER_INODES: Final = 64
"""For rows, policies and the first lines of a log: what starting a release takes, and again."""


class Deployments:
    """Puts releases live: unpack, install, start, prove, activate, retire.

    What was serving is put back by the same code whether a step failed or the server was killed
    half-way: `_undo` looks at what is there, not at what was meant to come next.
    """

    def __init__(self, parts: Parts, environments: Environments, runs: Runs, scans: Scans) -> None:
        """Work with the parts of one server."""
        self._state = parts.state
        self._settings = parts.settings
        self._store = parts.store
        self._files = parts.files
        self._retries = parts.retries
        self._instruments = parts.instruments
        self._preparations = Preparations(parts, environments, runs, scans)
        self._runs = runs

    def run(self, deployment: Deployment, *, canceled: Callable[[], bool]) -> None:
        """Carry a queued deployment out to its end, whatever that is; its row tells.

        The caller holds the agent's lock.

        Raises:
            SupervisordUnreachableError: Nobody can tell what runs, so nothing could be undone. The
                row still says "running": it is to be abandoned once supervisord answers again.
        """
        if not self._store.deployments.begin(deployment):
            return  # canceled while it waited for the agent's lock
        self._tell(deployment, EventKind.DEPLOYMENT_STARTED, "started")
        serving: Release | None = None
        try:
            journal = Journal(self._store, self._instruments, deployment, canceled)
            serving = self._put_live(deployment, journal)
        except SupervisordUnreachableError:
            raise  # killed, mostly, and this server ends with it; the next one undoes
        except Exception as error:  # noqa: BLE001 - the row must not say "running" for ever
            if not isinstance(error, DeployerError):
                _log.exception("deployment %s of %s broke", deployment.id, deployment.agent)
            if not self._is_live(deployment):
                self._end_badly(deployment, _as_ours(error, deployment))
                return
            # Only tidying failed; the row that made it current is the point of no return.
            _log.warning("cannot tidy up after deployment %s: %s", deployment.id, error)
        self._end(deployment, DeploymentStatus.SUCCEEDED)
        if serving is not None:  # only now: it takes a process, and whoever waits has the answer
            try:
                self._runs.compile(serving)
            except (OSError, RuntimeError) as error:  # slower starts are all it comes to
                _log.warning("cannot compile %s: %s", serving.program, error)

    def abandon(self, deployment: Deployment, why: str = "the server ended") -> None:
        """Undo a deployment that nobody goes on with.

        Args:
            deployment: One that is running, as its row says.
            why: What came between; its last step is added.

        Raises:
            SupervisordUnreachableError: It cannot be undone yet.
        """
        deployment = self._store.deployments.get(deployment.id)
        step = deployment.steps[-1].name if deployment.steps else "its first step"
        error = DeploymentAbandonedError(
            f"cannot finish deploying {deployment.agent}: {why} during {step}",
            cause=f"{why} during {step}",
            hint="deploy again",
        )
        if self._is_live(deployment):
            # The row that makes a release current is the point of no return, and it was written.
            agent = self._store.agents.get(deployment.agent)
            self._announce(self._store.releases.get(agent.name, deployment.release or 0))
            self._retire(agent.name)
            self._end(deployment, DeploymentStatus.SUCCEEDED)
            return
        self._end_badly(deployment, error)

    def delete_release(self, agent: str, number: int) -> None:
        """Delete a release that is neither current nor one to go back to.

        The caller holds the agent's lock.

        Raises:
            AgentUnknownError: There is no such agent.
            ReleaseUnknownError: There is no such release.
            ReleaseInUseError: It is needed.
        """
        self._forget(self.require_unneeded(agent, number))
        self._store.events.add(
            EventKind.RELEASE_DELETED, agent, f"release {number} of {agent} was deleted"
        )

    def require_unneeded(self, agent: str, number: int) -> Release:
        """Give a release that may be deleted.

        Raises:
            AgentUnknownError: There is no such agent.
            ReleaseUnknownError: There is no such release.
            ReleaseInUseError: It is needed.
        """
        owner = self._store.agents.get(agent)
        release = self._store.releases.get(agent, number)
        needed_as = {owner.current: "the current one", owner.previous: "the one to go back to"}
        for awaited in self._awaited(agent):
            needed_as.setdefault(awaited, "the one that a rollback waits for")
        if number in needed_as:
            raise ReleaseInUseError(
                f"cannot delete release {number} of {agent}: it is {needed_as[number]}",
                cause=f"release {number} is {needed_as[number]}",
            )
        return release

    def finish_deleting(self, agent: str) -> None:
        """Delete what releases of an agent left whose deletion the server did not survive."""
        for release in self._store.releases.of_agent(agent):
            if release.status is ReleaseStatus.DISCARDED:
                self._forget(release)

    def _put_live(self, deployment: Deployment, journal: Journal) -> Release | None:
        """Make a release current; give it if it serves, None if it is not to."""
        agent = self._store.agents.find(deployment.agent) or self._new_agent(deployment.agent)
        before = self._current_release(agent)
        release = self._preparations.prepare(deployment, journal)
        is_wanted_up = deployment.start or agent.desired is Desired.RUNNING
        port: int | None = None
        if not is_wanted_up:
            message = f"release {release.number} is installed and not started"
        else:
            serving = before if before is not None and self._runs.is_serving(before) else None
            if before is not None and serving is None:  # it may be dead, and its port still its own
                self._runs.take_down(before, for_successor=True)
            run, gap_seconds = self._take_over(deployment, release, serving, journal)
            port = run.port
            self._store.releases.set_status(release, ReleaseStatus.PROVEN)
            self._files.write_record(replace(release, status=ReleaseStatus.PROVEN))
            self._store.events.add(
                EventKind.AGENT_HEALTHY,
                agent.name,
                f"{agent.name} release {release.number} is healthy on port {run.port},"
                f" pid {run.pid}",
            )
            gap = _describe_gap(run, gap_seconds) if gap_seconds else ""
            message = f"release {release.number} serves on port {run.port}, pid {run.pid}{gap}"
        with journal.step("activate") as note:
            self._activate(agent, release, before, port)
            note.message = message
        with journal.step("retire", is_cancelable=False) as note:
            note.message = self._retire(agent.name)
        return release if is_wanted_up else None

    def _take_over(
        self, deployment: Deployment, release: Release, serving: Release | None, journal: Journal
    ) -> tuple[Run, float]:
        """Bring a release up in the place of the one that serves, if one does.

        Returns:
            The run, and for how many seconds nobody served.
        """
        if serving is None or deployment.strategy is Strategy.PARALLEL:
            run = self._runs.bring_up(release, watcher=journal)
            self._runs.soak(run, journal)
            return run, 0.0
        if deployment.strategy is Strategy.REHEARSE:
            self._runs.rehearse(release, journal)
        began = time.monotonic()
        # On a full disk neither of the two could be started once the one that serves is down.
        require_space(self._state.root, _TAKE_OVER_BYTES, _TAKE_OVER_INODES)
        with journal.step("stop") as note:
            self._runs.take_down(serving, for_successor=True)
            note.message = f"release {serving.number} stopped"
        run = self._runs.bring_up(release, watcher=journal)
        gap_seconds = time.monotonic() - began
        if deployment.strategy is Strategy.REPLACE:
            self._runs.soak(run, journal)
        return run, gap_seconds

    def _new_agent(self, name: str) -> Agent:
        if self._store.agents.count() >= self._settings.max_agents:
            raise TooManyAgentsError(
                f"cannot add {name}: there are {self._settings.max_agents} agents already",
                cause=f"{self._settings.max_agents} agents already",
                hint="remove an agent, or raise max_agents in the settings",
            )
        return self._store.agents.add(name)

    def _activate(
        self, agent: Agent, release: Release, before: Release | None, port: int | None
    ) -> None:
        """Make a release current, and the port where it serves its agent's; None: it does not."""
        previous = agent.previous
        former = before if before is not None and before.number != release.number else None
        if former is not None and (former.status is ReleaseStatus.PROVEN or previous is None):
            previous = former.number
        with self._store.transaction():
            self._store.agents.activate(agent.name, release.number, previous)
            self._store.agents.set_last_error(agent.name, "")
            self._store.agents.set_quarantine(agent.name, "")
            if port is not None:
                self._store.agents.set_port(agent.name, port)
                self._store.agents.set_desired(agent.name, Desired.RUNNING)
        self._retries.forget(agent.name)  # they were failures of the release before
        self._announce(release)

    def _announce(self, release: Release) -> None:
        """Say in files what the row says: which package is current, and whose the data is."""
        self._files.write_checksum(release.agent, release.md5)
        self._files.claim_data(release.agent)

    def _retire(self, agent: str) -> str:
        """Take the programs of releases away that are not current, and delete those too many."""
        row = self._store.agents.get(agent)
        releases = self._store.releases.of_agent(agent)
        for each in releases:
            if each.number != row.current and self._runs.is_known(each):
                self._runs.discard(each)
        kept = {each.number for each in releases[: self._settings.releases_kept]}
        kept |= {row.current or 0, row.previous or 0, *self._awaited(agent)}
        gone = [each for each in releases if each.number not in kept]
        for each in gone:
            self._forget(each)
        return f"deleted release {', '.join(str(each.number) for each in gone)}" if gone else ""

    def _awaited(self, agent: str) -> set[int]:
        """Give the numbers of releases that a queued rollback is to make current."""
        return {
            each.release
            for each in self._store.deployments.unfinished()
            if each.agent == agent and each.is_rollback and each.release is not None
        }

    def refuse(self, deployment: Deployment, error: DeployerError) -> None:
        """End a queued deployment that could not begin."""
        self._end(deployment, DeploymentStatus.FAILED, error)

    def _end_badly(self, deployment: Deployment, error: DeployerError) -> None:
        """Undo a deployment and write down why, also when it cannot be undone altogether."""
        is_back = False
        try:
            is_back = self._undo(self._store.deployments.get(deployment.id))
        except (SupervisordUnreachableError, sqlite3.Error):
            raise  # it is tried again later, as nothing can be told or written down now
        except Exception as also:  # noqa: BLE001 - the row must not say "running" for ever
            ours = _as_ours(also, deployment)
            _log.exception("cannot undo deployment %s", deployment.id)
            self._store.agents.set_last_error(deployment.agent, ours.detail, ours.hint)
        status = DeploymentStatus.ROLLED_BACK if is_back else DeploymentStatus.FAILED
        if isinstance(error, DeploymentCanceledError):
            status = DeploymentStatus.CANCELED
        if isinstance(error, DeploymentAbandonedError):
            status = DeploymentStatus.ABANDONED
        self._end(deployment, status, error)

    def _end(
        self, deployment: Deployment, status: DeploymentStatus, error: DeployerError | None = None
    ) -> None:
        """Write down how it ended, in its row and in the timeline at once: whoever waits looks."""
        why = "" if error is None else f": {error.detail}"
        with self._store.transaction():
            failure = None if error is None else failure_of(error)
            self._store.deployments.end(deployment, status, failure)
            self._tell(deployment, EventKind(f"deployment.{status}"), f"{status}{why}")

    def _undo(self, deployment: Deployment) -> bool:
        """Remove what a deployment made, and bring what was serving back.

        Safe to repeat, and from whichever step on.

        Returns:
            Whether the former release serves again.
        """
        agent = self._store.agents.find(deployment.agent)
        if agent is None:
            return False
        made = self._made_by(deployment, agent)
        if made is not None:
            self._runs.take_down(made, for_successor=True)
        before = self._current_release(agent)
        try:
            # First of all: what is deleted below may be large, and nobody serves meanwhile.
            return before is not None and self._bring_back(agent, before)
        finally:
            if made is not None:
                self._take_back(deployment, made)
            if before is None:
                self._files.delete_agent(agent.name)
                self._runs.free_identity(agent.name)
                self._store.agents.remove(agent.name)

    def _made_by(self, deployment: Deployment, agent: Agent) -> Release | None:
        """Find the release that a deployment was to make current and did not, if it is there."""
        if deployment.release is None or agent.current == deployment.release:
            return None
        releases = self._store.releases.of_agent(agent.name)
        return next((each for each in releases if each.number == deployment.release), None)

    def _bring_back(self, agent: Agent, before: Release) -> bool:
        """Have a release serve again that served before, if it is to; tell whether it does."""
        if agent.is_readable and agent.desired is not Desired.RUNNING:
            return False
        if not self._runs.is_serving(before):
            self._runs.bring_up(before)
        return True

    def _take_back(self, deployment: Deployment, release: Release) -> None:
        """Remove a release that a deployment began with, without harm to the one that serves."""
        if deployment.is_rollback:
            self._runs.discard(release)
            return
        try:
            self._forget(release)
        except OSError as error:
            # Its row says DISCARDED: the next deployment and the next start try again.
            _log.warning("cannot delete release %d: %s", release.number, error)

    def _forget(self, release: Release) -> None:
        """Delete everything of a release; its row goes last, so that a crash finds the rest."""
        self._store.releases.set_status(release, ReleaseStatus.DISCARDED)
        self._runs.discard(release)
        self._files.delete(release.agent, release.number)
        self._store.releases.remove(release)

    def _is_live(self, deployment: Deployment) -> bool:
        agent = self._store.agents.find(deployment.agent)
        return (
            agent is not None
            and deployment.release is not None
            and agent.current == deployment.release
        )

    def _current_release(self, agent: Agent) -> Release | None:
        if agent.current is None:
            return None
        return self._store.releases.get(agent.name, agent.current)

    def _tell(self, deployment: Deployment, kind: EventKind, what: str) -> None:
        self._store.events.add(
            kind, deployment.agent, f"deployment {deployment.id} of {deployment.agent} {what}"
        )


def _describe_gap(run: Run, seconds: float) -> str:
    if run.is_gapless:
        return f"; no gap: its socket was held, and who came in {seconds:.2f} s waited"
    return f"; {seconds:.2f} s without an answer"


def _as_ours(error: Exception, deployment: Deployment) -> DeployerError:
    if isinstance(error, DeployerError):
        return error
    return DeployerError(
        f"cannot deploy {deployment.agent}: the server failed: {type(error).__name__}: {error}",
        hint="the server's own log holds the traceback",
    )


def failure_of(error: DeployerError) -> Failure:
    """Keep of an error what a row and a status show."""
    details = "; ".join(str(problem) for problem in error.problems)
    return Failure(
        code=error.code,
        detail=f"{error.detail}: {details}" if details else error.detail,
        cause=error.cause,
        hint=error.hint,
        evidence=error.evidence,
    )
