"""What is examined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from deployer.isolation import Isolation, find_isolation
from deployer.settings import Settings
from deployer.state_dir import StateDir


@dataclass
class Patient:
    """A machine, and the server that runs there or is to run there.

    Attributes:
        settings: Of the server.
        state: Its state directory, which may not be there yet.
        scratch: An empty directory beside it.
        environ: All variables.
        is_running: Whether its supervisord answers.
    """

    settings: Settings
    state: StateDir
    scratch: Path
    environ: Mapping[str, str]
    is_running: bool = False

    @cached_property
    def trial(self) -> StateDir:
        """A state directory of nobody, for what can only be found out by doing it."""
        state = StateDir(self.scratch)
        for directory in (state.agents, state.run, state.tmp):
            directory.mkdir(exist_ok=True)
        state.agents.chmod(0o711)
        return state

    @cached_property
    def isolation(self) -> Isolation:
        """How well agents can be kept apart here."""
        return find_isolation(self.trial, self.settings.isolation)
