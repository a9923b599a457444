"""Control groups of version 2: one hierarchy, and one group a run for all controllers.

The files are those of Documentation/admin-guide/cgroup-v2 of the kernel. Its rule that a group with
controllers for its children holds no processes itself means that this server must first move into a
leaf, as systemd's documentation of delegation asks of every manager.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import ClassVar, Final

import psutil

from deployer.launch_policies import RunGroupPlan
from deployer.limits.allowances import Allowance
from deployer.limits.groups import PROCESSES, pids_in, read_counter
from deployer.limits.hierarchies import OwnGroups

LEAF: Final = "_server"
"""The group that supervisord and the API move into."""

_PERIOD_MICROSECONDS: Final = 100_000
_LEAST_QUOTA_MICROSECONDS: Final = 1000
_CONTROL: Final = "cgroup.subtree_control"


class Cgroups2:
    """The groups of one server in the hierarchy of version 2.

    Attributes:
        name: What the mechanism is called.
        roots: Our group, under the name of each controller; empty where there is no such hierarchy.
    """

    name: ClassVar = "cgroup2"

    def __init__(self, own: OwnGroups, mark: str) -> None:
        """Work below the group that this process is in; nothing is made yet."""
        self._base = own.unified
        if self._base is not None and self._base.name == LEAF:  # an API before us has moved there
            self._base = self._base.parent
        root = None if self._base is None else self._base / mark
        self.roots = {} if root is None else dict.fromkeys(("memory", "cpu", "pids"), root)

    def open(self, controller: str) -> None:
        """Make our group and have the kernel hand it a controller.

        Raises:
            OSError: It cannot be had here.
        """
        if self._base is None:
            raise FileNotFoundError("no hierarchy of version 2 is mounted")
        offered = (self._base / "cgroup.controllers").read_text().split()
        if controller not in offered:
            raise FileNotFoundError(f"{controller} is not among the controllers of {self._base}")
        root = self.roots[controller]
        root.mkdir(exist_ok=True)
        self._enable(self._base, controller)
        self._enable(root, controller)

    def plans(
        self, program: str, allowance: Allowance, controllers: frozenset[str]
    ) -> tuple[RunGroupPlan, ...]:
        """Say which group a run of a program joins."""
        settings: list[tuple[str, str]] = []
        if "memory" in controllers and allowance.memory_bytes is not None:
            settings.append(("memory.max", str(allowance.memory_bytes)))
            if Path("/proc/swaps").exists():
                settings.append(("memory.swap.max", "0"))
            settings.append(("memory.oom.group", "1"))  # half an agent serves nobody
        if "cpu" in controllers and allowance.cpus is not None:
            quota = max(_LEAST_QUOTA_MICROSECONDS, int(allowance.cpus * _PERIOD_MICROSECONDS))
            settings.append(("cpu.max", f"{quota} {_PERIOD_MICROSECONDS}"))
        if "pids" in controllers and allowance.pids is not None:
            settings.append(("pids.max", str(allowance.pids)))
        if not settings:
            return ()
        return (RunGroupPlan(self.roots["memory"] / program, tuple(settings)),)

    def oom_kills(self, group: Path) -> int:
        """Tell how often a process of a group was killed because the group was out of memory."""
        return read_counter(f"{group}/memory.events", "oom_kill")

    def refused_forks(self, group: Path) -> int:
        """Tell how often a process of a group could not start another for the limit of them."""
        return read_counter(f"{group}/pids.events", "max")

    def _enable(self, group: Path, controller: str) -> None:
        control = group / _CONTROL
        if controller in control.read_text().split():
            return
        try:
            control.write_text(f"+{controller}")
        except OSError:
            if not self._move_into_leaf(group):
                raise
            control.write_text(f"+{controller}")

    def _move_into_leaf(self, group: Path) -> bool:
        """Move supervisord and everything below it out of a group's way, if all of it is ours."""
        ours = _family()
        pids = pids_in(group)
        if not pids or not ours.issuperset(pids):
            return False
        leaf = group / LEAF
        leaf.mkdir(exist_ok=True)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                (leaf / PROCESSES).write_text(str(pid))
        return True


def _family() -> set[int]:
    """Give this process, the supervisord that started it, and all that this one has started."""
    parent = psutil.Process(os.getpid()).parent()
    family = {os.getpid()}
    if parent is not None and parent.pid != 1:
        family |= {parent.pid, *(child.pid for child in parent.children(recursive=True))}
    return family
