"""Where the kernel shows control groups, and which of them this process is in.

The sources are cgroups(7) and the fields of mountinfo and cgroup in proc(5).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_UNIFIED: Final = "0"
"""The hierarchy number of cgroup2."""

_OCTAL: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class OwnGroups:
    """The directories of the groups that this process is in.

    Attributes:
        unified: In cgroup2; None where that is not mounted.
        legacy: In cgroup1, by the name of each controller.
    """

    unified: Path | None = None
    legacy: Mapping[str, Path] = field(default_factory=dict)


def find_own_groups(proc: Path = Path("/proc/self")) -> OwnGroups:
    """Find the groups that this process is in.

    New groups are made below these and nowhere else: whoever put limits on this server has meant
    its agents as well.

    Args:
        proc: Where the kernel tells of this process.

    Returns:
        Those that are mounted where we can see them; none without such a kernel.
    """
    try:
        mounts = (proc / "mountinfo").read_text().splitlines()
        memberships = (proc / "cgroup").read_text().splitlines()
    except OSError:
        return OwnGroups()
    unified: Path | None = None
    legacy: dict[str, Path] = {}
    for line in memberships:
        number, controllers, group = line.split(":", 2)
        if number == _UNIFIED and not controllers:
            unified = _directory(mounts, group, None)
        for controller in filter(None, controllers.split(",")):
            directory = _directory(mounts, group, controller)
            if directory is not None:
                legacy[controller] = directory
    return OwnGroups(unified, legacy)


def _directory(mounts: list[str], group: str, controller: str | None) -> Path | None:
    """Find the directory of a group: its mount may show only a part of the hierarchy."""
    for line in mounts:
        before, _, after = line.partition(" - ")
        kind, _source, options = after.split(" ", 2)
        if kind != ("cgroup2" if controller is None else "cgroup"):
            continue
        if controller is not None and controller not in options.split(","):
            continue
        _id, _parent, _device, root, place = before.split(" ")[:5]
        root, place = _unescape(root), _unescape(place)
        if root in {group, "/"} or group.startswith(f"{root}/"):
            below = group if root == "/" else group.removeprefix(root)
            directory = Path(place, below.lstrip("/"))
            if directory.is_dir():
                return directory
    return None


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
