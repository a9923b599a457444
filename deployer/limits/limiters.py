"""How agents are held to their limits: which groups and resource limits a run gets, and loses."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from deployer.launch_policies import ResourceLimits
from deployer.limits.allowances import Allowance, allow
from deployer.limits.cgroups1 import Cgroups1
from deployer.limits.cgroups2 import Cgroups2
from deployer.limits.groups import (
    RunGroup,
    is_over,
    mark,
    pids_in,
    read_roots,
    remove_group,
    remove_roots,
    run_groups,
)
from deployer.limits.hierarchies import find_own_groups
from deployer.limits.machines import Machine
from deployer.limits.mechanisms import Cgroups, choose_mechanisms
from deployer.manifest import Manifest, ResourcesTable
from deployer.settings import LimitSettings
from deployer.state_dir import StateDir

_log: Final = logging.getLogger(__name__)

_BACKSTOP_BYTES: Final = 512 * 1024**2
"""Thread stacks count as data without being used: 40 threads reserve 320 MiB."""

_NICE: Final = 5
_RUNS_REMEMBERED: Final = 4


class Limiter:
    """Holds the agents of one server to their limits."""

    def __init__(self, state: StateDir, settings: LimitSettings, *, own_uids: bool = False) -> None:
        """Find out what works here; `close` removes what was made for it.

        Args:
            state: Of this server.
            settings: What may be used, and what holds where a manifest says nothing.
            own_uids: Whether each agent has a uid of its own.
        """
        self._settings = settings
        self.machine = Machine.look()
        own = find_own_groups()
        kinds: dict[str, Cgroups] = {
            Cgroups2.name: Cgroups2(own, mark(state.root)),
            Cgroups1.name: Cgroups1(own, mark(state.root)),
        }
        candidates = [kinds[name] for name in kinds if name in settings.mechanisms]
        self.mechanisms, failures = choose_mechanisms(
            candidates, rlimits="rlimits" in settings.mechanisms, own_uids=own_uids
        )
        for failure in failures:
            _log.info("limits: not %s", failure)
        self._write_roots(state.group_roots)
        self._lock = threading.Lock()
        self._oom_kills: dict[str, dict[int, int]] = {}

    def allow(self, manifest: Manifest) -> Allowance:
        """Say what an agent may use here."""
        return allow(manifest.resources, self._settings, self.machine)

    def limit_run(self, program: str, allowance: Allowance, port: int) -> ResourceLimits:
        """Say what the launcher does to hold a run to its limits.

        Args:
            program: Whose run.
            allowance: What it may use.
            port: Its port; neighbours are bound to CPUs beside each other where groups hold none.
        """
        mechanisms = self.mechanisms
        data_bytes = None
        if mechanisms.memory.name.startswith("rlimit") and allowance.memory_bytes is not None:
            data_bytes = allowance.memory_bytes + _BACKSTOP_BYTES
        cpus: tuple[int, ...] = ()
        if mechanisms.cpu.name == "affinity" and allowance.cpus is not None:
            count, all_cpus = math.ceil(allowance.cpus), self.machine.cpus
            cpus = tuple(sorted(all_cpus[(port + i) % len(all_cpus)] for i in range(count)))
        return ResourceLimits(
            groups=mechanisms.plans(program, allowance),
            data_bytes=data_bytes,
            processes=allowance.pids if mechanisms.pids.name == "rlimit" else None,
            cpus=cpus,
            nice=_NICE if cpus else 0,
        )

    def limit_unnamed(self, program: str) -> ResourceLimits:
        """Say what the launcher does to hold what no manifest speaks of, such as a build.

        Args:
            program: What its group is called.
        """
        return self.limit_run(program, allow(ResourcesTable(), self._settings, self.machine), 0)

    def end_groups(self, program: str) -> None:
        """End whatever runs in groups of a program, and remove them."""
        for root in self.mechanisms.roots:
            for group in run_groups(root):
                if group.program == program and not remove_group(group.directory):
                    _log.warning("cannot end what is left in %s", group.directory)

    def members(self, mains: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """List the processes that groups hold.

        Args:
            mains: The main process of each program that runs.

        Returns:
            The processes of each program's run; nothing where groups hold none.
        """
        cgroups = self.mechanisms.cgroups
        kind = next((kind for kind in ("pids", "memory", "cpu") if kind in cgroups), None)
        if kind is None:
            return {}
        root = cgroups[kind].roots[kind]
        return {program: pids_in(root / f"{program}.{pid}") for program, pid in mains.items()}

    def oom_kills(self, program: str, pid: int | None) -> int:
        """Tell how often a process of a run was killed for the memory limit, also when it is over.

        Args:
            program: Whose run.
            pid: The run's main process; None: of the run that was over last.
        """
        cgroups = self.mechanisms.cgroups.get("memory")
        if cgroups is None:
            return 0
        if pid is None:
            self._remember_finished(program)
            pid = next(reversed(self._oom_kills.get(program, {})), 0)
        group = cgroups.roots["memory"] / f"{program}.{pid}"
        remembered = self._oom_kills.get(program, {}).get(pid, 0)
        return max(remembered, cgroups.oom_kills(group))

    def forget(self, program: str) -> None:
        """Forget the runs of a program that is started anew."""
        with self._lock:
            self._oom_kills.pop(program, None)

    def refused_forks(self, program: str, pid: int) -> int:
        """Tell how often a process of a run could not start another for the limit of them.

        Args:
            program: Whose run.
            pid: The run's main process.
        """
        cgroups = self.mechanisms.cgroups.get("pids")
        return (
            0
            if cgroups is None
            else cgroups.refused_forks(cgroups.roots["pids"] / f"{program}.{pid}")
        )

    def sweep(self, mains: Mapping[str, int]) -> None:
        """Remove the groups of runs that are over, with what is left in them; counters are kept.

        Args:
            mains: The main process of each program that runs.
        """
        for root in self.mechanisms.roots:
            for group in run_groups(root):
                if mains.get(group.program) != group.pid and is_over(group):
                    self._remember(group)
                    if not remove_group(group.directory):
                        _log.warning("cannot end what is left in %s", group.directory)

    def close(self) -> None:
        """Forget everything: nothing of this server is to live on."""
        remove_roots(self.mechanisms.roots)

    def _remember_finished(self, program: str) -> None:
        for root in self.mechanisms.roots:
            for group in run_groups(root):
                if group.program == program and is_over(group):
                    self._remember(group)

    def _remember(self, group: RunGroup) -> None:
        count = self.oom_kills(group.program, group.pid)
        with self._lock:
            runs = self._oom_kills.setdefault(group.program, {})
            runs[group.pid] = count
            while len(runs) > _RUNS_REMEMBERED:
                runs.pop(next(iter(runs)))

    def _write_roots(self, path: Path) -> None:
        """Write down where our groups are, for a server that starts in another group."""
        known = read_roots(path)
        roots = dict.fromkeys((*known, *self.mechanisms.roots))
        path.write_text("".join(f"{root}\n" for root in roots if root.is_dir()))
