"""uv and pip as lists of words: how each makes an environment, resolves, and installs a lock.

Both are told everything on the command line and read no configuration. Both install wheels only:
building a source distribution runs its author's code as the server's user.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Protocol

from deployer.environments.indexes import Sources
from deployer.environments.interpreters import Interpreter
from deployer.environments.locks import Pin, parse_pins, pins_of_report
from deployer.errors import InstallError

Run = Callable[[Sequence[str], str], None]
"""Runs a command; the second argument says what for, behind "cannot"."""


class Installer(Protocol):
    """What makes environments: uv, or pip where uv is not to be had."""

    @property
    def resolves_in_venv(self) -> bool:
        """Whether resolving needs an environment, an empty one."""
        ...

    def venv_command(self, venv: Path, python: Interpreter) -> list[str]:
        """Make an empty environment, in place of whatever is there."""
        ...

    def resolve(
        self, run: Run, venv: Path, python: Interpreter, requirements: Path, *, refresh: bool
    ) -> tuple[Pin, ...]:
        """Find one version of everything that fits together, for this Python on this machine.

        Args:
            run: Runs a command.
            venv: An empty environment, where `resolves_in_venv` says so.
            python: What it is for.
            requirements: A file in a private directory, where more files may be put.
            refresh: Ask the index anew, whatever the cache says.
        """
        ...

    def install(self, run: Run, venv: Path, lock: Path, scratch: Path, *, offline: bool) -> None:
        """Install exactly a lock into the empty environment.

        Args:
            run: Runs a command.
            venv: The empty environment.
            lock: Requirements with hashes.
            scratch: A private directory, where files may be put.
            offline: Take everything from the cache, or fail.
        """
        ...


@dataclass(frozen=True, slots=True)
class Uv:
    """uv, from its wheel on PyPI.

    Attributes:
        binary: The executable.
        cache: Its cache; on the file system of the environments, so that it can link.
        sources: Where dependencies come from.
    """

    binary: Path
    cache: Path
    sources: Sources

    @property
    def resolves_in_venv(self) -> bool:
        """It asks the interpreter itself."""
        return False

    def venv_command(self, venv: Path, python: Interpreter) -> list[str]:
        """Make an empty environment: 10 ms, of which uv's own start takes half."""
        words = self._words("venv", "--no-project", "--clear", "--offline", "--quiet")
        return [*words, "--python", str(python.path), str(venv)]

    def compile_command(
        self, python: Interpreter, requirements: Path, output: Path, *, refresh: bool = False
    ) -> list[str]:
        """Resolve into a file with hashes.

        The base interpreter is asked, not the environment's: uv has its answers in the cache.
        """
        words = self._words("pip", "compile", "--generate-hashes", "--no-header", "--no-annotate")
        refreshing = ["--refresh"] if refresh else []
        asked = ["--python", str(python.path), "--output-file", str(output), str(requirements)]
        return [*words, "--quiet", *self._source_words(), *refreshing, *asked]

    def sync_command(self, venv: Path, lock: Path, *, offline: bool = False) -> list[str]:
        """Install a lock.

        Hard links cost nothing, but they are the cache's own files: nobody may ever change owner
        or content of what is installed.
        """
        words = self._words("pip", "sync", "--require-hashes", "--link-mode", "hardlink")
        mode = ["--offline"] if offline else []
        # An exported UV_PYTHON would win over the environment, so it is always named.
        target = ["--python", str(venv / "bin" / "python"), str(lock)]
        return [*words, *self._source_words(), *mode, *target]

    def python_command(self, wanted: str, directory: Path) -> list[str]:
        """Download an interpreter, for a server whose settings allow it."""
        words = [str(self.binary), "python", "install", "--no-config", "--no-bin", "--no-progress"]
        places = ["--cache-dir", str(self.cache), "--install-dir", str(directory)]
        return [*words, "--color", "never", *places, wanted]

    def resolve(
        self, run: Run, venv: Path, python: Interpreter, requirements: Path, *, refresh: bool
    ) -> tuple[Pin, ...]:
        """Resolve; nothing is installed and, but for refresh, most comes from the cache."""
        del venv
        output = requirements.with_name("resolved.txt")
        command = self.compile_command(python, requirements, output, refresh=refresh)
        run(command, "resolve the dependencies")
        return parse_pins(output.read_text(encoding="utf-8"))

    def install(self, run: Run, venv: Path, lock: Path, scratch: Path, *, offline: bool) -> None:
        """Install a lock in one command."""
        del scratch
        run(self.sync_command(venv, lock, offline=offline), "install the dependencies")

    def _words(self, *words: str) -> list[str]:
        quiet = ("--no-config", "--no-progress", "--color", "never", "--no-python-downloads")
        return [str(self.binary), *words, *quiet, "--cache-dir", str(self.cache)]

    def _source_words(self) -> list[str]:
        """Say where from; resolving and installing under different words could differ."""
        sources = self.sources
        words = [] if sources.builds else ["--no-build"]
        words += ["--index-strategy", "first-index"]
        if sources.index is not None:
            words += ["--default-index", sources.index]
        for index in sources.extra_indexes:
            words += ["--index", index]
        for link in sources.find_links:
            words += ["--find-links", link]
        if sources.exclude_newer is not None:
            words += ["--exclude-newer", sources.exclude_newer]
        return words


