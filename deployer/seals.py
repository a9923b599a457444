"""Seals: what a release was when it was installed, to tell later whether it still is.

A seal says of every file of the code, and of what describes the environment, which SHA-256 it had;
for each installed dependency also how large its files were. What was added since is not asked
about: Python writes bytecode, and an agent may write beside its own code.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

from deployer import faults

SEAL: Final = "seal.json"

_CODE: Final = "code"
_SINGLE_FILES: Final = ("requirements.lock", "venv/pyvenv.cfg")
_RECORDS: Final = "venv/lib/*/site-packages/*.dist-info/RECORD"
_REMEMBERED_FILES: Final = 65_536
_REMEMBERED_RECORDS: Final = 1_024


def write_seal(release: Path) -> None:
    """Seal a release that was just installed, before anything of it runs.

    Args:
        release: Its directory, with ``code``, ``venv`` and, if it has dependencies, their lock.
    """
    files = (path.relative_to(release).as_posix() for path in _files(release))
    document = {name: _digest(release, name) for name in sorted(files)}
    fresh = release / f"{SEAL}.new"
    fresh.write_text(json.dumps(document), encoding="utf-8")
    fresh.replace(release / SEAL)
    faults.reach("seals.write")


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
    for name, digest in expected.items():
        try:
            found = _digest(release, name, anew=anew)
        except FileNotFoundError:
            return f"a file is missing: {release / name}"
        except OSError as error:
            return f"a file cannot be read: {release / name}: {error.strerror}"
        if found != digest:
            what = "files of a dependency were" if _is_record(name) else "a file was"
            return f"{what} changed since it was installed: {release / name}"
    return ""


def _files(release: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(release / _CODE):
        yield from (Path(folder, name) for name in names)
    yield from (path for name in _SINGLE_FILES if (path := release / name).exists())
    yield from release.glob(_RECORDS)


def _digest(release: Path, name: str, *, anew: bool = False) -> str:
    path = release / name
    status = path.stat()
    identity = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if not _is_record(name):
        return (_read.__wrapped__ if anew else _read)(path, identity)
    content, described = (_read_record.__wrapped__ if anew else _read_record)(path, identity)
    site = str(path.parent.parent)
    sizes = "\n".join(f"{each} {_size(f'{site}/{each}')}" for each in described)
    return hashlib.sha256(f"{content}\n{sizes}".encode()).hexdigest()


def _is_record(name: str) -> bool:
    return name.startswith("venv/") and name.endswith("/RECORD")


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
