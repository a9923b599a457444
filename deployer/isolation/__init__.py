"""Isolation: how agents are kept apart here, found out by doing it, and what each may reach.

The steps are `deployer.sandboxes`, taken by the launcher in the process that becomes the agent.
Here is decided which of them this machine allows, and what an agent needs to be left.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

from deployer import landlock
from deployer.isolation import surroundings
from deployer.isolation.probes import Canary, Findings
from deployer.isolation.uids import choose_uid, uid_range
from deployer.isolation_levels import Fact, IsolationLevel
from deployer.launch_policies import Sandbox
from deployer.peers import Peers
from deployer.settings.isolation import IsolationSettings
from deployer.state_dir import StateDir

__all__ = ["Isolation", "Mechanisms", "Quarters", "choose_uid", "find_isolation", "uid_range"]

_CALLERS: Final = "callers"
_LEFT_OUT: Final = "left out by the setting isolation.use"
_NO_RANGE: Final = "no range of uids is free here: see /proc/self/uid_map"
_SHARED_BYTES: Final = 1024**3
"""Of each private directory that is shared by all otherwise, for agents without a memory limit."""

_RESERVED_UIDS: Final = 3
"""At the end of the range, and no agent's: who builds source, the canary's sibling, the canary."""

_DEFAULTS: Final = IsolationSettings()

_WITH_UIDS: Final = frozenset({IsolationLevel.FULL, IsolationLevel.UID})
_WITH_NAMESPACES: Final = _WITH_UIDS | {IsolationLevel.LANDLOCK_NS}


@dataclass(frozen=True, slots=True)
class Mechanisms:
    """What keeps agents apart.

    Attributes:
        uids: Ids for users that are the agents' own; None: all run as the server.
        has_namespaces: Mounts and System V IPC of their own.
        has_landlock: Landlock.
    """

    uids: range | None = None
    has_namespaces: bool = False
    has_landlock: bool = False


@dataclass(frozen=True, slots=True)
class Quarters:
    """What an agent must reach of what is its own.

    Attributes:
        directory: All of the agent's, below the state directory.
        fixed: Code, below it, and environment: read, run, and never written.
        writable: Below it, where it may write.
        python: The interpreter of its environment, absolute and without symlinks.
        shared_bytes: How much it may put into each private directory in memory; None: our default.
    """

    directory: Path
    fixed: Sequence[Path]
    writable: Sequence[Path]
    python: Path
    shared_bytes: int | None = None


class Isolation:
    """How the agents of one server are kept apart."""

    def __init__(
        self,
        state: StateDir,
        mechanisms: Mechanisms,
        settings: IsolationSettings = _DEFAULTS,
        *,
        level: IsolationLevel = IsolationLevel.NONE,
        facts: Sequence[Fact] = (),
    ) -> None:
        """Keep what was found out.

        Args:
            state: Of this server.
            mechanisms: What is used.
            settings: What agents may reach beside what they need; it may not exist.
            level: What the mechanisms are worth.
            facts: What was tried.
        """
        self._state = state
        self._readable = tuple(path.resolve() for path in settings.readable)
        self._writable = tuple(path.resolve() for path in settings.writable)
        self.mechanisms = mechanisms
        self.level = level
        self.facts = tuple(facts)

    @property
    def shortcomings(self) -> str:
        """What is missing or open, in one line; empty when nothing is."""
        return "; ".join(f"{fact.name}: {fact.detail}" for fact in self.facts if not fact.holds)

    @property
    def knows_callers(self) -> bool:
        """Whether a call of an agent's to the API is known to be one."""
        return any(fact.name == _CALLERS and fact.holds for fact in self.facts)

    @property
    def reader_uid(self) -> int | None:
        """A user like those of agents, to ask what they can reach; None: the server's own."""
        uids = self.mechanisms.uids
        return None if uids is None else uids[-1]

    @property
    def agent_uids(self) -> range | None:
        """What agents are given; None: they run as the server."""
        uids = self.mechanisms.uids
        return None if uids is None else uids[:-_RESERVED_UIDS]

    @property
    def builder_uid(self) -> int | None:
        """The user that builds source, one build at a time; None: the server's own."""
        uids = self.mechanisms.uids
        return None if uids is None else uids[-_RESERVED_UIDS]

    @property
    def shares_environments(self) -> bool:
        """Whether agents may share what is installed for them.

        No agent can write there or hide it from another, and none can read what only others need.
        """
        used = self.mechanisms
        return used.has_namespaces or (used.uids is not None and used.has_landlock)

    def sandbox(self, quarters: Quarters, uid: int | None) -> Sandbox:
        """Say what a process of an agent can reach.

        Args:
            quarters: What is its own.
            uid: Its user; None: the server's own.
        """
        used = self.mechanisms
        given = [*surroundings.installation(quarters.python), *self._readable]
        size = quarters.shared_bytes or _SHARED_BYTES
        covers = surroundings.covers(self._state.root, uid, size) if used.has_namespaces else ()
        hidden = tuple(cover.path for cover in covers)
        shared = tuple(cover.path for cover in covers if cover.path in surroundings.SHARED)
        if uid is None:  # what lies in there as well would be open to write, like all the rest
            shared = tuple(each for each in shared if not self._state.root.is_relative_to(each))
        readable = [*surroundings.READABLE, *given, *quarters.fixed]
        return Sandbox(
            uid=uid,
            has_namespaces=used.has_namespaces,
            covers=covers,
            exposed=(quarters.directory, *_below(self._writable, hidden)) if hidden else (),
            exposed_read_only=(
                *(quarters.fixed if hidden else ()),
                *_below([*surroundings.READABLE, *given], hidden),
            ),
            hides_processes=used.has_namespaces and uid is not None,
            has_landlock=used.has_landlock,
            readable=tuple(surroundings.without(readable, self._state.root)),
            writable=(*surroundings.DEVICES, *quarters.writable, *shared, *self._writable),
            unlisted=() if used.has_namespaces else (Path("/dev/shm"),),  # noqa: S108 - semaphores
        )


