"""Where source is built: an environment's builds joined with how processes are kept apart here."""

from __future__ import annotations

import threading
from typing import Final

from deployer.environments import BUILD_PROGRAM, Reach, Site, SourceBuilds
from deployer.isolation import Isolation, Quarters
from deployer.launch_policies import Sandbox
from deployer.leftovers import end_processes_of
from deployer.limits.limiters import Limiter
from deployer.state_dir import MARKER, StateDir

_GUARD: Final = threading.Lock()  # for all builds of this process: they share a user


def source_builds(state: StateDir, isolation: Isolation, limiter: Limiter) -> SourceBuilds:
    """Say where and how source is built on this server.

    A build's user is one that no agent has: it reaches no agent's files, not even those of the
    agent that it is for.

    Args:
        state: Of this server.
        isolation: How processes are kept apart here; it must be worth something.
        limiter: Holds builds to what an agent may use that says nothing of it.
    """

    def confine(site: Site, reach: Reach) -> Sandbox:
        quarters = Quarters(
            directory=site.root,
            fixed=(site.tools, *reach.sources),
            writable=(site.home,),
            python=reach.python,
        )
        return isolation.sandbox(quarters, isolation.builder_uid)

    def end_processes(uid: int | None) -> None:
        limiter.end_groups(BUILD_PROGRAM)
        if uid is not None:
            end_processes_of(uid, state.root)

    return SourceBuilds(
        site=Site(state.builds / "site"),
        kept=state.cache / "built",
        confine=confine,
        marker={MARKER: str(state.root)},
        resources=limiter.limit_unnamed(BUILD_PROGRAM),
        end_processes=end_processes,
        guard=_GUARD,
    )
