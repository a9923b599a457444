"""Seals: what a release was when it was installed, to tell later whether it still is.

A seal says of every file of the code, and of what describes the environment, which SHA-256 it had;
for each installed dependency also how large its files were. What was added since is not asked
about: Python writes bytecode, and an agent may write beside its own code. An environment that
others are to share is asked about that as well, for whatever lies in it would be theirs too.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import stat
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from deployer import faults

SEAL: Final = "seal.json"

_CODE: Final = "code"
_LOCK: Final = "requirements.lock"
_VENV: Final = "venv"
_VENV_FILES: Final = ("pyvenv.cfg",)
_RECORDS: Final = "lib/*/site-packages/*.dist-info/RECORD"
_VENV_FOLDERS: Final = ("bin", "lib/*/site-packages")
_UNNAMED: Final = frozenset({"__pycache__"})
_REMEMBERED_FILES: Final = 65_536
_REMEMBERED_RECORDS: Final = 1_024


def write_seal(release: Path, environment: Mapping[str, str] | None = None) -> None:
    """Seal a release that was just installed, before anything of it runs.

    Args:
        release: Its directory, with ``code``, ``venv`` and, if it has dependencies, their lock.
        environment: The seal of its environment where it has one; None: it is looked at.
    """
    files = (path.relative_to(release).as_posix() for path in _files(release))
    document = {name: _digest(release, name) for name in sorted(files)}
    sealed = seal_environment(release / _VENV) if environment is None else environment
    # Who manages the server may add to an environment, a debugger, and go back to it all the same.
    described = {name: digest for name, digest in sealed.items() if not name.endswith("/")}
    document |= {f"{_VENV}/{name}": digest for name, digest in described.items()}
    fresh = release / f"{SEAL}.new"
    fresh.write_text(json.dumps(document), encoding="utf-8")
    fresh.replace(release / SEAL)
    faults.reach("seals.write")


def seal_environment(venv: Path) -> dict[str, str]:
    """Say what an environment is, for `find_difference`.

    Args:
        venv: A virtual environment, or a link to one.

    Returns:
        A digest each of the files that describe it and, under names that end in a slash, of the
        names in the folders that its Python looks into.
    """
    names = [name for name in _VENV_FILES if (venv / name).exists()]
    names += [path.relative_to(venv).as_posix() for path in sorted(venv.glob(_RECORDS))]
    folders = (path for name in _VENV_FOLDERS for path in sorted(venv.glob(name)))
    names += [f"{path.relative_to(venv).as_posix()}/" for path in folders]
    return {name: _digest(venv, name) for name in names}


def find_breach(release: Path, *, anew: bool = False) -> str:
    """Say in what a release differs from its seal; empty when in nothing.

    Args:
        release: Its directory.
        anew: Read every file. Else those whose size, times and place are as when they were read
            last count as unchanged, which makes asking again cost no more than looking at them.
    """
    try:
        sealed = json.loads((release / SEAL).read_text(encoding="utf-8"))
        expected = {str(name): str(digest) for name, digest in sealed.items()}
    except FileNotFoundError:
        return f"its seal is missing: {release / SEAL}"
    except (OSError, ValueError, AttributeError) as error:
        return f"its seal cannot be read: {error}"
    return find_difference(release, expected, anew=anew)


def find_difference(directory: Path, expected: Mapping[str, str], *, anew: bool = False) -> str:
    """Say in what a directory differs from what was sealed of it; empty when in nothing.

    Args:
        directory: A release, or an environment.
        expected: Digests by names in it.
        anew: As for `find_breach`.
    """
    for name, digest in expected.items():
        path = directory / name
        try:
            found = _digest(directory, name, anew=anew)
        except FileNotFoundError:
            return f"a file is missing: {path}"
        except OSError as error:
            return f"a file cannot be read: {path}: {error.strerror}"
        if found != digest:
            what = "files of a dependency were" if _is_record(name) else "a file was"
            if name.endswith("/"):
                what = "files were added or taken away, and it was"
            return f"{what} changed since it was installed: {path}"
    return ""


def _files(release: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(release / _CODE):
        yield from (Path(folder, name) for name in names)
    if (lock := release / _LOCK).exists():
        yield lock


def _digest(directory: Path, name: str, *, anew: bool = False) -> str:
    path = directory / name
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        names = "\n".join(sorted({each.name for each in path.iterdir()} - _UNNAMED))
        return hashlib.sha256(os.fsencode(names)).hexdigest()
    identity = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if not _is_record(name):
        return (_read.__wrapped__ if anew else _read)(path, identity)
    content, described = (_read_record.__wrapped__ if anew else _read_record)(path, identity)
    site = str(path.parent.parent)
    sizes = "\n".join(f"{each} {_size(f'{site}/{each}')}" for each in described)
    return hashlib.sha256(f"{content}\n{sizes}".encode()).hexdigest()


def _is_record(name: str) -> bool:
    """Tell a dependency's RECORD from a file of that name in somebody's code."""
    return name.endswith(".dist-info/RECORD") and not name.startswith(f"{_CODE}/")


@lru_cache(maxsize=_REMEMBERED_FILES)
def _read(path: Path, _identity: tuple[int, ...]) -> str:
    """Give a file's SHA-256; the identity is another for another content, for the cache's sake."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=_REMEMBERED_RECORDS)
def _read_record(path: Path, _identity: tuple[int, ...]) -> tuple[str, tuple[str, ...]]:
    """Give the SHA-256 of a dependency's RECORD, and the files that it names.

    Source: https://packaging.python.org/en/latest/specifications/recording-installed-packages.
    The sizes and hashes in it are the wheel's own word, which no installer checks and not every
    wheel keeps; so it is asked for names only.
    """
    data = path.read_bytes()
    rows = csv.reader(io.StringIO(data.decode(errors="replace"), newline=""))
    try:
        # Bytecode comes and goes: what an installer compiled is compiled again at will.
        names = tuple(row[0] for row in rows if row and not row[0].endswith(".pyc"))
    except csv.Error:  # then the RECORD alone has to do
        names = ()
    return hashlib.sha256(data).hexdigest(), names


def _size(path: str) -> int:
    """Give a file's size; -1 where there is none, now as when it was sealed."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 - there are thousands, and a Path takes time
    except OSError:
        return -1
