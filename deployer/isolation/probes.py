"""Isolation tried out: a canary goes through what an agent goes through, and tries to get out."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deployer.isolation import canary
from deployer.isolation_levels import IsolationLevel
from deployer.launch_policies import LaunchPolicy, Sandbox, policy_bytes
from deployer.state_dir import StateDir

_PROBE_SECONDS: Final = 10.0
_OPEN: Final = "open"

NAMES: Final = (".canary", ".sibling")
"""Directories beside those of agents while a probe lasts; no agent may be called so."""

_CLOSED_AT: Final = {
    IsolationLevel.FULL: {"files", "names", "signals", "ports", "control-socket"}
    | {"abstract-sockets"},
    IsolationLevel.UID: {"files", "names", "signals", "control-socket"},
    IsolationLevel.LANDLOCK_NS: {"files", "names", "signals", "ports", "control-socket"}
    | {"abstract-sockets"},
    IsolationLevel.LANDLOCK: {"files"},
}


@dataclass(frozen=True, slots=True)
class Findings:
    """What came of one probe.

    Attributes:
        answers: For each thing that was tried ``open``, or why it was refused.
        obstacle: Why agents cannot be started so at all; empty when they can.
    """

    answers: Mapping[str, str]
    obstacle: str = ""

    def refused(self, name: str) -> bool:
        """Tell whether something that was tried was refused."""
        return self.answers.get(name, _OPEN) != _OPEN

    def level(self, *, has_own_uids: bool) -> IsolationLevel:
        """Say what this is worth."""
        for level, closed in _CLOSED_AT.items():
            needs_uids = level in {IsolationLevel.FULL, IsolationLevel.UID}
            if needs_uids == has_own_uids and all(map(self.refused, closed)):
                return level
        return IsolationLevel.NONE


class Canary:
    """The directories of a canary, beside those of a sibling, below the state directory."""

    def __init__(self, state: StateDir, uids: tuple[int, int] | None) -> None:
        """Make what the canary needs and what it must not reach.

        Args:
            state: Of this server.
            uids: The users of canary and sibling; None: the server's own.
        """
        self._state = state
        self._uids = uids
        self.directory = state.agents / NAMES[0]
        self.sibling = state.agents / NAMES[1]

    def try_out(self, sandbox: Sandbox) -> Findings:
        """Launch the canary in a sandbox, and hear what it could do."""
        policy = LaunchPolicy(
            program="canary",
            executable=Path("/"),  # it stays what it is
            arguments=(),
            directory=self.directory / "code",
            port=1,
            sandbox=sandbox,
        )
        with self._scene() as (secret, policy_path, control, closed_port):
            policy_path.write_bytes(policy_bytes(policy))
            paths = map(str, (policy_path, self.directory, secret, control))
            arguments = ["1", *paths, str(closed_port)]
            try:
                done = subprocess.run(  # noqa: S603 - our own script
                    [sys.executable, "-I", "-S", canary.__file__, *arguments],
                    env={},
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=_PROBE_SECONDS,
                )
            except subprocess.TimeoutExpired:
                return Findings({}, f"a trial had not ended after {_PROBE_SECONDS:.0f} s")
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            return Findings({}, lines[-1] if lines else f"a trial ended with {done.returncode}")
        pairs = (line.partition(" ") for line in done.stdout.splitlines())
        answers = {name: answer for name, _, answer in pairs}
        own = answers.pop("own-data", "")
        if own != _OPEN:
            return Findings({}, f"agents cannot reach {self._state.agents}: {own}")
        return Findings(answers)

    @contextmanager
    def _scene(self) -> Iterator[tuple[Path, Path, Path, int]]:
        secret = self.sibling / "data" / "secret"
        control = self._state.run / "canary.sock"
        policy = self._state.tmp / "canary.policy"
        with ExitStack() as undo:
            undo.callback(self._clear, control, policy)
            self._clear(control, policy)
            own, other = self._uids or (None, None)
            self._furnish(self.directory, own, "data", "tmp", "run")
            (self.directory / "code").mkdir(mode=0o755)
            self._furnish(self.sibling, other, "data")
            secret.touch(mode=0o600)
            if other is not None:
                os.chown(secret, other, other)
            for address in (str(control), f"\0{control}"):
                listener = undo.enter_context(socket.socket(socket.AF_UNIX))
                listener.bind(address)
                listener.listen()
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                closed_port = int(free.getsockname()[1])
            yield secret, policy, control, closed_port

    def _clear(self, *files: Path) -> None:
        for directory in (self.directory, self.sibling):
            with suppress(FileNotFoundError):
                shutil.rmtree(directory)
        for file in files:
            file.unlink(missing_ok=True)

    @staticmethod
    def _furnish(directory: Path, uid: int | None, *names: str) -> None:
        directory.mkdir(mode=0o750)
        for name in names:
            (directory / name).mkdir(mode=0o700)
        if uid is not None:
            os.chown(directory, -1, uid)
            for name in names:
                os.chown(directory / name, uid, uid)