@dataclass(frozen=True, slots=True)
class Pip:
    """The server's own pip, working on other environments by ``--python``.

    The environments have no pip of their own: that would cost 3 s each, and Debian's Python
    cannot make such ones without another system package.

    Attributes:
        words: How pip is started.
        cache: Its cache, and ours of wheels by their SHA-256: pip itself cannot work offline.
        sources: Where dependencies come from.
        certificates: A CA bundle; pip does not read SSL_CERT_FILE.
    """

    words: tuple[str, ...]
    cache: Path
    sources: Sources
    certificates: str | None = None

    @property
    def resolves_in_venv(self) -> bool:
        """It has to run in one, or on one."""
        return True

    def venv_command(self, venv: Path, python: Interpreter) -> list[str]:
        """Make an empty environment by the standard library."""
        return [str(python.path), "-I", "-m", "venv", "--clear", "--without-pip", str(venv)]

    def compile_command(self, venv: Path, requirements: Path, report: Path) -> list[str]:
        """Resolve into an installation report, without installing."""
        words = ["install", "--dry-run", "--ignore-installed", "--report", str(report)]
        return [*self._words(venv), *words, *self._source_words(), "-r", str(requirements)]

    def download_command(self, venv: Path, lock: Path, wheels: Path) -> list[str]:
        """Download the files of a lock into a directory."""
        words = ["download", "--no-deps", "--require-hashes", "--dest", str(wheels)]
        return [*self._words(venv), *words, *self._source_words(), "-r", str(lock)]

    def sync_command(self, venv: Path, lock: Path, wheels: Path) -> list[str]:
        """Install a lock from a directory of wheels."""
        words = ["install", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
        places = ["--no-compile", "--no-index", "--find-links", str(wheels), "-r", str(lock)]
        return [*self._words(venv), *words, *places]

    def resolve(
        self, run: Run, venv: Path, python: Interpreter, requirements: Path, *, refresh: bool
    ) -> tuple[Pin, ...]:
        """Resolve; pip asks the index anew each time, so refresh changes nothing."""
        del python, refresh
        if self.sources.exclude_newer is not None:
            raise InstallError(
                "cannot resolve the dependencies: pip cannot honour exclude_newer",
                cause="pip cannot honour exclude_newer",
                hint="install uv, or remove exclude_newer from the settings",
            )
        if self.sources.extra_indexes:
            # pip takes the highest version that any of them has: whoever registers a private
            # name on the public index would be installed in its place.
            raise InstallError(
                "cannot resolve the dependencies: pip cannot hold a name to the first index",
                cause="pip cannot hold a name to the first index",
                hint="install uv, or remove extra_index_urls from the settings",
            )
        report = requirements.with_name("report.json")
        run(self.compile_command(venv, requirements, report), "resolve the dependencies")
        return pins_of_report(json.loads(report.read_text(encoding="utf-8")))

    def install(self, run: Run, venv: Path, lock: Path, scratch: Path, *, offline: bool) -> None:
        """Gather the wheels of a lock, from our cache or the index, and install those."""
        wheels = scratch / "wheels"
        wheels.mkdir(exist_ok=True)
        kept = self.cache / "wheels"
        if offline:
            for pin in parse_pins(lock.read_text(encoding="utf-8")):
                digests = [digest.removeprefix("sha256:") for digest in pin.hashes]
                found = [wheel for digest in digests for wheel in (kept / digest).glob("*.whl")]
                if not found:  # pip takes a second to find that out
                    raise InstallError(
                        f"cannot install the dependencies: {pin.requirement} is not in the cache",
                        cause=f"{pin.requirement} is not in the cache",
                    )
                for wheel in found:
                    shutil.copyfile(wheel, wheels / wheel.name)
        else:
            run(self.download_command(venv, lock, wheels), "download the dependencies")
            for wheel in wheels.glob("*.whl"):
                _keep(wheel, kept)
        run(self.sync_command(venv, lock, wheels), "install the dependencies")

    def _words(self, venv: Path) -> list[str]:
        places = ["--python", str(venv / "bin" / "python"), "--cache-dir", str(self.cache / "pip")]
        quiet = ["--no-input", "--no-color", "--disable-pip-version-check", "--retries", "2"]
        trusted = ["--cert", self.certificates] if self.certificates else []
        return [*self.words, "--isolated", *places, *quiet, *trusted]

    def _source_words(self) -> list[str]:
        words = ["--only-binary", ":all:", "--progress-bar", "off"]
        if self.sources.index is not None:
            words += ["--index-url", self.sources.index]
        for link in self.sources.find_links:
            words += ["--find-links", link]
        return words


def find_uv() -> Path | None:
    """Find the uv that belongs to this server's own Python; None when there is none."""
    try:
        from uv import find_uv_bin  # noqa: PLC0415  # a machine without uv has pip

        return Path(find_uv_bin())
    except (ImportError, FileNotFoundError):
        return None


def identify_installer(uv: Path | None) -> str:
    """Say which uv there is, or that it is pip: what it makes may depend on that."""
    name = "pip" if uv is None else "uv"
    try:
        return f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:  # the pip of ensurepip comes with our own Python
        return f"{name} {sys.version}"


def find_pip() -> tuple[str, ...]:
    """Find a pip that this server's own Python can run: installed, or kept for ``ensurepip``.

    Returns:
        The words that start it.

    Raises:
        InstallError: There is none.
    """
    python = (sys.executable, "-I")
    if importlib.util.find_spec("pip") is not None:
        return (*python, "-m", "pip")
    spec = importlib.util.find_spec("ensurepip")
    if spec is not None and spec.origin is not None:
        for wheel in Path(spec.origin).parent.glob("_bundled/pip-*.whl"):
            return (*python, str(wheel / "pip"))
    raise InstallError(
        f"cannot install dependencies: {sys.executable} has neither uv nor pip",
        cause="neither uv nor pip is there",
        hint="install uv into the server's environment",
    )


def copy_pip(directory: Path) -> None:
    """Copy the code of a pip, to be run as ``python DIRECTORY``.

    Raises:
        InstallError: There is none.
    """
    spec = importlib.util.find_spec("pip")
    if spec is not None and spec.origin is not None:
        shutil.copytree(Path(spec.origin).parent, directory)  # with its bytecode: 3 s less
        return
    wheel = Path(find_pip()[-1]).parent
    with tempfile.TemporaryDirectory(dir=directory.parent) as unpacked:
        shutil.unpack_archive(wheel, unpacked, "zip")
        (Path(unpacked) / "pip").replace(directory)


def _keep(wheel: Path, directory: Path) -> None:
    """Put a wheel into our cache; whole or not, as other installs read there meanwhile."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    kept = directory / digest / wheel.name
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as half:
            half.write(wheel.read_bytes())
        Path(half.name).replace(kept)
