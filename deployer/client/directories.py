"""A directory as a package: what of it is taken, and the ZIP that it makes."""

from __future__ import annotations

import io
import os
import shutil
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from deployer.client.ignore_files import IgnoreRules, is_left_out, rules_above, rules_of
from deployer.errors import (
    ManifestInvalidError,
    PackageInvalidError,
    PackageTooLargeError,
    Problem,
)
from deployer.file_names import shown_name

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST_BYTES: Final = 512 * 1024 * 1024
"""What is packed at most; the command line does so in memory."""

_EARLIEST: Final = (1980, 1, 1, 0, 0, 0)
_MANIFESTS: Final = ("agent.toml", "agent.json")
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Contents:
    """What of a directory becomes a package.

    Attributes:
        directory: The package's root.
        files: Regular files below it, by their paths, in the order of their names.
        size_bytes: Of all of them.
        left_out: Files and folders, relative, that are left out; of a folder not what is in it.
    """

    directory: Path
    files: tuple[Path, ...]
    size_bytes: int
    left_out: tuple[str, ...]


def pack(directory: Path) -> bytes:
    """Pack a directory into a ZIP; see `contents_of` for what of it, and for errors."""
    return zipped(contents_of(directory))


def contents_of(directory: Path) -> Contents:
    """Choose what of a directory becomes a package.

    Args:
        directory: Its contents become the root of the ZIP, but for what is left out: by
            `ignore_files.ALWAYS`, its own `.gitignore` and `.atollignore`, those of folders in it,
            and those of the repository that it lies in.

    Raises:
        PackageInvalidError: It holds links, sockets or the like, or what cannot be read; all of
            them are listed. Or nothing is left.
        ManifestInvalidError: There is no manifest in it.
        PackageTooLargeError: Its files hold more than LARGEST_BYTES.
    """
    directory = directory.resolve()
    walk = _Walk(directory)
    files = sorted(walk.below(directory, rules_above(directory)))
    if walk.problems:
        more = f" (and {len(walk.problems) - 1} more)" if len(walk.problems) > 1 else ""
        raise PackageInvalidError(
            f"cannot pack {directory}: {walk.problems[0]}{more}",
            cause=walk.problems[0].message,
            problems=walk.problems,
            hint="put the files themselves there, or name these in .atollignore",
        )
    contents = Contents(
        directory,
        tuple(path for path, _ in files),
        sum(size_bytes for _, size_bytes in files),
        tuple(sorted(walk.left_out)),
    )
    _judge(contents, dict(files))
    return contents


def zipped(contents: Contents) -> bytes:
    """Make the ZIP in memory; see `write_zip`."""
    buffer = io.BytesIO()
    write_zip(contents, buffer)
    return buffer.getvalue()


