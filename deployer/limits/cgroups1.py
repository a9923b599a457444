"""Control groups of version 1: one hierarchy a controller, each with a group of ours.

The files are those of Documentation/admin-guide/cgroup-v1 of the kernel.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final

from deployer.launch_policies import RunGroupPlan
from deployer.limits.allowances import Allowance
from deployer.limits.groups import read_counter
from deployer.limits.hierarchies import OwnGroups

_PERIOD_MICROSECONDS: Final = 100_000
_LEAST_QUOTA_MICROSECONDS: Final = 1000
_CONTROLLERS: Final = ("memory", "cpu", "pids")


class Cgroups1:
    """The groups of one server in the hierarchies of version 1.

    Attributes:
        name: What the mechanism is called.
        roots: Our group in the hierarchy of each controller that is mounted.
    """

    name: ClassVar = "cgroup1"

    def __init__(self, own: OwnGroups, mark: str) -> None:
        """Work below the groups that this process is in; nothing is made yet."""
        self.roots = {
            controller: own.legacy[controller] / mark
            for controller in _CONTROLLERS
            if controller in own.legacy
        }

    def open(self, controller: str) -> None:
        """Make our group of a controller.

        Raises:
            OSError: It cannot be had here.
        """
        if controller not in self.roots:
            raise FileNotFoundError(f"no hierarchy of version 1 with {controller} is mounted")
        self.roots[controller].mkdir(exist_ok=True)

    def plans(
        self, program: str, allowance: Allowance, controllers: frozenset[str]
    ) -> tuple[RunGroupPlan, ...]:
        """Say which groups a run of a program joins."""
        found = []
        for controller in _CONTROLLERS:
            settings = self._settings(controller, allowance) if controller in controllers else ()
            if settings:
                found.append(RunGroupPlan(self.roots[controller] / program, settings))
        return tuple(found)

    def oom_kills(self, group: Path) -> int:
        """Tell how often a process of a group was killed because the group was out of memory."""
        return read_counter(f"{group}/memory.oom_control", "oom_kill")  # since Linux 4.13

    def refused_forks(self, group: Path) -> int:
        """Tell how often a process of a group could not start another for the limit of them."""
        return read_counter(f"{group}/pids.events", "max")

    def _settings(self, controller: str, allowance: Allowance) -> tuple[tuple[str, str], ...]:
        if controller == "memory" and allowance.memory_bytes is not None:
            limit = str(allowance.memory_bytes)
            settings = [("memory.limit_in_bytes", limit)]
            if (self.roots["memory"] / "memory.memsw.limit_in_bytes").exists():
                settings.append(("memory.memsw.limit_in_bytes", limit))  # or it would swap instead
            return tuple(settings)
        if controller == "cpu" and allowance.cpus is not None:
            quota = max(_LEAST_QUOTA_MICROSECONDS, int(allowance.cpus * _PERIOD_MICROSECONDS))
            return (
                ("cpu.cfs_period_us", str(_PERIOD_MICROSECONDS)),
                ("cpu.cfs_quota_us", str(quota)),
            )
        if controller == "pids" and allowance.pids is not None:
            return (("pids.max", str(allowance.pids)),)
        return ()
