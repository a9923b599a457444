"""How large the machine is, as this process may use it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self

import psutil


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is to be shared among agents.

    Attributes:
        cpus: The numbers of the CPUs that this process may run on, ascending; not empty.
        memory_bytes: All of the main memory.
    """

    cpus: tuple[int, ...]
    memory_bytes: int

    @classmethod
    def look(cls) -> Self:
        """Ask the kernel."""
        if hasattr(os, "sched_getaffinity"):
            cpus = tuple(sorted(os.sched_getaffinity(0)))
        else:  # only Linux lets a process be bound to some of them
            cpus = tuple(range(os.cpu_count() or 1))
        return cls(cpus, psutil.virtual_memory().total)
