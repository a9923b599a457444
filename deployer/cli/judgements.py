"""What a server would say of a package, found out without one."""

from __future__ import annotations

import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from deployer.client.directories import Contents, contents_of, zipped
from deployer.errors import PackageInvalidError, PackageTooLargeError, Problem
from deployer.manifest import JSON_NAME, TOML_NAME, parse_manifest
from deployer.packages import Inspected, inspect, unpack
from deployer.requirements import REQUIREMENTS_NAME, parse_requirements
from deployer.scans import scan_sources
from deployer.settings import LimitSettings

if TYPE_CHECKING:
    from collections.abc import Callable

_SCAN_SECONDS: Final = 60.0
_ODD: Final = re.compile(r"[^A-Za-z0-9._+-]+")


@dataclass(frozen=True, slots=True)
class Packed:
    """A directory that became a package which a server would take.

    Attributes:
        contents: What of it was packed, and what was left out.
        archive: The ZIP.
        inspected: What the server would find in it.
    """

    contents: Contents
    archive: bytes
    inspected: Inspected

    @property
    def file_name(self) -> str:
        """How its ZIP is called where nobody says: by agent and version."""
        agent = self.inspected.manifest.agent
        return f"{_ODD.sub('_', f'{agent.name}-{agent.version}')}.zip"


def judge(package: Path, *, has_runtime: bool) -> dict[str, Any]:
    """Apply the server's rules, with its default limits, and tell what was found.

    Args:
        package: A ZIP, a directory, a manifest or a requirements file.
        has_runtime: Whether the server has ATOLL's own runner for packages without a script.

    Raises:
        PackageInvalidError: A server would not take it; every problem is listed.
    """
    if package.is_dir():
        packed = pack(package, has_runtime=has_runtime)
        with tempfile.NamedTemporaryFile(suffix=".zip") as file:
            file.write(packed.archive)
            file.flush()
            found = _told(package, Path(file.name), packed.inspected)
        return found | {"left_out": list(packed.contents.left_out)}
    if package.suffix == ".txt":
        count = len(parse_requirements(_read(package), package.name))
        return {"checked": str(package), "requirements": count}
    if package.suffix in {".toml", ".json"}:
        agent = parse_manifest(_read(package), package.name).agent
        return {"checked": str(package), "name": agent.name, "version": agent.version}
    return _told(package, package, judge_zip(package, has_runtime=has_runtime))


def judge_zip(package: Path, *, has_runtime: bool) -> Inspected:
    """Apply the server's rules to a ZIP.

    Raises:
        PackageInvalidError: A server would not take it; every problem is listed.
    """
    limits = LimitSettings()
    try:
        size_bytes = package.stat().st_size
        if size_bytes > limits.upload_bytes:
            raise PackageTooLargeError(
                f"cannot take {package}: it has {size_bytes} bytes, more than"
                f" {limits.upload_bytes}",
                cause=f"package larger than {limits.upload_bytes} bytes",
                hint="leave data and models out, or raise the server's limits.upload_bytes",
            )
        return inspect(package, limits, has_runtime=has_runtime)
    except OSError as error:
        raise _unreadable(package, error) from error


def pack(directory: Path, *, has_runtime: bool) -> Packed:
    """Pack a directory and judge what comes out of it.

    Raises:
        PackageInvalidError: It cannot be packed, or a server would not take it; every problem is
            listed.
    """
    try:
        contents = contents_of(directory)
    except PackageInvalidError as error:
        raise _joined(error, directory) from error
    archive = zipped(contents)
    with tempfile.NamedTemporaryFile(suffix=".zip") as file:
        file.write(archive)
        file.flush()
        inspected = judge_zip(Path(file.name), has_runtime=has_runtime)
    return Packed(contents, archive, inspected)


def _told(checked: Path, archive: Path, inspected: Inspected) -> dict[str, Any]:
    limits = LimitSettings()
    with tempfile.TemporaryDirectory() as directory:
        code = Path(directory) / "code"
        unpack(archive, code, limits)
        scan = scan_sources(code, timeout_seconds=_SCAN_SECONDS)
    agent, entry_point = inspected.manifest.agent, inspected.entry_point
    return {
        "checked": str(checked),
        "name": agent.name,
        "version": agent.version,
        "starts": f"{entry_point.kind} {entry_point.value}".rstrip(),
        "requirements": len(inspected.requirements),
        "files": len(inspected.files),
        "size_bytes": archive.stat().st_size,
        "unpacked_bytes": inspected.unpacked_bytes,
        "scan": asdict(scan),
    }


def _joined(error: PackageInvalidError, directory: Path) -> PackageInvalidError:
    """Tell, with what cannot be packed, what is wrong in the files that can be judged alone."""
    readers: dict[str, Callable[[bytes, str], object]] = {
        TOML_NAME: parse_manifest,
        JSON_NAME: parse_manifest,
        REQUIREMENTS_NAME: parse_requirements,
    }
    problems: list[Problem] = list(error.problems)
    for name, read in readers.items():
        file = directory / name
        if not file.is_symlink() and file.is_file():
            try:
                read(_read(file), name)
            except PackageInvalidError as found:
                problems += [each for each in found.problems if each not in problems]
    return type(error)(error.detail, cause=error.cause, hint=error.hint, problems=problems)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: OSError) -> PackageInvalidError:
    why = (error.strerror or "it cannot be read").lower()
    return PackageInvalidError(f"cannot read {file}: {why}", cause=why)
