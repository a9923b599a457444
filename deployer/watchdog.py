"""What agents use, looked at once a second, and what follows when it is more than they may.

Where the kernel holds a limit for all processes of an agent together there is nothing to do but to
tell; else an agent that is over its limit at two looks in a row is ended, and its restart policy
says what comes next.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from deployer.byte_sizes import size_text
from deployer.causes import Cause, explain_memory_limit, explain_pids_limit
from deployer.errors import ReleaseUnknownError
from deployer.event_kinds import EventKind
from deployer.limits.allowances import Allowance
from deployer.limits.usages import Usage, end_members, proportional_bytes
from deployer.limits.verdicts import Verdict
from deployer.model import Release, agent_of_program
from deployer.parts import Parts
from deployer.runs import Runs

_log: Final = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 1.0
_STRIKES: Final = 2
_GROUP_LOOKS: Final = 5
_BUSY_LOOKS: Final = 10
"""So many looks in a row above a CPU limit that nothing holds are worth a line."""

_CPU_TOLERANCE: Final = 1.1
_ENDS_AT_ONCE: Final = 4


@dataclass(slots=True)
class _Watch:
    """What is remembered of one run.

    Attributes:
        release: What runs.
        allowance: What it may use.
        pid: Its main process.
        strikes: Looks in a row over each kind of limit.
        oom_kills: Of its processes, as far as they were told.
        is_refused: Whether it was told that it could not start another process.
        is_ending: Whether it is being ended already.
    """

    release: Release
    allowance: Allowance
    pid: int
    strikes: Counter[str] = field(default_factory=Counter)
    oom_kills: int = 0
    is_refused: bool = False
    is_ending: bool = False


class Watchdog:
    """Measures all agents in one thread, and ends those that nothing else holds to their limits."""

    def __init__(self, parts: Parts, runs: Runs) -> None:
        """Work with the parts of one server; nothing happens before `start`."""
        self._store = parts.store
        self._processes = parts.processes
        self._limiter = parts.limiter
        self._usages = parts.usages
        self._verdicts = parts.verdicts
        self._runs = runs
        self._watches: dict[str, _Watch] = {}
        self._mains: dict[str, int] = {}
        self._looks = 0
        self._ended = threading.Event()
        self._ends = ThreadPoolExecutor(_ENDS_AT_ONCE, thread_name_prefix="over-limit")

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def close(self) -> None:
        """Stop looking."""
        self._ended.set()
        self._ends.shutdown(wait=False, cancel_futures=True)

    def look(self) -> None:
        """Measure every agent once, and do what follows."""
        mains = {
            program: process.pid
            for program, process in self._processes.all().items()
            if process.pid is not None and process.state.is_alive and agent_of_program(program)
        }
        # Groups are asked less often than /proc: who is found in one is known for life.
        is_new = mains != self._mains
        self._mains = mains
        self._looks += 1
        asks_groups = is_new or self._looks % _GROUP_LOOKS == 0
        grouped = self._limiter.members(mains) if asks_groups else {}
        usages = self._usages.measure(mains, grouped)
        watches = {program: self._watch_of(program, mains[program]) for program in usages}
        self._watches = {program: watch for program, watch in watches.items() if watch is not None}
        for program, watch in self._watches.items():
            self._judge(watch, usages[program])
        if asks_groups:
            self._read_counters()
            self._limiter.sweep(mains)

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            try:
                self.look()
            except Exception:  # noqa: BLE001 - one bad agent must not blind us for the others
                _log.exception("cannot measure what agents use")

    def _watch_of(self, program: str, pid: int) -> _Watch | None:
        """Give what is remembered of a run; a release never changes, so it is read once a run.

        Returns:
            None for a program that is only called like one of ours: somebody else's, or a stray.
        """
        watch = self._watches.get(program)
        if watch is not None and watch.pid == pid:
            return watch
        name, number = agent_of_program(program) or ("", 0)
        try:
            release = self._store.releases.get(name, number)
        except ReleaseUnknownError:
            return None
        return _Watch(release, self._runs.allowance(release), pid)

    def _judge(self, watch: _Watch, usage: Usage) -> None:
        allowance, mechanisms = watch.allowance, self._limiter.mechanisms
        if allowance.memory_bytes is not None and not mechanisms.memory.hard:
            self._judge_memory(watch, usage, allowance.memory_bytes)
        if allowance.pids is not None and not mechanisms.pids.hard:
            self._judge_pids(watch, usage, allowance.pids)
        if allowance.cpus is not None and not mechanisms.cpu.hard:
            self._judge_cpus(watch, usage, allowance.cpus)

    def _read_counters(self) -> None:
        """Tell what the kernel did to processes of an agent that lives on all the same."""
        for program, watch in self._watches.items():
            memory, pids = watch.allowance.memory_bytes, watch.allowance.pids
            kills = self._limiter.oom_kills(program, watch.pid) if memory is not None else 0
            if memory is not None and kills > watch.oom_kills:
                watch.oom_kills = kills
                cause = explain_memory_limit(memory)
                self._tell(watch, f"{kills} of its processes were {cause.text}")
            # told once a run: a fork bomb goes on trying
            if pids is not None and not watch.is_refused:
                watch.is_refused = self._limiter.refused_forks(program, watch.pid) > 0
                if watch.is_refused:
                    self._tell(watch, f"it has reached its limit of {pids} processes and threads")

    def _judge_memory(self, watch: _Watch, usage: Usage, limit: int) -> None:
        used = usage.memory_bytes
        if used > limit:  # what processes share was counted more than once: now it counts
            used = proportional_bytes(usage.members) or used
        if self._is_over(watch, "memory", is_over=used > limit):
            sentence = f"uses {size_text(used)} of memory and may use {size_text(limit)}"
            self._end(watch, usage, explain_memory_limit(limit), sentence)

    def _judge_pids(self, watch: _Watch, usage: Usage, limit: int) -> None:
        if self._is_over(watch, "pids", is_over=usage.pids > limit):
            sentence = f"has {usage.pids} processes and threads and may have {limit}"
            self._end(watch, usage, explain_pids_limit(limit), sentence)

    def _judge_cpus(self, watch: _Watch, usage: Usage, limit: float) -> None:
        used = usage.cpus or 0.0
        is_over = used > limit * _CPU_TOLERANCE
        watch.strikes["cpus"] = watch.strikes["cpus"] + 1 if is_over else 0
        if watch.strikes["cpus"] == _BUSY_LOOKS:
            self._tell(watch, f"it uses {used:.2f} CPUs and may use {limit:g}")

    def _is_over(self, watch: _Watch, kind: str, *, is_over: bool) -> bool:
        watch.strikes[kind] = watch.strikes[kind] + 1 if is_over else 0
        return watch.strikes[kind] >= _STRIKES and not watch.is_ending

    def _tell(self, watch: _Watch, sentence: str) -> None:
        name = watch.release.agent
        self._store.events.add(EventKind.AGENT_OVER_LIMIT, name, f"{name}: {sentence}")

    def _end(self, watch: _Watch, usage: Usage, cause: Cause, sentence: str) -> None:
        """End a run in a thread of its own; its death is then treated as any other one is."""
        watch.is_ending = True
        program = watch.release.program
        self._verdicts.record(program, Verdict(usage.pid, cause.code, cause.text, cause.hint))
        self._tell(watch, f"it {sentence}; it is ended")
        self._ends.submit(self._end_run, watch.release, usage)

    def _end_run(self, release: Release, usage: Usage) -> None:
        try:
            self._runs.end(release, usage.pid)
            end_members(usage.members)
        except Exception:  # noqa: BLE001 - nobody reads this thread's result
            _log.exception("cannot end %s, which is over its limit", release.program)
