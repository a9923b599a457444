"""A copy of the database beside it, and what to do when the database itself cannot be read."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Final

from deployer import faults

_NEW: Final = ".new"
_CHECK_SECONDS: Final = 5.0
_BESIDE: Final = ("", "-wal", "-shm")
"""SQLite keeps what is not in the file yet in files of these endings."""


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
    """Say what is wrong with a database file; empty when it is sound, or not there yet."""
    if not database.exists():
        return ""
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=_CHECK_SECONDS)) as connection:
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.DatabaseError as error:
        return str(error)
    if answer != "ok":
        return str(answer)
    # A file cut within its first page is an empty database to SQLite, and sound.
    return "" if tables else "it holds nothing"


def restore(database: Path, copy: Path, *, is_missed: bool = False) -> str:
    """Put the copy in the place of a database that is damaged or gone, unless it is no better.

    What was damaged is kept beside it, for whoever wants to look.

    Args:
        database: The file.
        copy: What `keep_copy` made.
        is_missed: Whether there must have been a database: something on the disk is its doing.

    Returns:
        What was wrong and what was done; empty when the database is sound, or nobody misses it.
    """
    copy.with_name(f"{copy.name}{_NEW}").unlink(missing_ok=True)  # of one killed half-way
    damage = find_damage(database)
    if not database.exists() and (is_missed or copy.exists()):
        damage = "it is not there"
    if not damage:
        return ""
    aside = database.with_name(f"{database.name}.damaged")
    for ending in _BESIDE:
        part = database.with_name(f"{database.name}{ending}")
        if part.exists():
            part.replace(aside.with_name(f"{aside.name}{ending}"))
    if copy.exists() and not find_damage(copy):
        shutil.copyfile(copy, database)
        return f"state.db was lost ({damage}) and is restored from its copy"
    return f"state.db was lost ({damage}), had no sound copy, and is made anew"
