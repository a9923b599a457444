"""Packages: ZIPs nobody has vouched for, received, judged and unpacked.

`inspect` answers everything that is wrong with a package at once, before a byte of it is unpacked;
the rules for the ZIP itself stand in `deployer.packages.archives`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final, ParamSpec, TypeVar

from deployer.errors import (
    ManifestInvalidError,
    NoSpaceError,
    PackageInvalidError,
    PackageTooLargeError,
    Problem,
    RequirementsInvalidError,
)
from deployer.manifest import LARGEST_MANIFEST, Manifest, parse_manifest
from deployer.model import Package
from deployer.packages.archives import Archive, Entry
from deployer.packages.layouts import EntryPoint, Layout, choose_entry_point, lay_out
from deployer.requirements import (
    LARGEST_FILE,
    PLAIN,
    REQUIREMENTS_NAME,
    Requirement,
    Rules,
    normalise,
    parse_requirement,
    parse_requirements,
)
from deployer.settings import LimitSettings

__all__ = ["EntryPoint", "Inspected", "Received", "inspect", "package_of", "receive", "unpack"]

_CHUNK: Final = 1024**2
_MOST_PROBLEMS: Final = 100
_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Received:
    """A package that lies in a file of its own.

    Attributes:
        path: The file, 0600.
        md5: Lower-case hex: the protocol's name for it.
        sha256: Lower-case hex: ours.
        size_bytes: Of the file.
    """

    path: Path
    md5: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Inspected:
    """A package in which nothing is wrong.

    Attributes:
        manifest: Its manifest.
        requirements: requirements.txt and ``[dependencies] packages`` as normalised lines.
        entry_point: What is started.
        files: Paths of all files as they will lie in the code directory, sorted.
        unpacked_bytes: What they take together.
    """

    manifest: Manifest
    requirements: tuple[str, ...]
    entry_point: EntryPoint
    files: tuple[str, ...]
    unpacked_bytes: int


def receive(stream: BinaryIO, directory: Path, *, max_bytes: int) -> Received:
    """Copy a package out of a stream into a new file, and compute its checksums on the way.

    Args:
        stream: Read to its end, or to the first byte too many.
        directory: Where the file is made; whoever calls owns the file from then on.
        max_bytes: The largest package that is taken.

    Returns:
        The file, written through to the disk.

    Raises:
        PackageTooLargeError: The stream has more bytes; no file is left.
        NoSpaceError: The disk is full; no file is left.
    """
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    size = 0
    # One core computes the one while the other does the rest; neither holds the interpreter up.
    with ThreadPoolExecutor(1, "checksum") as other, _told_when_full(directory):
        descriptor, name = tempfile.mkstemp(prefix="package-", suffix=".zip", dir=directory)
        path = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                while chunk := stream.read(min(_CHUNK, max_bytes + 1 - size)):
                    size += len(chunk)
                    if size > max_bytes:
                        raise PackageTooLargeError(  # noqa: TRY301  # removed like after any other
                            f"cannot take the package: it has more than {max_bytes} bytes",
                            cause=f"package larger than {max_bytes} bytes",
                            hint="leave data and models out, or raise limits.upload_bytes",
                        )
                    is_summed = other.submit(md5.update, chunk)
                    sha256.update(chunk)
                    file.write(chunk)
                    is_summed.result()
                file.flush()
                os.fsync(descriptor)
        except BaseException:
            path.unlink()
            raise
    return Received(path, md5.hexdigest(), sha256.hexdigest(), size)


def inspect(
    path: Path, limits: LimitSettings, *, has_runtime: bool, rules: Rules = PLAIN
) -> Inspected:
    """Judge a package: the ZIP, the manifest, the dependencies and what is to be started.

    Every content is decompressed once and compared with its checksum, and kept nowhere.

    Args:
        path: The ZIP.
        limits: How much is taken.
        has_runtime: Whether ATOLL's own runner is there for packages that bring no script.
        rules: What is asked of requirements.

    Returns:
        What the package holds.

    Raises:
        PackageInvalidError: Something is wrong; every problem is listed. Of a subclass when all of
            them are of one kind.
        OSError: The file cannot be read.
    """
    findings = _Findings()
    inspected: Inspected | None = None
    with Archive(path, limits) as archive:
        layout = findings.of(lay_out, archive.entries)
        if archive.problems:
            # Not what seems to be missing: that may be among the entries that break a rule.
            findings.errors[:] = [_refused(archive.problems)]
        else:  # a bomb would have been found by now
            for entry in archive.entries:
                findings.of(_read_through, archive, entry)
        if layout is not None:
            inspected = _inspect_contents(
                archive, layout, findings, has_runtime=has_runtime, rules=rules
            )
    if findings.errors or inspected is None:
        raise findings.combined()
    return inspected


def package_of(received: Received, inspected: Inspected, *, received_at: datetime) -> Package:
    """Join what was received with what was found in it.

    Args:
        received: The file.
        inspected: What it holds.
        received_at: When it came.
    """
    entry_point = inspected.entry_point
    return Package(
        md5=received.md5,
        sha256=received.sha256,
        size_bytes=received.size_bytes,
        agent=inspected.manifest.agent.name,
        version=inspected.manifest.agent.version,
        received_at=received_at,
        manifest=inspected.manifest.to_json(),
        requirements=inspected.requirements,
        entry_point=f"{entry_point.kind} {entry_point.value}",
        unpacked_bytes=inspected.unpacked_bytes,
        entries=len(inspected.files),
    )


def unpack(path: Path, target: Path, limits: LimitSettings) -> None:
    """Unpack a package into a new directory.

    Files get mode 0644, or 0755 when their owner may run them, and folders 0755; the archive
    decides nothing else about them.

    Args:
        path: The ZIP.
        target: Made here; must not exist, but the directory it lies in must.
        limits: How much is taken.

    Raises:
        PackageInvalidError: The ZIP breaks a rule or is damaged; target does not exist.
        NoSpaceError: The disk is full; target does not exist.
        OSError: Nothing can be written there; target is as it was.
    """
    with Archive(path, limits) as archive, _told_when_full(target):
        if archive.problems:
            raise _refused(archive.problems)
        layout = lay_out(archive.entries)
        _make_folder(target)
        try:
            for name in layout.folders:
                _make_folder(target / name)
            for name, entry in layout.files.items():
                _write(archive, entry, target / name)
        except BaseException:
            shutil.rmtree(target)
            raise


def _read_through(archive: Archive, entry: Entry) -> None:
    for _ in archive.content(entry):
        pass


def _read_manifest(archive: Archive, layout: Layout) -> Manifest:
    name = layout.manifest_name
    entry = layout.files[name]
    if entry.size_bytes > LARGEST_MANIFEST:
        problem = Problem(name, f"must have at most {LARGEST_MANIFEST} bytes")
        raise ManifestInvalidError(f"cannot take the package: {problem}", problems=[problem])
    return parse_manifest(b"".join(archive.content(entry)), name)


def _read_requirements(archive: Archive, layout: Layout, rules: Rules) -> tuple[Requirement, ...]:
    entry = layout.files.get(REQUIREMENTS_NAME)
    if entry is None:
        return ()
    if entry.size_bytes > LARGEST_FILE:
        problem = Problem(REQUIREMENTS_NAME, f"must have at most {LARGEST_FILE} bytes")
        raise RequirementsInvalidError(f"cannot take the package: {problem}", problems=[problem])
    return parse_requirements(b"".join(archive.content(entry)), REQUIREMENTS_NAME, rules=rules)


def _named_packages(manifest: Manifest, layout: Layout, rules: Rules) -> tuple[Requirement, ...]:
    found: list[Requirement] = []
    problems: list[Problem] = []
    for number, line in enumerate(manifest.dependencies.packages):
        try:
            found.append(parse_requirement(line, rules))
        except ValueError as error:
            where = f"{layout.manifest_name}: dependencies.packages[{number}]"
            problems.append(Problem(where, str(error)))
    if problems:
        raise RequirementsInvalidError(f"cannot take the package: {problems[0]}", problems=problems)
    return tuple(found)


def _inspect_contents(
    archive: Archive, layout: Layout, findings: _Findings, *, has_runtime: bool, rules: Rules
) -> Inspected | None:
    manifest = findings.of(_read_manifest, archive, layout)
    requirements = findings.of(_read_requirements, archive, layout, rules)
    if manifest is None:
        return None
    packages = findings.of(_named_packages, manifest, layout, rules)
    if archive.problems:
        return None
    entry_point = findings.of(choose_entry_point, manifest, layout, has_runtime=has_runtime)
    if requirements is None or packages is None or entry_point is None:
        return None
    lines = normalise([*requirements, *packages])
    return Inspected(
        manifest,
        lines,
        entry_point,
        tuple(sorted(layout.files)),
        sum(entry.size_bytes for entry in layout.files.values()),
    )


class _Findings:
    """What is wrong with a package, collected so that it can be told together."""

    def __init__(self) -> None:
        self.errors: list[PackageInvalidError] = []

    def of(self, act: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | None:
        """Do something, and go on with None when it finds the package invalid."""
        try:
            return act(*args, **kwargs)
        except PackageInvalidError as error:
            self.errors.append(error)
            return None

    def combined(self) -> PackageInvalidError:
        """Make one error of all: of their class when they share it, each problem once."""
        kinds = {type(error) for error in self.errors}
        kind = kinds.pop() if len(kinds) == 1 else PackageInvalidError
        problems = dict.fromkeys(problem for error in self.errors for problem in error.problems)
        hints = dict.fromkeys(error.hint for error in self.errors if error.hint)
        return _refused(tuple(problems)[:_MOST_PROBLEMS], kind, hint=" ".join(hints))


def _refused(
    problems: Sequence[Problem],
    kind: type[PackageInvalidError] = PackageInvalidError,
    *,
    hint: str = "",
) -> PackageInvalidError:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return kind(
        f"cannot take the package: {problems[0]}{more}",
        cause=str(problems[0]),
        hint=hint,
        problems=problems,
    )


def _make_folder(path: Path) -> None:
    path.mkdir()
    path.chmod(0o755)  # whatever the umask is


def _write(archive: Archive, entry: Entry, path: Path) -> None:
    mode = 0o755 if entry.is_executable else 0o644
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)  # whatever the umask is
        file.writelines(archive.content(entry))


@contextmanager
def _told_when_full(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoSpaceError(
                f"cannot write {path}: {error.strerror}",
                cause="no space left on the disk",
                hint="remove agents or old releases, or free space elsewhere",
            ) from error
        raise