def find_isolation(state: StateDir, settings: IsolationSettings = _DEFAULTS) -> Isolation:
    """Find out how well agents can be kept apart here, by doing it.

    Takes as long as a few starts of Python. Only one may do this at a time below one directory.

    Args:
        state: Of this server; its directories are there.
        settings: What to try, and what agents may reach beside what they need.
    """
    best = settings.use or IsolationLevel.FULL
    missing = _missing(best)
    for mechanisms in _combinations(best):
        findings = _try_out(state, Isolation(state, mechanisms, settings))
        if not findings.obstacle:
            level = findings.level(has_own_uids=mechanisms.uids is not None)
            facts = _facts(mechanisms, missing, findings)
            return Isolation(state, mechanisms, settings, level=level, facts=facts)
        # The last obstacle counts: what else had failed before is left out by then.
        missing |= {name: findings.obstacle for name, used in _used(mechanisms).items() if used}
    nothing = Mechanisms()
    return Isolation(state, nothing, settings, facts=_facts(nothing, missing, Findings({})))


def _combinations(best: IsolationLevel) -> Iterator[Mechanisms]:
    """Give what can be used together, the best first."""
    if sys.platform != "linux":
        return
    uids = uid_range() if best in _WITH_UIDS and os.geteuid() == 0 else None
    switch = {True: (True, False), False: (False,)}
    namespaces = switch[best in _WITH_NAMESPACES]
    restricts = switch[landlock.find_abi() > 0 and best is not IsolationLevel.NONE]
    if uids is not None:
        with_uids = (False,) if best is IsolationLevel.UID else restricts
        yield from (Mechanisms(uids, *pair) for pair in product(namespaces, with_uids))
    if restricts[0]:
        yield from (Mechanisms(None, each, has_landlock=True) for each in namespaces)


def _missing(best: IsolationLevel) -> dict[str, str]:
    """Say why what is not even tried is not."""
    if sys.platform != "linux":
        return dict.fromkeys(_used(Mechanisms()), "Linux only")
    reasons = dict.fromkeys(_used(Mechanisms()), _LEFT_OUT)
    if best in _WITH_UIDS:
        is_root = os.geteuid() == 0
        reasons["own-uids"] = _NO_RANGE if is_root else "the server does not run as root"
    if landlock.find_abi() < 1:
        reasons["landlock"] = "this kernel has none"
    return reasons


def _try_out(state: StateDir, isolation: Isolation) -> Findings:
    uids = isolation.mechanisms.uids
    pair = None if uids is None else (uids[-1], uids[-2])
    if pair is not None and not isolation.mechanisms.has_namespaces:
        for path in surroundings.closed_above(state.root, pair[0]):
            mode = stat.S_IMODE(path.stat().st_mode)
            return Findings(
                {},
                f"{path} is closed to users of agents (mode {mode:04o}): let them pass by"
                f" `chmod o+x {path}`, or choose another --state-dir",
            )
    canary = Canary(state, pair)
    quarters = Quarters(
        directory=canary.directory,
        fixed=(canary.directory / "code",),
        writable=tuple(canary.directory / name for name in ("data", "tmp", "run")),
        python=Path(os.path.realpath(sys.executable)),
    )
    try:
        return canary.try_out(isolation.sandbox(quarters, None if pair is None else pair[0]))
    except OSError as error:
        return Findings({}, f"a trial could not be made: {error}")


def _used(mechanisms: Mechanisms) -> dict[str, bool]:
    return {
        "own-uids": mechanisms.uids is not None,
        "namespaces": mechanisms.has_namespaces,
        "landlock": mechanisms.has_landlock,
    }


def _facts(mechanisms: Mechanisms, missing: dict[str, str], findings: Findings) -> list[Fact]:
    uids = mechanisms.uids
    details = {
        "own-uids": "" if uids is None else f"{uids[0]}-{uids[-1]}",
        "namespaces": "mounts and System V IPC",
        "landlock": f"ABI {landlock.find_abi()}" if mechanisms.has_landlock else "",
    }
    facts = [
        Fact(name, used, details[name] if used else missing.get(name, ""))
        for name, used in _used(mechanisms).items()
    ]
    tried = (
        Fact(name, findings.refused(name), answer) for name, answer in findings.answers.items()
    )
    return [*facts, *tried, _callers(uids)]


def _callers(uids: range | None) -> Fact:
    """Say whether agents that call the API are known as such."""
    if uids is None:
        return Fact(_CALLERS, holds=False, detail="agents call as the server's own user")
    if not Peers().can_tell:
        return Fact(_CALLERS, holds=False, detail="this kernel does not tell whose a call is")
    return Fact(_CALLERS, holds=True, detail="agents are known by their users")


def _below(paths: Sequence[Path], covers: Sequence[Path]) -> tuple[Path, ...]:
    """Give those of paths that are there and that a cover would hide."""
    return tuple(
        path
        for path in dict.fromkeys(paths)
        if surroundings.is_below(path, covers) and path.exists() and path.resolve() == path
    )
