"""One build: the steps from nothing to an environment that is whole."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from email.parser import BytesHeaderParser
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
        environment_reused: Whether it was there already, made for another release.
        packages: Name and version of all that is installed, sorted by name.
        seal: What it was when it was made, for `deployer.seals`; None: it is the release's own.
        seconds: How long each part took: ``venv``, ``resolve``, ``install``.
    """

    python: Path
    interpreter: Interpreter
    lock_reused: bool
    packages: tuple[tuple[str, str], ...]
    environment_reused: bool = False
    seal: Mapping[str, str] | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """Say it in one line."""
        lock = ", by an earlier lock" if self.lock_reused else ""
        count = len(self.packages)
        packages = f"{count or 'no'} package{'' if count == 1 else 's'}{lock}"
        if self.environment_reused:
            packages += ", environment reused"
        return f"Python {self.interpreter.version}, {packages}, {sum(self.seconds.values()):.2f} s"


@dataclass(slots=True)
class Build:
    """One build, step by step.

    Attributes:
        installer: uv or pip.
        lock: Where the lock is written.
        python: What environments are made with.
        scratch: A private directory with an empty one, ``empty``, in it.
        log: Gets commands and output.
        canceled: Asked while a command runs; True ends it.
        deadline: By the monotonic clock.
        source_builds: Builds what has no wheel; None: nothing is built.
        seconds: How long each part took so far.
    """

    installer: Installer
    lock: Path
    python: Interpreter
    scratch: Path
    log: Path
    canceled: Callable[[], bool]
    deadline: float
    source_builds: SourceBuilds | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def make_venv(self, venv: Path) -> None:
        """Make an environment, empty, in place of what is there.

        An installer runs in a fresh one only. Code that an earlier attempt installed could run
        otherwise: ``.pth`` files are obeyed by the interpreter that uv asks about an environment.
        """
        shutil.rmtree(self.scratch / "wheels", ignore_errors=True)
        with self._timed("venv"):
            self._run(self.installer.venv_command(venv, self.python), "make an environment")

    def resolve(self, inputs: Inputs, *, refresh: bool) -> Lock:
        """Find out what to install."""
        requirements = self.scratch / "requirements.in"
        lines = (without_hashes(line) for line in inputs.requirements)
        requirements.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        venv = self.scratch / "resolver"
        if self.installer.resolves_in_venv and not venv.exists():
            self.make_venv(venv)
        with self._timed("resolve"):
            try:
                pins = self.installer.resolve(
                    self._run, venv, self.python, requirements, refresh=refresh
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

    def fill(self, venv: Path, lock: Lock | None) -> None:
        """Make an environment with all that a lock names.

        The cache is asked first, also of what was resolved just now: uv would ask the index again
        about each dependency, which takes six times as long as installing them.

        Args:
            venv: Where; anything there is replaced.
            lock: What to install, written down already; None: nothing.
        """
        self.make_venv(venv)
        if lock is None or not lock.pins:
            return
        try:
            self.install(venv, offline=True)
        except (ResolutionError, InstallError):
            self.say("not all of it is in the cache")
            self.make_venv(venv)
            self.install(venv)

    def install(self, venv: Path, *, offline: bool = False) -> None:
        """Install the lock that was written into an empty environment.

        Args:
            venv: The environment.
            offline: From the cache, or fail.
        """
        with self._timed("install"):
            self.installer.install(self._run, venv, self.lock, self.scratch, offline=offline)

    def say(self, sentence: str) -> None:
        """Write something into the log that no command says."""
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"# {sentence}\n")

    def _run(self, command: Sequence[str], doing: str) -> None:
        if time.monotonic() >= self.deadline:
            raise InstallError(f"cannot {doing}: out of time", cause="out of time")
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
    files = (path for site in site_packages(venv) for path in site.glob("*.dist-info/METADATA"))
    heads = [_head(path) for path in files]
    # What is not ASCII comes as an object of its own kind, and no text.
    named = [(str(head["Name"]), str(head["Version"] or "")) for head in heads if head["Name"]]
    return tuple(sorted((canonicalize_name(name), version) for name, version in named))


def _head(path: Path) -> Message:
    """Read a dependency's metadata without the README behind, which `importlib.metadata` parses."""
    with path.open("rb") as file:
        return BytesHeaderParser().parse(file)


def site_packages(venv: Path) -> list[Path]:
    """Find where packages are installed."""
    return sorted(venv.glob("lib/*/site-packages"))
