"""Which mechanism holds agents to which limit on this machine: found out by doing it once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deployer.launch_policies import RunGroupPlan
from deployer.limits.allowances import Allowance
from deployer.limits.cgroups1 import Cgroups1
from deployer.limits.cgroups2 import Cgroups2
from deployer.limits.groups import PROCESSES, pids_in, remove_group

Cgroups = Cgroups1 | Cgroups2

_TRIALS: Final = {
    "memory": Allowance(memory_bytes=64 * 1024**2),
    "cpu": Allowance(cpus=0.5),
    "pids": Allowance(pids=16),
}
"""A limit of each kind that no machine is too small for."""

_CHILD: Final = (sys.executable, "-I", "-S", "-c", "input()")


@dataclass(frozen=True, slots=True)
class Mechanism:
    """What holds agents to one kind of limit.

    Attributes:
        name: Such as ``cgroup1``, ``rlimit+watchdog`` or ``affinity``; ``none``: nothing does.
        hard: Whether the kernel does it for all processes of an agent together, at every moment.
    """

    name: str
    hard: bool


@dataclass(frozen=True, slots=True)
class Mechanisms:
    """What holds agents to their limits here.

    Attributes:
        memory: Of main memory.
        cpu: Of CPU time.
        pids: Of processes and threads.
        cgroups: The groups that hold a kind of limit, for the kinds that groups hold.
    """

    memory: Mechanism
    cpu: Mechanism
    pids: Mechanism
    cgroups: Mapping[str, Cgroups]

    @property
    def roots(self) -> tuple[Path, ...]:
        """Our group in each hierarchy that is used."""
        found = (cgroups.roots[kind] for kind, cgroups in self.cgroups.items())
        return tuple(dict.fromkeys(found))

    def plans(self, program: str, allowance: Allowance) -> tuple[RunGroupPlan, ...]:
        """Say which groups a run of a program makes and joins."""
        plans: list[RunGroupPlan] = []
        for cgroups in dict.fromkeys(self.cgroups.values()):
            kinds = frozenset(kind for kind, each in self.cgroups.items() if each is cgroups)
            plans.extend(cgroups.plans(program, allowance, kinds))
        return tuple(plans)


def choose_mechanisms(
    candidates: Sequence[Cgroups], *, rlimits: bool, own_uids: bool
) -> tuple[Mechanisms, tuple[str, ...]]:
    """Find out what works, the best first.

    Args:
        candidates: Kinds of control groups to try, the dearest first.
        rlimits: Whether resource limits and affinity may stand in.
        own_uids: Whether each agent has a uid of its own; else a limit of processes, which the
            kernel counts for a uid, would let agents starve each other.

    Returns:
        What works, and a sentence for each that was tried and does not.
    """
    found: dict[str, Cgroups] = {}
    failures = []
    for kind in _TRIALS:
        for cgroups in candidates:
            try:
                _try(cgroups, kind)
            except OSError as error:
                failures.append(f"{cgroups.name} for {kind}: {error}")
            else:
                found[kind] = cgroups
                break
    fallbacks = _fallbacks(rlimits=rlimits, own_uids=own_uids)
    chosen = {
        kind: Mechanism(found[kind].name, hard=True) if kind in found else fallbacks[kind]
        for kind in _TRIALS
    }
    return Mechanisms(**chosen, cgroups=found), tuple(failures)


def _fallbacks(*, rlimits: bool, own_uids: bool) -> dict[str, Mechanism]:
    """Say what there is without control groups; the watchdog reads /proc, which only Linux has."""
    is_linux = sys.platform == "linux"
    watchdog = "watchdog" if is_linux else "none"
    if not rlimits:
        return {
            "memory": Mechanism(watchdog, hard=False),
            "cpu": Mechanism("none", hard=False),
            "pids": Mechanism(watchdog, hard=False),
        }
    return {
        "memory": Mechanism("rlimit+watchdog" if is_linux else "rlimit", hard=False),
        "cpu": Mechanism("affinity" if is_linux else "none", hard=False),
        "pids": Mechanism("rlimit", hard=True) if own_uids else Mechanism(watchdog, hard=False),
    }


def _try(cgroups: Cgroups, kind: str) -> None:
    """Put a child under a limit of one kind and see that it is there.

    Raises:
        OSError: It does not work here.
    """
    cgroups.open(kind)
    (plan,) = cgroups.plans("_trial", _TRIALS[kind], frozenset({kind}))
    group = plan.directory.with_name(f"{plan.directory.name}.{os.getpid()}")
    group.mkdir(exist_ok=True)
    try:
        for file, value in plan.settings:
            (group / file).write_text(value)
        with subprocess.Popen(_CHILD, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:  # noqa: S603 - a constant
            try:
                (group / PROCESSES).write_text(str(child.pid))
                if child.pid not in pids_in(group):
                    raise OSError(f"a process that joined {group} is not in it")
            finally:
                child.kill()
    finally:
        remove_group(group)
