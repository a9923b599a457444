"""What one agent may use: as its manifest says, else as the settings do, within the machine."""

from __future__ import annotations

from dataclasses import dataclass

from deployer.byte_sizes import size_text
from deployer.limits.machines import Machine
from deployer.manifest import ResourcesTable
from deployer.settings import LimitSettings


@dataclass(frozen=True, slots=True)
class Allowance:
    """What an agent may use, all of its processes together; None: as much as there is.

    Attributes:
        memory_bytes: Of main memory.
        cpus: CPU seconds a second.
        pids: Processes and threads.
        disk_bytes: In the directories that it may write.
        clamped: A sentence for each limit that the manifest sets higher than the machine is large.
    """

    memory_bytes: int | None = None
    cpus: float | None = None
    pids: int | None = None
    disk_bytes: int | None = None
    clamped: tuple[str, ...] = ()


def allow(resources: ResourcesTable, settings: LimitSettings, machine: Machine) -> Allowance:
    """Say what an agent may use here.

    A limit beyond the machine is lowered to what there is instead of being refused: a package made
    for a larger machine still runs on a smaller one, and is told so.

    Args:
        resources: What the manifest says.
        settings: What holds where it says nothing.
        machine: What there is.
    """
    memory, cpus = resources.memory_limit or settings.agent_memory, _cpus(resources, settings)
    clamped = []
    if memory is not None and memory > machine.memory_bytes:
        clamped.append(
            f"memory_limit {size_text(memory)} is more than the machine has: it is held to"
            f" {size_text(machine.memory_bytes)}"
        )
        memory = machine.memory_bytes
    if cpus is not None and cpus > len(machine.cpus):
        clamped.append(
            f"cpu_limit {cpus:g} is more than the machine has: it is held to {len(machine.cpus)}"
        )
        cpus = float(len(machine.cpus))
    return Allowance(
        memory_bytes=memory,
        cpus=cpus,
        pids=resources.pids_limit or settings.agent_pids,
        disk_bytes=resources.disk_limit or settings.agent_disk,
        clamped=tuple(clamped),
    )


def _cpus(resources: ResourcesTable, settings: LimitSettings) -> float | None:
    return resources.cpu_limit or settings.agent_cpus
