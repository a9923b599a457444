"""The state directory: whose it is, who may read it, and what room there is."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from deployer.byte_sizes import size_text
from deployer.disks import free_bytes, require_space
from deployer.doctor.findings import Finding, fail, ok, warn
from deployer.doctor.patients import Patient
from deployer.errors import NoSpaceError

_ENVIRONMENT_INODES: Final = 20_000
_AMPLE: Final = 4
"""So many times the room that one environment asks for is no reason to worry."""

_OTHERS: Final = 0o077
_WRITERS: Final = 0o022


def examine_state_directory(patient: Patient) -> Finding:
    """Look at owner and modes of all that must be the server's alone."""
    root = patient.state.root
    if not root.exists():
        parent = _present(root)
        if os.access(parent, os.W_OK | os.X_OK):
            return ok("state directory", f"{root} is not there yet; serve makes it")
        hint = "choose another --state-dir, or run serve as a user who may write there"
        return fail("state directory", f"{root} cannot be made: {parent} is not writable", hint)
    problems = list(_problems(patient))
    if not problems:
        return ok("state directory", f"{root}, private and ours")
    hint = "chown and chmod them back; whoever read a token or key may still have it: make new ones"
    return fail("state directory", "; ".join(problems), hint)


def examine_disk(patient: Patient) -> Finding:
    """Ask for the room that one more environment needs."""
    place = _present(patient.state.root)
    needed = patient.settings.limits.free_bytes
    free = free_bytes(place)
    hint = "delete releases, agents or logs that nobody needs, or enlarge the disk"
    try:
        require_space(place, needed, _ENVIRONMENT_INODES)
    except NoSpaceError as error:
        return fail("disk", f"{place}: {error.cause}; deployments need {size_text(needed)}", hint)
    if free < _AMPLE * needed:
        detail = f"{size_text(free)} free below {place}: deployments stop at {size_text(needed)}"
        return warn("disk", detail, hint)
    cache = _present(patient.settings.cache_dir or patient.state.cache)
    if cache.stat().st_dev != place.stat().st_dev:
        detail = f"{cache} lies on another file system than {place}: each install copies"
        return warn("disk", detail, "put cache_dir on the state directory's file system")
    return ok("disk", f"{size_text(free)} free below {place}")


def _problems(patient: Patient) -> Iterator[str]:
    state = patient.state
    files = (state.token, state.settings, state.database, state.secrets_key, state.supervisord_conf)
    closed = (state.run, state.policies, state.conf_d, state.logs, state.packages, *files)
    for path in (state.root, state.agents, *closed):
        if not path.exists():
            continue
        status = path.stat()
        mode = stat.S_IMODE(status.st_mode)
        if status.st_uid != os.geteuid():
            yield f"{path} belongs to uid {status.st_uid}, and we are {os.geteuid()}"
        elif path in closed and mode & _OTHERS:
            yield f"{path} is open to others (mode {mode:04o})"
        elif mode & _WRITERS:
            yield f"{path} can be written by others (mode {mode:04o})"


def _present(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
