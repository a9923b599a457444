"""One build: the steps from nothing to an environment that is whole."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from packaging.utils import canonicalize_name

from deployer.environments.installers import Installer, Uv
from deployer.environments.interpreters import Interpreter
from deployer.environments.locks import Inputs, Lock, hold_to, without_hashes
from deployer.environments.runs import installer_variables, run
from deployer.environments.source_builds import SourceBuilds
from deployer.errors import InstallError, ResolutionError


@dataclass(frozen=True, slots=True)
class Built:
    """An environment that is whole.

    Attributes:
        python: The environment's own executable, to start the agent with.
        interpreter: What it was made with.
        lock_reused: Whether an earlier resolution was repeated.
        packages: Name and version of all that is installed, sorted by name.
        seconds: How long each part took: ``venv``, ``resolve``, ``install``.
    """

    python: Path
    interpreter: Interpreter
    lock_reused: bool
    packages: tuple[tuple[str, str], ...]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """Say it in one line."""
        lock = ", by an earlier lock" if self.lock_reused else ""
        count = len(self.packages)
        packages = f"{count or 'no'} package{'' if count == 1 else 's'}{lock}"
        return f"Python {self.interpreter.version}, {packages}, {sum(self.seconds.values()):.2f} s"


@dataclass(slots=True)
class Build:
    """One environment while it is made, step by step.

    Attributes:
        installer: uv or pip.
        venv: The environment, at its final path.
        lock: Where its lock is written.
        python: What it is made with.
        scratch: A private directory with an empty one, ``empty``, in it.
        log: Gets commands and output.
        canceled: Asked while a command runs; True ends it.
        deadline: By the monotonic clock.
        source_builds: Builds what has no wheel; None: nothing is built.
        seconds: How long each part took so far.
    """

    installer: Installer
    venv: Path
    lock: Path
    python: Interpreter
    scratch: Path
    log: Path
    canceled: Callable[[], bool]
    deadline: float
    source_builds: SourceBuilds | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def make_venv(self) -> None:
        """Make it, empty."""
        with self._timed("venv"):
            self._run(self.installer.venv_command(self.venv, self.python), "make an environment")

    def restart(self) -> None:
        """Begin again with an empty environment, as an installer runs in a fresh one only.

        Code that an earlier attempt installed could run otherwise: ``.pth`` files are obeyed by
        the interpreter that uv asks about an environment.
        """
        if time.monotonic() >= self.deadline:
            raise InstallError("cannot install the dependencies: out of time", cause="out of time")
        shutil.rmtree(self.scratch / "wheels", ignore_errors=True)
        self.make_venv()

    def repeat(self, lock: Lock) -> None:
        """Install what was resolved before, from the cache when that has everything."""
        try:
            self.install(lock, offline=True)
        except (ResolutionError, InstallError):
            self.restart()
            self.install(lock)

    def resolve(self, inputs: Inputs, *, refresh: bool) -> Lock:
        """Find out what to install; the environment stays empty."""
        requirements = self.scratch / "requirements.in"
        lines = (without_hashes(line) for line in inputs.requirements)
        requirements.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        with self._timed("resolve"):
            try:
                pins = self.installer.resolve(
                    self._run, self.venv, self.python, requirements, refresh=refresh
                )
            except ResolutionError:  # perhaps for want of a wheel: what has all runs no code
                if self.source_builds is None or not isinstance(self.installer, Uv):
                    raise
                pins = self.source_builds.resolve(
                    inputs,
                    self.python,
                    self.installer,
                    log=self.log,
                    deadline=self.deadline,
                    canceled=self.canceled,
                )
            else:
                pins = hold_to(pins, inputs.requirements, require_hashes=inputs.require_hashes)
        return Lock(inputs, datetime.now(UTC), pins)

    def install(self, lock: Lock, *, offline: bool = False) -> None:
        """Write a lock, and install it into the empty environment.

        Args:
            lock: What to install.
            offline: From the cache, or fail.
        """
        lock.write(self.lock)
        if lock.pins:
            with self._timed("install"):
                self.installer.install(
                    self._run, self.venv, self.lock, self.scratch, offline=offline
                )

    def result(self, *, lock_reused: bool) -> Built:
        """Tell what came of it."""
        return Built(
            python=self.venv / "bin" / "python",
            interpreter=self.python,
            lock_reused=lock_reused,
            packages=list_packages(self.venv),
            seconds=self.seconds,
        )

    def _run(self, command: Sequence[str], doing: str) -> None:
        run(
            command,
            doing=doing,
            cwd=self.scratch / "empty",
            variables=installer_variables(os.environ, self.scratch),
            log=self.log,
            timeout_seconds=self.deadline - time.monotonic(),
            canceled=self.canceled,
        )

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.monotonic() - began


def list_packages(venv: Path) -> tuple[tuple[str, str], ...]:
    """List name and version of all that is installed, without running anything of it."""
    found = metadata.distributions(path=[str(site) for site in site_packages(venv)])
    return tuple(sorted((canonicalize_name(each.name), each.version) for each in found))


def site_packages(venv: Path) -> list[Path]:
    """Find where packages are installed."""
    return sorted(venv.glob("lib/*/site-packages"))
