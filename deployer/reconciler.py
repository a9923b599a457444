"""What is desired joined with what runs: looked at every few seconds, and set right."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from enum import Enum
from functools import partial
from typing import Final

from deployer.agents import Agents
from deployer.errors import DeployerError
from deployer.event_kinds import EventKind
from deployer.intents import Intents
from deployer.model import Desired, Release, State
from deployer.parts import Parts
from deployer.runs import Runs
from deployer.statuses import AgentView
from deployer.store import now

_log: Final = logging.getLogger(__name__)

_ROUND_SECONDS: Final = 2.0
_SURE_SECONDS: Final = 1.0
_LEAST_SECONDS: Final = 0.2
_QUIET_SECONDS: Final = 60.0


class _Fault(Enum):
    DOWN = "it should run and does not"
    UP = "it should not run and does"


class Reconciler:
    """Starts what should run and does not, and stops what should not run and does.

    It looks every few seconds, and after every event. It acts only on what it has seen twice, a
    second apart: between an operator's act and its being written down as an intent lies a moment in
    which that act looks like a fault. It never acts on an agent that somebody is at work on, or for
    which a deployment waits.
    """

    def __init__(
        self,
        parts: Parts,
        runs: Runs,
        agents: Agents,
        intents: Intents,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = now,
    ) -> None:
        """Work with the parts of one server; nothing happens before `start`.

        Args:
            parts: The adapters.
            runs: Of releases.
            agents: What is acted on.
            intents: Of operators.
            clock: Monotonic seconds, between two looks.
            now: The time, by which retries are due.
        """
        self._store = parts.store
        self._supervisord = parts.supervisord
        self._locks = parts.locks
        self._retries = parts.retries
        self._runs = runs
        self._agents = agents
        self._intents = intents
        self._starts = parts.starts
        self._clock = clock
        self._now = now
        self._seen: dict[str, tuple[_Fault, float]] = {}
        self._woken = threading.Event()
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._look_around, name="reconciler", daemon=True).start()

    def wake(self) -> None:
        """Look soon: something happened."""
        self._woken.set()

    def close(self) -> None:
        """Look no more."""
        self._ended.set()
        self._woken.set()
        self._starts.close()

    def _look_around(self) -> None:
        while not self._ended.wait(_LEAST_SECONDS):
            self._woken.wait(_SURE_SECONDS if self._seen else _ROUND_SECONDS)
            self._woken.clear()
            if self._ended.is_set():
                return
            try:
                # While supervisord goes down everything stops, and that is nobody's fault.
                if self._supervisord.takes_orders():
                    self.look()
            except DeployerError as error:
                _log.warning("cannot look around: %s", error.detail)
            except Exception:  # noqa: BLE001 - the next round may see clearer
                _log.exception("cannot look around")

    def look(self) -> None:
        """Look at every agent once, and have set right what has been wrong for long enough."""
        moment = self._clock()
        busy = {deployment.agent for deployment in self._store.deployments.unfinished()}
        faults: dict[str, tuple[_Fault, float]] = {}
        for view in self._agents.views():
            name = view.agent.name
            if name in busy or name in self._starts or self._locks.holder(name) is not None:
                continue
            try:
                fault = self._fault_of(view)
            except DeployerError as error:  # its next checkup puts it into quarantine
                _log.warning("cannot tell what is due for %s: %s", name, error.detail)
                continue
            if fault is None:
                continue
            seen, since = self._seen.get(name, (None, moment))
            faults[name] = fault, since if seen is fault else moment
            if moment - faults[name][1] >= _SURE_SECONDS:
                self._starts.submit(name, partial(self._mend, name, fault))
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
            return self._now() >= view.retry.next_at
        if process is None or process.state is State.STOPPED:
            return True
        if process.next_try_at is None and self._runs.restart_policy(release).enabled:
            self._retries.record_failure(
                release.agent, self._now(), is_crash_loop=process.restarts > 0
            )
        return False

    def _forgive(self, view: AgentView) -> None:
        """Forget an agent's failures once it has been well for a while."""
        started_at = None if view.process is None else view.process.started_at
        is_well = view.reading is not None and view.reading.answer.healthy
        if is_well and started_at and (self._now() - started_at).total_seconds() > _QUIET_SECONDS:
            self._retries.forget(view.agent.name)

    def _mend(self, name: str, fault: _Fault) -> None:
        try:
            self._store.events.add(EventKind.AGENT_RECONCILED, name, f"{name}: {fault.value}")
            if fault is _Fault.DOWN:
                self._agents.bring_back(name)
            else:
                self._agents.stop_as_desired(name)
        except DeployerError as error:
            _log.warning("cannot set %s right: %s", name, error.detail)
        except Exception:  # noqa: BLE001 - nobody reads this thread's result
            _log.exception("cannot set %s right", name)
