"""What one agent may use and does use, for whoever shows it."""

from __future__ import annotations

from dataclasses import dataclass

from deployer.limits.allowances import Allowance
from deployer.limits.disk_scans import DiskScan
from deployer.limits.mechanisms import Mechanisms
from deployer.limits.usages import Usage


@dataclass(frozen=True, slots=True)
class Footprint:
    """An agent's limits and its latest usage.

    Attributes:
        allowance: What it may use.
        mechanisms: What holds it to that.
        usage: What it uses; None while it does not run.
        disk: What is in the directories that it may write; None: nobody has looked yet.
    """

    allowance: Allowance
    mechanisms: Mechanisms
    usage: Usage | None
    disk: DiskScan | None = None
