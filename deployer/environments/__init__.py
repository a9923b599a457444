"""Environments: a release's virtual environment, filled from a lock that stays with the release."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from deployer import faults
from deployer.environments.builds import Build, Built, list_packages
from deployer.environments.indexes import read_sources
from deployer.environments.installers import (
    Installer,
    Pip,
    Uv,
    find_pip,
    find_uv,
    identify_installer,
)
from deployer.environments.interpreters import (
    Found,
    Interpreter,
    choose_interpreter,
    find_interpreters,
    unreachable_by,
)
from deployer.environments.locks import Inputs, Lock, Pin, find_reusable_lock, read_lock
from deployer.environments.runs import installer_variables, run
from deployer.environments.shared import SharedEnvironments, key_of
from deployer.environments.source_builds import BUILD_PROGRAM, Reach, Site, SourceBuilds
from deployer.errors import InstallError, InterpreterUnavailableError, ResolutionError
from deployer.trees import delete_tree

__all__ = [
    "BUILD_PROGRAM",
    "Built",
    "Environments",
    "InstallerSettings",
    "Reach",
    "Resolved",
    "SharedEnvironments",
    "Site",
    "SourceBuilds",
]


@dataclass(frozen=True, slots=True)
class InstallerSettings:
    """What an operator decides about installing.

    Attributes:
        cache_dir: The installer's cache; best on the file system of the environments.
        tmp: Where private directories are made for the time of one build.
        installer: uv, or pip, which also stands in where there is no uv.
        index_url: The package index; None: PyPI. May hold a user and a password.
        extra_index_urls: Asked before it. May hold users and passwords.
        find_links: Directories or addresses with wheels.
        exclude_newer: An RFC 3339 date; dependencies uploaded later do not exist.
        require_hashes: Nothing is installed whose hash the requirements do not give.
        lock_max_age_seconds: How long a lock is used again for equal requirements.
        install_seconds: How long one build may take in all.
        python_search: Where to look for interpreters before PATH.
        python_downloads: Whether uv may download an interpreter that is missing.
        pythons: Where it puts those; None: in the cache, which only the server can reach.
    """

    cache_dir: Path
    tmp: Path
    installer: Literal["uv", "pip"] = "uv"
    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    exclude_newer: str | None = None
    require_hashes: bool = False
    lock_max_age_seconds: float = 86400.0
    install_seconds: float = 600.0
    python_search: tuple[Path, ...] = ()
    python_downloads: bool = False
    pythons: Path | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """What would be installed.

    Attributes:
        pins: Every dependency at its version, sorted.
        lock_reused: Whether an earlier resolution would be repeated.
        cached: Whether nothing would have to be downloaded; None: nothing to install, or pip, which
            cannot tell.
        environment_reused: Whether an environment that is there would be shared.
    """

    pins: tuple[Pin, ...]
    lock_reused: bool
    cached: bool | None
    environment_reused: bool = False


class Environments:
    """Makes environments; safe to use from several threads at once."""

    def __init__(
        self,
        settings: InstallerSettings,
        source_builds: SourceBuilds | None = None,
        shared: SharedEnvironments | None = None,
    ) -> None:
        """Install as the settings say.

        Args:
            settings: What the operator decides.
            source_builds: Builds what has no wheel; None: that is refused.
            shared: Environments that releases may have in common; None: each gets its own.
        """
        self._shared = shared
        self._settings = settings
        self._source_builds = source_builds
        self._sources = read_sources(
            settings.index_url,
            settings.extra_index_urls,
            settings.find_links,
            settings.exclude_newer,
        )
        self._uv = find_uv() if settings.installer == "uv" else None
        self._identity = identify_installer(self._uv)
        self._pythons = settings.pythons or settings.cache_dir / "pythons"

    def choose_python(self, specifier: str | None, *, uid: int | None = None) -> Interpreter:
        """Choose the interpreter for an agent: the first that fits and that it can reach.

        Args:
            specifier: Versions after PEP 440; None: any.
            uid: The user that the agent runs as; None: the server's.

        Raises:
            InterpreterUnavailableError: There is none, nor could one be downloaded.
        """

        def obstacle(python: Interpreter) -> str | None:
            return unreachable_by(python.path, uid) or unreachable_by(python.stdlib, uid)

        try:
            return choose_interpreter(specifier, self._interpreters(), obstacle=obstacle)
        except InterpreterUnavailableError as error:
            if not self._settings.python_downloads or self._uv is None:
                raise
            self._download_python(self._uv, specifier, error)
        return choose_interpreter(specifier, self._interpreters(), obstacle=obstacle)

    def build(  # noqa: PLR0913  # each is a fact of one release; a bundle would only rename them
        self,
        venv: Path,
        lock: Path,
        requirements: Sequence[str],
        python: Interpreter,
        *,
        log: Path,
        earlier_locks: Iterable[Path] = (),
        own_lock: Path | None = None,
        refresh: bool = False,
        canceled: Callable[[], bool] = lambda: False,
    ) -> Built:
        """Make an environment at its final path, with its dependencies.

        Whoever calls owns both paths, and deletes them when this fails.

        Args:
            venv: Where; anything there is replaced. A link, where environments are shared.
            lock: Where the lock is written; nothing is without requirements.
            requirements: Normalised lines, with the hashes that an author gave.
            python: What to make it with.
            log: Gets the commands and their output appended.
            earlier_locks: Locks of other releases, best first. The first that was made from the
                same inputs, and is young enough, is installed again, offline if possible.
            own_lock: The lock to install whatever its age and inputs, for a rollback; it may be
                missing when there are no requirements.
            refresh: Resolve anew, with nothing taken from earlier locks or the cached index.
            canceled: Asked ten times a second; True ends the build.

        Raises:
            ResolutionError: The requirements cannot be met.
            NoSpaceError: The disk is full.
            InstallError: It failed for another reason, or took too long.
            DeploymentCanceledError: canceled said so.
        """
        lines = tuple(sorted(set(requirements)))
        inputs = self._inputs(lines, python)
        with self._begin(python, log, canceled, lock=lock) as build:
            if own_lock is not None:
                own = _own_lock(own_lock, is_needed=bool(requirements))
                return self._provide(build, venv, own, inputs, lock_reused=own is not None)
            if not lines:
                return self._provide(build, venv, None, inputs, lock_reused=False)
            earlier = None if refresh else self._reusable(earlier_locks, inputs)
            if earlier is not None:
                # Or a file is gone or was replaced: what is there now counts.
                with suppress(ResolutionError, InstallError):
                    return self._provide(build, venv, earlier, inputs, lock_reused=True)
            resolved = build.resolve(inputs, refresh=refresh)
            return self._provide(build, venv, resolved, inputs, lock_reused=False)

    def _provide(
        self, build: Build, venv: Path, lock: Lock | None, inputs: Inputs, *, lock_reused: bool
    ) -> Built:
        """Have an environment with what a lock names: the one that is there, or a new one.

        Args:
            build: Under way.
            venv: Where a release looks for its environment.
            lock: What to install; None: nothing.
            inputs: What was asked for.
            lock_reused: Whether the lock was made before.
        """
        if lock is not None:
            lock.write(build.lock)
        delete_tree(venv)
        key = None if self._shared is None else self._key(lock, inputs, build.python)
        if self._shared is None or key is None:
            build.fill(venv, lock)
            return _built(build, venv, list_packages(venv), lock_reused=lock_reused)
        with self._shared.hold(key, deadline=build.deadline, canceled=build.canceled):
            found = self._shared.find(key)
            is_new = found is None
            if found is not None:
                build.say(f"all of it is in {found.path} already")
            else:
                place = self._shared.choose_path(key)
                try:
                    build.fill(place, lock)
                    faults.reach("environments.fill")
                    found = self._shared.finish(place, list_packages(place))
                except BaseException:
                    with suppress(OSError):  # the next start removes what is not whole
                        delete_tree(place)
                    raise
            venv.symlink_to(found.path)
            faults.reach("environments.share")
        built = _built(build, venv, found.packages, lock_reused=lock_reused)
        return replace(built, environment_reused=not is_new, seal=found.seal)

    def resolve(
        self,
        requirements: Sequence[str],
        python: Interpreter,
        *,
        log: Path,
        earlier_locks: Iterable[Path] = (),
        timeout_seconds: float | None = None,
        canceled: Callable[[], bool] = lambda: False,
    ) -> Resolved:
        """Find out what `build` would install, and leave nothing behind but entries of the cache.

        Args:
            requirements: As for `build`.
            python: As for `build`.
            log: Gets the commands and their output appended.
            earlier_locks: As for `build`.
            timeout_seconds: Less than what a build may take; None: as long as that.
            canceled: As for `build`.

        Raises:
            ResolutionError: The requirements cannot be met.
            NoSpaceError: The disk is full.
            InstallError: It failed for another reason, or took too long.
            DeploymentCanceledError: canceled said so.
        """
        lines = tuple(sorted(set(requirements)))
        inputs = self._inputs(lines, python)
        if not lines:
            is_there = self._is_there(None, inputs, python)
            return Resolved(pins=(), lock_reused=False, cached=None, environment_reused=is_there)
        with self._begin(python, log, canceled, timeout_seconds=timeout_seconds) as build:
            earlier = self._reusable(earlier_locks, inputs)
            lock = earlier or build.resolve(inputs, refresh=False)
            is_there = self._is_there(lock, inputs, python)
            cached = True if is_there and lock.pins else None
            if self._uv is not None and lock.pins and not is_there:
                # Not by --dry-run: that succeeds, and only says what it would download.
                lock.write(build.lock)
                venv = build.scratch / "venv"
                build.make_venv(venv)
                try:
                    build.install(venv, offline=True)
                    cached = True
                except (ResolutionError, InstallError):
                    cached = False
            return Resolved(
                pins=lock.pins,
                lock_reused=earlier is not None,
                cached=cached,
                environment_reused=is_there,
            )

    def find_reusable_lock(
        self, candidates: Iterable[Path], requirements: Sequence[str], python: Interpreter
    ) -> Path | None:
        """Find the lock among candidates, best first, that `build` would install again."""
        lines = tuple(sorted(set(requirements)))
        inputs = self._inputs(lines, python)
        return next((path for path in candidates if self._reusable([path], inputs)), None)

    def _reusable(self, candidates: Iterable[Path], inputs: Inputs) -> Lock | None:
        return find_reusable_lock(
            candidates,
            inputs,
            at=datetime.now(UTC),
            max_age_seconds=self._settings.lock_max_age_seconds,
        )

    def _is_there(self, lock: Lock | None, inputs: Inputs, python: Interpreter) -> bool:
        """Tell whether an environment of a lock is there to be shared."""
        if self._shared is None:
            return False
        key = self._key(lock, inputs, python)
        return key is not None and self._shared.find(key) is not None

    def _key(self, lock: Lock | None, inputs: Inputs, python: Interpreter) -> str | None:
        pins = () if lock is None else lock.pins
        return key_of(pins, inputs if lock is None else lock.inputs, python, self._identity)

    def _inputs(self, lines: tuple[str, ...], python: Interpreter) -> Inputs:
        return Inputs(
            requirements=lines,
            python=python.version,
            abi=python.abi,
            indexes=(*self._sources.extra_indexes, self._sources.index or "default"),
            find_links=self._sources.find_links,
            exclude_newer=self._sources.exclude_newer,
            require_hashes=self._settings.require_hashes,
            builds=self._source_builds is not None,
        )

    def _installer(self) -> Installer:
        cache = self._settings.cache_dir
        if self._uv is not None:
            return Uv(self._uv, cache, self._sources)
        return Pip(find_pip(), cache, self._sources, os.environ.get("SSL_CERT_FILE"))

    def _interpreters(self) -> Iterator[Found]:
        path = os.environ.get("PATH", os.defpath)
        last = (self._pythons, _uv_pythons(os.environ))
        return find_interpreters(self._settings.python_search, path, last=last)

    def _download_python(
        self, uv: Path, specifier: str | None, missing: InterpreterUnavailableError
    ) -> None:
        command = Uv(uv, self._settings.cache_dir, self._sources).python_command(
            specifier or "3", self._pythons
        )
        with self._scratch() as scratch:
            try:
                run(
                    command,
                    doing="download a Python",
                    cwd=scratch / "empty",
                    # "manual" is uv's word for: only when asked for by name, as here.
                    variables={
                        **installer_variables(os.environ, scratch),
                        "UV_PYTHON_DOWNLOADS": "manual",
                    },
                    log=scratch / "log",
                    timeout_seconds=self._settings.install_seconds,
                )
            except (InstallError, ResolutionError) as error:
                raise InterpreterUnavailableError(
                    f"{missing.detail}; downloading one failed: {error.cause}",
                    cause=f"{missing.cause}; downloading one failed: {error.cause}",
                    hint=missing.hint,
                    evidence=error.evidence,
                ) from error

    @contextmanager
    def _begin(
        self,
        python: Interpreter,
        log: Path,
        canceled: Callable[[], bool],
        *,
        lock: Path | None = None,
        timeout_seconds: float | None = None,
    ) -> Iterator[Build]:
        """Begin a build, in a directory that goes with it.

        Args:
            python: As for `build`.
            log: As for `build`.
            canceled: As for `build`.
            lock: Where the lock is written; None: in that directory.
            timeout_seconds: As for `resolve`.
        """
        longest = self._settings.install_seconds
        with self._scratch() as scratch:
            yield Build(
                installer=self._installer(),
                lock=lock or scratch / "requirements.lock",
                python=python,
                scratch=scratch,
                log=log,
                canceled=canceled,
                source_builds=self._source_builds,
                deadline=time.monotonic() + min(timeout_seconds or longest, longest),
            )

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        """Make a directory for one build that only the server can read: logins lie in it."""
        self._settings.tmp.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix="install-", dir=self._settings.tmp, ignore_cleanup_errors=True
        ) as directory:
            scratch = Path(directory)
            (scratch / "empty").mkdir()
            (scratch / ".netrc").write_text(self._sources.netrc, encoding="utf-8")
            (scratch / ".netrc").chmod(0o600)  # Python's netrc refuses what others can read
            yield scratch


def _built(
    build: Build, venv: Path, packages: tuple[tuple[str, str], ...], *, lock_reused: bool
) -> Built:
    return Built(
        python=venv / "bin" / "python",
        interpreter=build.python,
        lock_reused=lock_reused,
        packages=packages,
        seconds=build.seconds,
    )


def _own_lock(path: Path, *, is_needed: bool) -> Lock | None:
    lock = read_lock(path)
    if lock is None and is_needed:
        raise InstallError(
            f"cannot install the dependencies again: {path} is missing or damaged",
            cause="the release's lock is missing or damaged",
            hint="deploy the package anew",
        )
    return lock


def _uv_pythons(environ: Mapping[str, str]) -> Path:
    """Where uv keeps its interpreters (docs.astral.sh/uv/concepts/python-versions)."""
    if own := environ.get("UV_PYTHON_INSTALL_DIR"):
        return Path(own)
    data = environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "uv" / "python"
