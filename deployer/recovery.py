"""What a new server process finds and sets right: half-done deployments, strays, desired agents."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from deployer import log_fields
from deployer.agents import Agents
from deployer.deployments import Deployments
from deployer.environment_retention import EnvironmentRetention
from deployer.errors import DeployerError, RowDamagedError
from deployer.intents import Intents
from deployer.model import Agent, DeploymentStatus, Desired, Release, State, agent_of_program
from deployer.package_retention import PackageRetention
from deployer.parts import Parts
from deployer.runs import Runs
from deployer.store import copies
from deployer.trees import delete_tree

_log: Final = logging.getLogger(__name__)


class Recovery:
    """Makes the world what the rows say, once, before the server takes new work.

    One bad agent never keeps another from coming up: whatever fails for one is logged, shown as its
    last error, and passed over.
    """

    def __init__(
        self,
        parts: Parts,
        runs: Runs,
        deployments: Deployments,
        agents: Agents,
        intents: Intents,
    ) -> None:
        """Work with the parts of one server."""
        self._state = parts.state
        self._settings = parts.settings
        self._store = parts.store
        self._files = parts.files
        self._programs = parts.programs
        self._supervisord = parts.supervisord
        self._processes = parts.processes
        self._starts = parts.starts
        self._packages = PackageRetention(parts)
        self._environments = EnvironmentRetention(parts)
        self._began_at = time.time()
        self._runs = runs
        self._deployments = deployments
        self._agents = agents
        self._intents = intents

    def tidy(self) -> None:
        """Undo what was half-done, and remove what belongs to nothing."""
        for act in (
            self._remove_halves,
            self._processes.refresh,
            self._take_intents,  # early: what an operator stopped is not brought back below
            self._end_deployments,
            self._finish_removals,
            self._remove_strays,
            self._environments.remove_halves,
            self._free_ports_of_the_dead,
        ):
            with self._passed_over(act.__name__.strip("_").replace("_", " ")):
                act()

    def _remove_halves(self) -> None:
        for path in self._state.tmp.iterdir():
            if path.lstat().st_mtime < self._began_at:  # else it is an upload that has just begun
                delete_tree(path)
        self._programs.remove_halves(self._began_at)

    def _end_deployments(self) -> None:
        """Undo what ran, and what cannot be read whole: nobody knows any more what it was to do."""
        self._store.deployments.reopen_damaged()
        for deployment in self._store.deployments.unfinished():
            with (
                log_fields.within(deployment=deployment.id, agent=deployment.agent),
                self._passed_over(f"undo deployment {deployment.id} of {deployment.agent}"),
            ):
                if deployment.status is DeploymentStatus.RUNNING:
                    self._deployments.abandon(deployment)
                elif deployment.failure is not None:
                    self._deployments.refuse(
                        deployment,
                        RowDamagedError(
                            deployment.failure.detail,
                            cause=deployment.failure.cause,
                            hint="deploy again",
                        ),
                    )

    def _finish_removals(self) -> None:
        for agent in self._store.agents.all():
            if agent.desired is Desired.REMOVED:
                with self._passed_over(f"remove {agent.name}"):
                    self._agents.remove(agent.name)
            elif agent.current is not None:  # its removal may have come no further than the mark
                with self._passed_over(f"let {agent.name} own its data"):
                    self._files.claim_data(agent.name)
            with self._passed_over(f"delete releases of {agent.name}"):
                self._deployments.finish_deleting(agent.name)

    def _take_intents(self) -> None:
        """Write down what operators had supervisord do while no server was there."""
        for agent in self._store.agents.all():
            if agent.current is not None:
                with self._passed_over(f"see what operators did with {agent.name}"):
                    release = self._store.releases.get(agent.name, agent.current)
                    self._intents.take(release, self._processes.get(release.program))

    @contextmanager
    def _passed_over(self, act: str) -> Iterator[None]:
        """Do something for one agent; should it fail, the others are looked after all the same."""
        try:
            yield
        except DeployerError as error:
            _log.warning("cannot %s: %s", act, error.detail)
        except Exception:  # noqa: BLE001 - one bad agent must not keep the others down
            _log.exception("cannot %s", act)

    def bring_back(self) -> None:
        """Have started what should run and does not; nobody waits for it."""
        for agent in self._store.agents.all():
            self._starts.submit(agent.name, partial(self._bring_back, agent))

    def _bring_back(self, agent: Agent) -> None:
        if agent.current is None:
            return
        with self._passed_over(f"bring {agent.name} back"):
            release = self._store.releases.get(agent.name, agent.current)
            if not self._runs.is_up(release):
                if agent.desired is Desired.RUNNING and not self._is_left_to_policy(release):
                    self._agents.bring_back(agent.name)
            elif agent.desired is Desired.STOPPED and agent.is_readable:
                self._agents.stop_as_desired(agent.name)
            else:
                # The last server may have ended between a good answer and this call.
                self._supervisord.follow(release.program, self._runs.restart_policy(release))

    def _is_left_to_policy(self, release: Release) -> bool:
        """Tell whether a release died under this supervisord, and what follows is decided.

        Deaths while it had yet to prove itself are not: no restart policy held then.
        """
        process = self._processes.get(release.program)
        if process is None or process.state in {State.STOPPED, State.UNKNOWN}:
            return False
        policy = self._runs.restart_policy(release)
        if process.next_try_at is not None or not policy.enabled:
            return True
        return process.state is State.FATAL and process.restarts == policy.max_restarts

    def _remove_strays(self) -> None:
        """Remove what has no row, unless the rows are what is missing."""
        if copies.is_behind(self._state.database):
            _log.error("what has no row in state.db is left alone: it was lost, and not salvaged")
            return
        for act in (
            self._remove_stray_programs,
            self._remove_stray_directories,
            self._packages.remove_strays,
            self._runs.tidy_identities,
        ):
            with self._passed_over(act.__name__.strip("_").replace("_", " ")):
                act()

    def _remove_stray_programs(self) -> None:
        """Remove agents' programs whose release is gone, and leases of such."""
        known = {release.program for release in self._store.releases.all()}
        ours = set(self._programs.names())
        if self._settings.supervisor.url is None:
            ours |= {program for program in self._processes.all() if agent_of_program(program)}
        for program in sorted(ours - known):
            try:
                self._supervisord.kill(program)
                self._processes.wait(
                    program, lambda one: one is None or not one.state.is_alive, timeout_seconds=5
                )
                self._supervisord.remove(program)
                self._programs.delete(program)
            except DeployerError as error:
                _log.warning("cannot remove the stray program %s: %s", program, error.detail)

    def _remove_stray_directories(self) -> None:
        known = {(release.agent, release.number) for release in self._store.releases.all()}
        for path in self._state.agents.glob("*/releases/*"):
            number = int(path.name) if path.name.isdecimal() else -1
            if (path.parent.parent.name, number) not in known:
                delete_tree(path)

    def _free_ports_of_the_dead(self) -> None:
        """Free what a stop had not freed yet when the server ended."""
        for lease in self._store.leases.all():
            process = self._processes.get(lease.program)
            if process is None or not (process.state.is_alive or process.next_try_at):
                self._store.leases.free(lease.program)
