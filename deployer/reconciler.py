"""What is desired joined with what runs: looked at every few seconds, and set right."""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Final

from deployer.agents import Agents
from deployer.errors import DeployerError
from deployer.intents import Intents
from deployer.model import Desired, Release, State
from deployer.parts import Parts
from deployer.runs import Runs
from deployer.statuses import AgentView
from deployer.store import now

_log: Final = logging.getLogger(__name__)

_ROUND_SECONDS: Final = 2.0
_QUIET_SECONDS: Final = 60.0


class _Fault(Enum):
    DOWN = "it should run and does not"
    UP = "it should not run and does"


class Reconciler:
    """Starts what should run and does not, and stops what should not run and does.

    It acts only on what it has seen twice: between an operator's act and its being written down as
    an intent lies a moment in which that act looks like a fault. It never acts on an agent that
    somebody is at work on, or for which a deployment waits.
    """

    def __init__(self, parts: Parts, runs: Runs, agents: Agents, intents: Intents) -> None:
        """Work with the parts of one server; nothing happens before `start`."""
        self._store = parts.store
        self._supervisord = parts.supervisord
        self._locks = parts.locks
        self._retries = parts.retries
        self._runs = runs
        self._agents = agents
        self._intents = intents
        self._seen: dict[str, _Fault] = {}
        self._at_work: set[str] = set()
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(2 * (os.cpu_count() or 1), thread_name_prefix="reconcile")

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._look_around, name="reconciler", daemon=True).start()

    def close(self) -> None:
        """Look no more."""
        self._ended.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _look_around(self) -> None:
        while not self._ended.wait(_ROUND_SECONDS):
            try:
                # While supervisord goes down everything stops, and that is nobody's fault.
                if self._supervisord.snapshot().is_running:
                    self._look_once()
            except DeployerError as error:
                _log.warning("cannot look around: %s", error.detail)
            except Exception:  # noqa: BLE001 - the next round may see clearer
                _log.exception("cannot look around")

    def _look_once(self) -> None:
        busy = {deployment.agent for deployment in self._store.deployments.unfinished()}
        faults: dict[str, _Fault] = {}
        for view in self._agents.views():
            name = view.agent.name
            if name in busy or name in self._at_work or self._locks.holder(name) is not None:
                continue
            try:
                fault = self._fault_of(view)
            except DeployerError as error:  # the monitor puts it into quarantine
                _log.warning("cannot tell what is due for %s: %s", name, error.detail)
                continue
            if fault is None:
                continue
            faults[name] = fault
            if self._seen.get(name) is fault:
                self._at_work.add(name)
                self._pool.submit(self._mend, name, fault)
        self._seen = faults

    def _fault_of(self, view: AgentView) -> _Fault | None:
        is_going = view.agent.desired is Desired.REMOVED  # and somebody is about to finish that
        if view.release is None or view.agent.quarantine or is_going:
            return None
        is_stopping = view.process is not None and view.process.state is State.STOPPING
        if not is_stopping and self._intents.take(view.release, view.process):
            return None  # it happened while somebody was at work, so that nobody else took it in
        if view.agent.desired is Desired.STOPPED:
            return _Fault.UP if view.is_alive else None
        if view.is_alive:
            self._forgive(view)
            return None
        return _Fault.DOWN if self._is_due(view, view.release) else None

    def _is_due(self, view: AgentView, release: Release) -> bool:
        """Tell whether an agent that is down is to be tried now, and note the first death of it."""
        process = view.process
        if view.retry is not None:
            return now() >= view.retry.next_at
        if process is None or process.state is State.STOPPED:
            return True
        if process.next_try_at is None and self._runs.restart_policy(release).enabled:
            self._retries.record_failure(release.agent, now(), is_crash_loop=process.restarts > 0)
        return False

    def _forgive(self, view: AgentView) -> None:
        """Forget an agent's failures once it has been well for a while."""
        started_at = None if view.process is None else view.process.started_at
        is_well = view.reading is not None and view.reading.answer.healthy
        if is_well and started_at and (now() - started_at).total_seconds() > _QUIET_SECONDS:
            self._retries.forget(view.agent.name)

    def _mend(self, name: str, fault: _Fault) -> None:
        try:
            self._store.events.add("agent.reconciled", name, f"{name}: {fault.value}")
            if fault is _Fault.DOWN:
                self._agents.bring_back(name)
            else:
                self._agents.put_to_rest(name)
        except DeployerError as error:
            _log.warning("cannot set %s right: %s", name, error.detail)
        except Exception:  # noqa: BLE001 - nobody reads this thread's result
            _log.exception("cannot set %s right", name)
        finally:
            self._at_work.discard(name)