def write_zip(contents: Contents, target_file: IO[bytes]) -> None:
    """Write the ZIP, the same bytes for the same contents.

    Names are sorted, times and owners left out, and of the modes only "executable" is kept, so
    that pushing an unchanged directory again is known as the package that is installed already.

    Raises:
        PackageInvalidError: A file cannot be read any more.
    """
    with zipfile.ZipFile(target_file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in contents.files:
            member = zipfile.ZipInfo(path.relative_to(contents.directory).as_posix(), _EARLIEST)
            member.compress_type = zipfile.ZIP_DEFLATED
            try:
                with path.open("rb") as file:
                    is_executable = os.fstat(file.fileno()).st_mode & stat.S_IXUSR
                    member.external_attr = (
                        stat.S_IFREG | (0o755 if is_executable else 0o644)
                    ) << 16
                    with archive.open(member, "w") as target:
                        shutil.copyfileobj(file, target)
            except OSError as error:
                raise PackageInvalidError(
                    f"cannot pack {path}: {error.strerror}", cause=error.strerror or ""
                ) from error


class _Walk:
    """One way through a directory, which remembers what it left out and what stood in its way."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self.left_out: list[str] = []
        self.problems: list[Problem] = []

    def below(self, folder: Path, rules: tuple[IgnoreRules, ...]) -> Iterator[tuple[Path, int]]:
        """Give the regular files below a folder with their sizes."""
        try:
            rules += rules_of(folder)
            entries = sorted(os.scandir(folder), key=lambda each: each.name)
        except OSError as error:
            self._stop_at(folder, f"cannot be read: {error.strerror}")
            return
        for entry in entries:
            path = folder / entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_left_out(path, rules, is_folder=is_folder):
                self.left_out.append(f"{self._name(path)}{'/' if is_folder else ''}")
            elif is_folder:
                yield from self.below(path, rules)
            elif entry.is_file(follow_symlinks=False):
                yield from self._file(path, entry)
            elif entry.is_symlink():
                target = shown_name(str(path.readlink()))
                self._stop_at(path, f"a symbolic link to {target}, which a package cannot hold")
            else:
                self._stop_at(path, "not a regular file, which a package cannot hold")

    def _file(self, path: Path, entry: os.DirEntry[str]) -> Iterator[tuple[Path, int]]:
        try:
            entry.name.encode()
        except UnicodeEncodeError:
            self._stop_at(path, "a name that is not UTF-8, which a package cannot hold")
            return
        if not os.access(path, os.R_OK):
            self._stop_at(path, "cannot be read: permission denied")
            return
        yield path, entry.stat(follow_symlinks=False).st_size

    def _stop_at(self, path: Path, why: str) -> None:
        self.problems.append(Problem(shown_name(self._name(path)), why))

    def _name(self, path: Path) -> str:
        return path.relative_to(self._top).as_posix()


def _judge(contents: Contents, sizes: dict[Path, int]) -> None:
    """Refuse what no server would take, before anything is packed or sent."""
    directory = contents.directory
    if not contents.files:
        left = _some(contents.left_out)
        why = f"all that is in it is left out: {left}" if left else "it is empty"
        raise PackageInvalidError(
            f"cannot pack {directory}: {why}",
            cause=why,
            hint=f"`atoll-deployer init {directory}` makes an agent to start from",
        )
    tops = {path.relative_to(directory).parts[0] for path in contents.files}
    roots = (directory, *(directory / top for top in tops if len(tops) == 1))
    if not any(root / name in sizes for root in roots for name in _MANIFESTS):
        raise _no_manifest(contents)
    if contents.size_bytes > LARGEST_BYTES:
        largest = sorted(contents.files, key=lambda path: -sizes[path])[:_SHOWN]
        raise PackageTooLargeError(
            f"cannot pack {directory}: its files hold {contents.size_bytes} bytes, more than"
            f" {LARGEST_BYTES}",
            cause=f"more than {LARGEST_BYTES} bytes",
            problems=[
                Problem(path.relative_to(directory).as_posix(), f"{sizes[path]} bytes")
                for path in largest
            ],
            hint="name in .atollignore what the agent does not need; data and models are better"
            " fetched by the agent into its data directory",
        )


def _no_manifest(contents: Contents) -> ManifestInvalidError:
    directory = contents.directory
    if ignored := [name for name in _MANIFESTS if name in contents.left_out]:
        why, hint = f"its {ignored[0]} is left out", f"add a line `!{ignored[0]}` to .atollignore"
    else:
        why = f"there is no {_MANIFESTS[0]} in it"
        below = sorted(path.parent for path in contents.files if path.name in _MANIFESTS)
        hint = (
            f"did you mean {below[0]}?"
            if below
            else f"`atoll-deployer init {directory}` makes an agent to start from"
        )
    return ManifestInvalidError(
        f"cannot pack {directory}: {why}",
        cause=why,
        problems=[Problem(_MANIFESTS[0], why)],
        hint=hint,
    )


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(shown_name, names[:_SHOWN])) + more
