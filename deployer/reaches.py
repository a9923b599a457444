"""What keeps a release from a file: its isolation, modes, or that it lies in the release itself."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from deployer.causes import Cause
from deployer.environments.interpreters import unreachable_by
from deployer.isolation import Quarters
from deployer.isolation_levels import IsolationLevel
from deployer.model import Release
from deployer.parts import Parts


def explain_refusal(
    parts: Parts, release: Release, path: Path, *, is_missing: bool
) -> Cause | None:
    """Say why a release was refused a file.

    Args:
        parts: Of this server.
        release: Who was refused.
        path: The file, as the release calls it.
        is_missing: It was told that the file is not there; else that it may not have it.

    Returns:
        The cause; None when nothing that this server does explains it. Its code is ``isolation``,
        ``read-only-release`` or ``file-closed``.
    """
    state = parts.state
    code = state.code(release.agent, release.number)
    whole = Path(os.path.normpath(code / path))
    own = [state.agent_data(release.agent), state.agent_tmp(release.agent)]
    own += [state.agent_run(release.agent), state.rehearsal(release.agent, release.number)]
    if _is_below(whole, own):
        return None
    fixed = (state.release(release.agent, release.number), parts.files.environment(release))
    if _is_below(whole, fixed):
        return None if is_missing else _read_only(path)
    target = whole if is_missing else _present(whole)
    if not os.path.lexists(target) or parts.isolation.level is IsolationLevel.NONE:
        return None
    return _explain_foreign(parts, release, target, own, is_missing=is_missing)


def _explain_foreign(
    parts: Parts, release: Release, target: Path, own: Sequence[Path], *, is_missing: bool
) -> Cause | None:
    """Say what keeps a release from a file that is there and none of its agent's."""
    state = parts.state
    code = state.code(release.agent, release.number)
    uid = parts.store.uids.find(release.agent)
    sandbox = parts.isolation.sandbox(
        Quarters(
            directory=state.agent(release.agent),
            fixed=(code, parts.files.environment(release)),
            writable=own,
            python=Path(release.python),
        ),
        uid,
    )
    is_hidden = _is_below(target, (cover.path for cover in sandbox.covers)) and not _is_below(
        target, (*sandbox.exposed, *sandbox.exposed_read_only)
    )
    readable, writable = _is_below(target, sandbox.readable), _is_below(target, sandbox.writable)
    if is_hidden or (sandbox.has_landlock and not is_missing and not (readable or writable)):
        return Cause(
            f"isolation level {parts.isolation.level} keeps it from '{target}'",
            f"ship {target.name} in the package, or name its directory in isolation.readable (to be"
            " written: isolation.writable) in the settings and restart the server",
            "isolation",
        )
    if not is_missing and (closed := unreachable_by(target, uid)) is not None:
        return Cause(
            f"may not use '{target}': {closed}",
            f"let every user read it (chmod o+r), or ship {target.name} in the package",
            "file-closed",
        )
    if not is_missing and readable and not writable:
        return Cause(
            f"may only read what is in '{target}'"
            if target.is_dir()
            else f"may only read '{target}'",
            "write below the directory in the variable ATOLL_AGENT_DATA_DIR",
            "isolation",
        )
    return None


def _read_only(path: Path) -> Cause:
    return Cause(
        f"may not write '{path}': a release never changes",
        "write below the directory in the variable ATOLL_AGENT_DATA_DIR, which stays from release"
        " to release",
        "read-only-release",
    )


def _present(path: Path) -> Path:
    """Give what is there of a path: who may not make a file is refused by its directory."""
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    return path


def _is_below(path: Path, places: Iterable[Path]) -> bool:
    return any(path.is_relative_to(place) for place in places)
