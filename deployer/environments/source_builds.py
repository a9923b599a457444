"""Source distributions, resolved and built where their code can reach nothing but its own home.

Building runs code of whoever wrote a dependency. So uv resolves and pip builds inside a sandbox,
each by the launcher that agents are started with. What comes out is wheels, and a text that says
which: both are judged as if a stranger had sent them, and are installed outside like all wheels.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from deployer import launcher
from deployer.environments.indexes import Sources
from deployer.environments.installers import Uv, copy_pip
from deployer.environments.interpreters import Interpreter
from deployer.environments.locks import Inputs, Pin, hold_to, parse_pins, without_hashes
from deployer.environments.runs import installer_variables, run
from deployer.errors import DeploymentCanceledError, InstallError
from deployer.launch_policies import LaunchPolicy, ResourceLimits, Sandbox, policy_bytes
from deployer.requirements import parse_requirement

BUILD_PROGRAM: Final = "build--0"
"""What builds are called where programs have names; releases are numbered from 1."""

_LARGEST_LIST: Final = 4 * 1024**2
_LARGEST_WHEEL: Final = 1024**3
_WHEEL: Final = re.compile(r"[A-Za-z0-9_.+!-]+\.whl")
_MOST_WHEELS: Final = 1000
_CHUNK: Final = 1024**2
_LOOK_SECONDS: Final = 0.1
_NO_PORT: Final = 1  # what the launcher lets it bind: a privileged one


@dataclass(frozen=True, slots=True)
class Site:
    """Where source is built: remade for each build, and gone after it.

    Attributes:
        root: The server's; everybody may pass through it.
    """

    root: Path

    @property
    def home(self) -> Path:
        """All that a build may write."""
        return self.root / "home"

    @property
    def tools(self) -> Path:
        """uv, pip, the environment that builds run in, and what is to be built; never written."""
        return self.root / "tools"


@dataclass(frozen=True, slots=True)
class Reach:
    """What a build must reach beside its site, to read.

    Attributes:
        python: The interpreter, absolute and without symlinks.
        sources: Local directories that dependencies come from.
    """

    python: Path
    sources: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class SourceBuilds:
    """Builds source, one at a time: two builds of one user could reach each other.

    Attributes:
        site: Where.
        kept: Where wheels go that were built, each in a directory named by its SHA-256.
        confine: Says what a build can reach.
        marker: The variable that says whose build it is, as other servers' builds may have the same
            user.
        resources: How a build is held to what it may use.
        end_processes: Ends whatever a build has left running, given its user, if it has one of its
            own.
        guard: Held by the build that is under way.
    """

    site: Site
    kept: Path
    confine: Callable[[Site, Reach], Sandbox]
    marker: Mapping[str, str]
    resources: ResourceLimits
    end_processes: Callable[[int | None], object]
    guard: threading.Lock

    def resolve(
        self,
        inputs: Inputs,
        python: Interpreter,
        uv: Uv,
        *,
        log: Path,
        deadline: float,
        canceled: Callable[[], bool],
    ) -> tuple[Pin, ...]:
        """Find one version of everything that fits together, and build what has no wheel.

        Args:
            inputs: What is asked for.
            python: What it is for.
            uv: As it is used outside.
            log: Gets commands and output appended.
            deadline: By the monotonic clock.
            canceled: Asked while a command runs; True ends it.

        Returns:
            A pin each, held to the author's hashes; those built here by the path of their wheel.

        Raises:
            ResolutionError: The requirements cannot be met, or do not build.
            InstallError: It failed otherwise, or took too long.
            NoSpaceError: The disk is full.
            DeploymentCanceledError: canceled said so.
        """
        with self._turn(deadline, canceled):
            build = _Build(self, python, uv, log, deadline, canceled)
            try:
                build.furnish(uv)
                return build.resolve(inputs)
            finally:
                build.end()

    @contextmanager
    def _turn(self, deadline: float, canceled: Callable[[], bool]) -> Iterator[None]:
        """Wait for the build under way, as long as there is time."""
        while not self.guard.acquire(timeout=_LOOK_SECONDS):
            if canceled():
                raise DeploymentCanceledError(
                    "cannot build the dependencies: canceled", cause="canceled"
                )
            if time.monotonic() >= deadline:
                raise InstallError(
                    "cannot build the dependencies: another deployment was building all the time",
                    cause="source is being built for another deployment",
                    hint="deploy again once that is done",
                )
        try:
            yield
        finally:
            self.guard.release()


class _Build:
    """One build under way."""

    def __init__(
        self,
        builds: SourceBuilds,
        python: Interpreter,
        uv: Uv,
        log: Path,
        deadline: float,
        canceled: Callable[[], bool],
    ) -> None:
        self._builds = builds
        self._site = builds.site
        self._python = python
        self._log = log
        self._deadline = deadline
        self._canceled = canceled
        self._sources = replace(uv.sources, builds=True)
        self._uv = Uv(self._site.tools / "uv", self._site.home / "cache", self._sources)
        reach = Reach(Path(os.path.realpath(python.path)), _local(uv.sources))
        self._sandbox = builds.confine(self._site, reach)

    def resolve(self, inputs: Inputs) -> tuple[Pin, ...]:
        home, tools = self._site.home, self._site.tools
        wanted = tools / "requirements.in"
        _write(wanted, [without_hashes(line) for line in inputs.requirements])
        resolved = home / "resolved.txt"
        self._run(
            self._uv.compile_command(self._python, wanted, resolved), "resolve the dependencies"
        )
        pins = hold_to(take_list(resolved), inputs.requirements)
        listed = tools / "requirements.lock"
        _write(listed, [" ".join((pin.requirement, *_hash_words(pin))) for pin in pins])
        wheels = home / "wheels"
        command = [str(tools / "venv" / "bin" / "python"), "-I", str(tools / "pip"), "wheel"]
        options = ["--isolated", "--no-input", "--no-color", "--disable-pip-version-check"]
        places = ["--no-cache-dir", "--wheel-dir", str(wheels), "-r", str(listed)]
        held = ["--no-deps", "--require-hashes", "--progress-bar", "off"]
        self._run([*command, *options, *held, *self._index_words(), *places], "build dependencies")
        self._end_processes()  # before what they made is looked at
        return take_wheels(pins, wheels, self._builds.kept)

    def end(self) -> None:
        """Leave nothing of it, neither process nor file."""
        self._end_processes()
        shutil.rmtree(self._site.root, ignore_errors=True)

    def furnish(self, uv: Uv) -> None:
        """Put what a build needs in its place."""
        site = self._site
        shutil.rmtree(site.root, ignore_errors=True)
        for directory in (site.root, site.tools, site.home):
            directory.mkdir(parents=True, mode=0o755)
            directory.chmod(0o755)
        site.home.chmod(0o700)
        shutil.copy(uv.binary, site.tools / "uv")
        (site.tools / "uv").chmod(0o755)
        copy_pip(site.tools / "pip")
        if authority := os.environ.get("SSL_CERT_FILE"):
            shutil.copy(authority, site.tools / "ca.pem")
            (site.tools / "ca.pem").chmod(0o644)
        with tempfile.TemporaryDirectory(dir=site.root) as scratch:
            run(
                uv.venv_command(site.tools / "venv", self._python),
                doing="make an environment",
                cwd=Path(scratch),
                variables=installer_variables(os.environ, Path(scratch)),
                log=self._log,
                timeout_seconds=self._seconds_left("make an environment"),
                canceled=self._canceled,
            )
        for name in ("tmp", "empty"):
            (site.home / name).mkdir()
        uid = self._sandbox.uid
        if uid is not None:
            for directory in (site.home / "tmp", site.home / "empty", site.home):
                os.chown(directory, uid, uid)

    def _run(self, command: Sequence[str], doing: str) -> None:
        policy = LaunchPolicy(
            program=BUILD_PROGRAM,
            executable=Path(command[0]),
            arguments=tuple(command[1:]),
            directory=self._site.home / "empty",
            port=_NO_PORT,
            variables=self._variables(),
            umask=0o022,
            resources=self._builds.resources,
            sandbox=self._sandbox,
        )
        with tempfile.NamedTemporaryFile(dir=self._site.root) as file:  # 0600: the server's alone
            file.write(policy_bytes(policy))
            file.flush()
            launched = [sys.executable, "-I", "-S", launcher.__file__, str(_NO_PORT), file.name]
            run(
                launched,
                doing=doing,
                cwd=Path("/"),
                variables={},
                log=self._log,
                timeout_seconds=self._seconds_left(doing),
                canceled=self._canceled,
            )

    def _seconds_left(self, doing: str) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise InstallError(f"cannot {doing}: out of time", cause="out of time")
        return left

    def _variables(self) -> Mapping[str, str]:
        """Choose what a build is told: as an installer outside, but without any login."""
        home = self._site.home
        variables = {**installer_variables(os.environ, home), "TMPDIR": str(home / "tmp")}
        variables |= self._builds.marker
        if "SSL_CERT_FILE" in variables:
            # One file for uv and pip, in a place that the sandbox shows.
            authority = str(self._site.tools / "ca.pem")
            variables |= {"SSL_CERT_FILE": authority, "PIP_CERT": authority}
        return variables

    def _index_words(self) -> list[str]:
        sources = self._sources
        words = [] if sources.index is None else ["--index-url", sources.index]
        return words + [word for link in sources.find_links for word in ("--find-links", link)]

    def _end_processes(self) -> None:
        self._builds.end_processes(self._sandbox.uid)


def _local(sources: Sources) -> tuple[Path, ...]:
    """List the directories among sources."""
    places = (*filter(None, [sources.index]), *sources.extra_indexes, *sources.find_links)
    local = (place.removeprefix("file://") for place in places if place.startswith(("/", "file:/")))
    return tuple(Path(place).resolve() for place in local)


def _write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    path.chmod(0o644)


def _hash_words(pin: Pin) -> list[str]:
    return [f"--hash={digest}" for digest in pin.hashes]


def _open(path: Path, largest: int, folder: int | None = None) -> int:
    """Open a file that strangers made, if it is one; a pipe or a link could lead anywhere.

    Args:
        path: The file.
        largest: How many bytes it may have.
        folder: Where it lies, open already: only the file's name counts then.

    Raises:
        InstallError: It is none, or too large.
    """
    try:
        name = path if folder is None else path.name
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=folder)
    except OSError as error:
        raise _odd(path, error.strerror or "unreadable") from error
    status = os.fstat(descriptor)
    # A second name could be that of somebody else's file.
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1 or status.st_size > largest:
        os.close(descriptor)
        raise _odd(path, f"no file of at most {largest} bytes")
    return descriptor


def take_list(path: Path) -> tuple[Pin, ...]:
    """Read pins that a build may have written: nothing but names, versions and hashes.

    Raises:
        InstallError: There is anything else; an installer outside would obey it.
    """
    with os.fdopen(_open(path, _LARGEST_LIST), "rb") as file:
        pins = parse_pins(file.read(_LARGEST_LIST).decode("utf-8", "replace"))
    for pin in pins:
        try:
            parsed = parse_requirement(" ".join((pin.requirement, *_hash_words(pin))))
        except ValueError as error:
            raise _odd(path, str(error)) from error
        if "==" not in parsed.text or not parsed.hashes:
            raise _odd(path, f"{pin.requirement!r} has no version or no hash")
    return pins


def take_wheels(pins: Sequence[Pin], directory: Path, kept: Path) -> tuple[Pin, ...]:
    """Take the wheels that were asked for out of a sandbox, one a pin.

    Args:
        pins: What was asked for.
        directory: Where a build has left them; anything may lie there.
        kept: Where those go that the index does not have, each below its SHA-256.

    Returns:
        A pin each.

    Raises:
        InstallError: One is missing, or something is there that is no plain wheel.
    """
    try:
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _odd(directory, error.strerror or "unreadable") from error
    try:
        wheels = {_named(each): each for each in islice(_names(folder), _MOST_WHEELS)}
        collected = []
        for pin in pins:
            name, version = pin.named
            wheel = wheels.get((name, version))
            if wheel is None:
                raise _odd(directory, f"there is no wheel of {pin.requirement}")
            digest, path = _keep(
                _open(Path(wheel), _LARGEST_WHEEL, folder), wheel, kept, pin.hashes
            )
            requirement = pin.requirement if path is None else f"{name} @ file://{path}"
            collected.append(Pin(requirement, pin.hashes if path is None else (digest,)))
    finally:
        os.close(folder)
    return tuple(collected)


def _names(folder: int) -> Iterator[str]:
    with os.scandir(folder) as entries:
        yield from (entry.name for entry in entries)


def _named(wheel: str) -> tuple[str, str]:
    # The parser of names lets line breaks through, and this one becomes part of a lock.
    if not _WHEEL.fullmatch(wheel):
        raise _odd(Path(ascii(wheel)), "no name of a wheel")
    try:
        name, version, _, _ = parse_wheel_filename(wheel)
    except InvalidWheelFilename as error:
        raise _odd(Path(wheel), "no wheel") from error
    return str(name), str(version)


def _keep(descriptor: int, name: str, kept: Path, known: Sequence[str]) -> tuple[str, Path | None]:
    """Copy a wheel out of the sandbox, unless it is one that the index has.

    Args:
        descriptor: The wheel, open; closed here.
        name: Of its file.
        kept: Where it goes, below its hash.
        known: Hashes of what the index has.

    Returns:
        Its hash, and where it is kept.
    """
    kept.mkdir(parents=True, exist_ok=True)
    sha256 = hashlib.sha256()
    with (
        os.fdopen(descriptor, "rb") as source,
        tempfile.NamedTemporaryFile(dir=kept, delete=False) as copy,
    ):
        try:
            while chunk := source.read(_CHUNK):
                sha256.update(chunk)
                copy.write(chunk)
            digest = f"sha256:{sha256.hexdigest()}"
            if digest in known:
                Path(copy.name).unlink()
                return digest, None
            target = kept / sha256.hexdigest() / name
            target.parent.mkdir(exist_ok=True)
            copy.flush()
            Path(copy.name).replace(target)
        except BaseException:
            Path(copy.name).unlink(missing_ok=True)
            raise
    return digest, target


def _odd(path: Path, why: str) -> InstallError:
    return InstallError(
        f"cannot take what was built: {path.name}: {why}",
        cause=f"a build left {path.name}: {why}",
        hint="a dependency without a wheel does something odd while it is built",
    )
