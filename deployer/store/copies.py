"""A copy of the database beside it, and what to do when the database itself cannot be read."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from deployer import faults
from deployer.errors import ServeRefusedError
from deployer.trees import sync_directory

_NEW: Final = ".new"
_CHECK_SECONDS: Final = 5.0
_BESIDE: Final = ("", "-wal", "-shm")
"""SQLite keeps what is not in the file yet in files of these endings."""

_DAMAGE: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
"""What SQLite says of the file itself; all else is said of the disk, the rights, or the moment."""

_KEPT_ASIDE: Final = 5


def keep_copy(database: Path, copy: Path) -> None:
    """Copy a database while others use it, and move the copy in place once it is whole.

    Args:
        database: The file in use.
        copy: Where the copy goes.

    Raises:
        sqlite3.Error: It cannot be read, or the disk is full; the former copy stays.
    """
    fresh = copy.with_name(f"{copy.name}{_NEW}")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    with (
        contextlib.closing(sqlite3.connect(database)) as source,
        contextlib.closing(sqlite3.connect(fresh)) as target,
    ):
        # Nobody reads it before it is whole: it needs no journal, and to be synced once.
        target.execute("PRAGMA journal_mode = OFF")
        target.execute("PRAGMA synchronous = OFF")
        source.backup(target)
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    faults.reach("copies.keep_copy")
    fresh.replace(copy)


def find_damage(database: Path) -> str:
    """Say what is wrong with a database file; empty when it is sound, or not there yet.

    Raises:
        sqlite3.Error: Nobody can tell now. A full disk has no room for the file that SQLite makes
            beside the database to read it, and that says nothing against the database.
    """
    if not database.exists():
        return ""
    if not database.stat().st_size:  # SQLite would delete what is beside it
        return "it holds nothing"
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=_CHECK_SECONDS)) as connection:
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.DatabaseError as error:
        code: int = getattr(error, "sqlite_errorcode", 0)
        if code & 0xFF not in _DAMAGE:  # what is above the last byte says more closely why
            raise
        return str(error)
    if answer != "ok":
        return str(answer)
    # A file cut within its first page is an empty database to SQLite, and sound.
    return "" if tables else "it holds nothing"


@contextlib.contextmanager
def refusing(database: Path) -> Iterator[None]:
    """Refuse to serve where the database can be neither used nor called damaged.

    Raises:
        ServeRefusedError: The block failed for the disk's sake, or for whoever holds the file.
    """
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise ServeRefusedError(
            f"cannot serve: {database} cannot be used: {error}{_room(database)}; it stays as it is,"
            " and the next start tries again"
        ) from error


def _room(database: Path) -> str:
    """Say how full the disk is: SQLite's "disk I/O error" does not."""
    try:
        status = os.statvfs(database.parent)
    except OSError:
        return ""
    return f" ({status.f_bavail * status.f_frsize:,} bytes are left on its disk)"


def restore(database: Path, copy: Path, *, is_missed: bool = False) -> str:
    """Put the copy in the place of a database that is damaged or gone, unless it is no better.

    What was damaged is kept beside it, for whoever wants to look.

    Args:
        database: The file.
        copy: What `keep_copy` made.
        is_missed: Whether there must have been a database: something on the disk is its doing.

    Returns:
        What was wrong and what was done, at this start or an earlier one, as long as nobody has
        called `forget_loss`; empty when the database is sound, or nobody misses it.

    Raises:
        ServeRefusedError: Nobody can tell now, or there is no room for what is restored; nothing
            was changed.
    """
    copy.with_name(f"{copy.name}{_NEW}").unlink(missing_ok=True)  # of one killed half-way
    with refusing(database):
        damage = find_damage(database)
        if not database.exists() and (is_missed or copy.exists()):
            damage = "it is not there"
        if not damage:
            return _loss(database).read_text("utf-8") if is_behind(database) else ""
        restored = _copy_of(copy, database) if not find_damage(copy) else None
        told = f"state.db was lost ({damage}), had no sound copy, and is made anew"
        if restored is not None:
            told = f"state.db was lost ({damage}) and is restored from its copy"
        _loss(database).write_text(told, "utf-8")
        _move_aside(database)
        if restored is not None:
            restored.replace(database)
            sync_directory(database.parent)
        _thin_out(database)
    return told


def is_behind(database: Path) -> bool:
    """Tell whether a database was restored or made anew, and may not know all that there is yet."""
    return _loss(database).exists()


def forget_loss(database: Path) -> None:
    """Take a database for complete: what lies on the disk and was not in it is known again."""
    _loss(database).unlink(missing_ok=True)


def _loss(database: Path) -> Path:
    return database.with_name(f"{database.name}.lost")


def _copy_of(copy: Path, database: Path) -> Path | None:
    """Write a copy's content beside the database; None: there is no copy."""
    fresh = database.with_name(f"{database.name}{_NEW}")
    fresh.unlink(missing_ok=True)
    if not copy.exists():
        return None
    fresh.touch(mode=0o600)
    try:
        with copy.open("rb") as source, fresh.open("wb") as target:
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())
    except OSError:
        fresh.unlink()
        raise
    return fresh


def _move_aside(database: Path) -> None:
    """Make room for another database, under a name that nothing has yet."""
    parts = [ending for ending in _BESIDE if database.with_name(database.name + ending).exists()]
    if parts == [""] and not database.stat().st_size:
        database.unlink()  # of a start without room for more; there is nothing to look at
        return
    number = max(_aside(database), default=0) + 1
    aside = f"{database.name}.damaged" + (f".{number}" if number > 1 else "")
    for ending in parts:
        database.with_name(database.name + ending).replace(database.with_name(aside + ending))


def _aside(database: Path) -> dict[int, list[Path]]:
    """Find what was moved aside, numbered from 1 on."""
    name = re.compile(rf"{re.escape(database.name)}\.damaged(?:\.([1-9]\d*))?(?:-wal|-shm)?")
    found: dict[int, list[Path]] = {}
    for path in database.parent.iterdir():
        if match := name.fullmatch(path.name):
            found.setdefault(int(match[1] or 1), []).append(path)
    return found


def _thin_out(database: Path) -> None:
    """Keep the first of what was moved aside and the latest; only once all is in its place.

    Where a fault comes back again and again, the first has the most in it.
    """
    aside = _aside(database)
    for number in sorted(aside)[1 : 1 - _KEPT_ASIDE]:
        for path in aside[number]:
            path.unlink()
