"""What an agent needs of the machine around it, and what is covered up."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from deployer.launch_policies import Cover

READABLE: Final = tuple(
    Path(name)
    for name in (
        *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc"),
        *("/proc", "/sys"),
        *("/nix/store", "/gnu/store"),  # where all of such a system lies
        *("/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager"),  # resolv.conf
    )
)
"""Programs, libraries, and what describes the machine; modes decide about the rest."""

_ABOVE_READABLE: Final = {each for path in READABLE for each in (path, *path.parents)}

# tty: a program on a pseudo-terminal that the agent made may ask for a password there; the agent's
# own session has no terminal, so for it there is nothing to open
DEVICES: Final = tuple(
    Path("/dev") / name
    for name in ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts")
)

SHARED: Final = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))  # noqa: S108 - to close them
"""Where everybody may write, and so may look for each other."""

_RUN: Final = Path("/run")  # sockets of other services: D-Bus, Docker, a supervisord
_SMALL_BYTES: Final = 64 * 1024
_INSTALLATION: Final = ("bin", "lib", "lib64", "include", "share")


def covers(root: Path, uid: int | None, shared_bytes: int) -> tuple[Cover, ...]:
    """Say which directories become private for an agent.

    Args:
        root: The state directory.
        uid: The agent's own user; None: it is the server's.
        shared_bytes: How much it may put into each of `SHARED`.

    Returns:
        Those that are there, none below another one.
    """
    found = [Cover(path, 0o1777, shared_bytes) for path in SHARED]
    closed = (_RUN, *_homes(), *closed_above(root, uid), root)
    found += [Cover(path, 0o711, _SMALL_BYTES) for path in closed]
    chosen: list[Cover] = []
    for cover in sorted(found, key=lambda each: len(each.path.parts)):
        is_real = cover.path.is_dir() and cover.path.resolve() == cover.path
        if is_real and not is_below(cover.path, [each.path for each in chosen]):
            chosen.append(cover)
    return tuple(chosen)


def installation(python: Path) -> tuple[Path, ...]:
    """List where the parts of an interpreter lie that is not the system's own.

    Not all of its prefix: for ``~/bin/python3`` that would be a home.
    """
    prefix = python.parent.parent
    parts = (python, *(prefix / name for name in _INSTALLATION))
    return tuple(path for path in parts if not is_below(path, READABLE) and path.exists())


def is_below(path: Path, roots: Iterable[Path]) -> bool:
    """Tell whether a path is one of roots, or lies below one.

    `Path.is_relative_to` takes as long for each of them as this does for all: with a hundred such
    questions to each start that counts.
    """
    return not {path, *path.parents}.isdisjoint(roots)


def without(paths: Iterable[Path], root: Path) -> Iterator[Path]:
    """Give paths, but instead of one that holds root all that lies beside the way to it."""
    above = {root, *root.parents}
    for path in paths:
        if path not in above:
            yield path
        elif path != root:
            with suppress(OSError):
                yield from without(sorted(path.iterdir()), root)


def closed_above(root: Path, uid: int | None) -> Iterator[Path]:
    """Give the first directory on the way to root that uid cannot pass through.

    Covered, it is passable: what stands there instead lets everybody through, and shows nothing.
    """
    if uid is None:
        return
    for path in reversed(root.parents):
        status = path.stat()
        needed = stat.S_IXUSR if status.st_uid == uid else stat.S_IXOTH
        if not status.st_mode & needed:
            yield path
            return


def _homes() -> Iterator[Path]:
    """Give the home of the server's user, unless it holds, or lies in, what agents need."""
    with suppress(KeyError, OSError):
        names = {pwd.getpwuid(os.geteuid()).pw_dir, os.environ.get("HOME", "/")}
        for home in map(Path, sorted(names)):
            if home.is_absolute() and home not in _ABOVE_READABLE and not is_below(home, READABLE):
                yield home
