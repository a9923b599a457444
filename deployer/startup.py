"""What `serve` does before it becomes supervisord: what can be refused is refused here."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from deployer import ports
from deployer.errors import ServeRefusedError
from deployer.leftovers import MARKER, end_leftovers
from deployer.programs import Programs, replace_file
from deployer.settings import Settings
from deployer.state_dir import StateDir

_KEPT_VARIABLES: Final = (
    "PATH",
    "HOME",
    "LANG",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    *(
        spelled
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
        for spelled in (name, name.lower())
    ),
)
"""What supervisord, and so the API and the installers, may know of who started them."""

_OPEN: Final = 0o711  # an agent under a uid of its own must be able to walk through
_OURS: Final = 0o700


def prepare(settings: Settings) -> StateDir:
    """Make a state directory ready for a server.

    Args:
        settings: As resolved; kept in STATE/settings.json for the API process.

    Returns:
        The state directory, with the lock taken for as long as this process is what it is.

    Raises:
        ServeRefusedError: It cannot be written, another server has it, or the API's port is taken.
    """
    state = StateDir(settings.state_dir)
    _make_directories(state)
    _take_lock(state)
    end_leftovers(state.root)
    _try_port(settings)
    replace_file(state.settings, settings.to_json().encode())
    make_token(state)
    return state


def make_token(state: StateDir) -> str:
    """Read the token that clients show, made when there is none yet."""
    if not state.token.exists():
        replace_file(state.token, f"{secrets.token_urlsafe(32)}\n".encode())
    return state.token.read_text(encoding="ascii").strip()


def write_configuration(state: StateDir, settings: Settings) -> tuple[tuple[str, str], ...]:
    """Write supervisord.conf, and move program configs aside that supervisord would choke on.

    Returns:
        File name and reason of each that was moved.
    """
    programs = Programs(
        state, log_bytes=settings.limits.log_bytes, log_backups=settings.limits.log_backups
    )
    moved = programs.quarantine_broken()
    programs.write_supervisord_conf(service_command(state))
    return moved


def service_command(state: StateDir) -> list[str]:
    """Say how supervisord starts the API."""
    return [sys.executable, "-m", "deployer.server", "--state-dir", str(state.root)]


def service_variables(state: StateDir, environ: Mapping[str, str]) -> dict[str, str]:
    """Choose the variables of supervisord and the API: children would inherit all the others."""
    kept = {name: environ[name] for name in _KEPT_VARIABLES if name in environ}
    return {
        "LANG": "C.UTF-8",
        **kept,
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(state.tmp),
        MARKER: str(state.root),
    }


def become_supervisord(state: StateDir) -> None:
    """Replace this process by supervisord, in the foreground, under the same pid."""
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(state.supervisord_conf)]
    os.chdir(state.root)
    os.execve(sys.executable, command, service_variables(state, os.environ))  # noqa: S606 - ours


def _make_directories(state: StateDir) -> None:
    open_ones = (state.root, state.agents)
    ours = (
        state.conf_d,
        state.quarantine,
        state.policies,
        state.run,
        state.logs,
        state.packages,
        state.cache,
        state.tmp,
    )
    try:
        for directory in (*open_ones, *ours):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(_OPEN if directory in open_ones else _OURS)
        probe = state.run / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ServeRefusedError(
            f"cannot use the state directory {state.root}: {error.strerror or error};"
            " choose another one with --state-dir",
            cause=f"{state.root} cannot be written",
        ) from error


def _take_lock(state: StateDir) -> None:
    """Take the lock, for good: it is let go when this process becomes supervisord or ends.

    supervisord closes inherited descriptors, so our plugin takes it again inside.
    """
    descriptor = os.open(state.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise ServeRefusedError(
            f"cannot serve from {state.root}: {_present_server(state)} does already;"
            " stop it, or choose another state directory with --state-dir",
            cause="another server has this state directory",
        ) from None


def _present_server(state: StateDir) -> str:
    try:
        pid = (state.run / "supervisord.pid").read_text(encoding="ascii").strip()
        document = json.loads(state.settings.read_bytes())
    except (OSError, ValueError):
        return "another server"
    where = Path(document.get("state_dir", "")).name
    return f"another server (pid {pid}, port {document.get('api_port')}, {where})"


def _try_port(settings: Settings) -> None:
    """Bind the API's port once, to say in time that it is taken."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, settings.api_port))
            probe.listen(1)
    except OSError as error:
        holder = ports.holder_of(settings.api_port)
        reason = f"held by {holder}" if holder is not None else (error.strerror or str(error))
        raise ServeRefusedError(
            f"cannot serve on {settings.host}:{settings.api_port}: {reason};"
            " choose another port with --api-port",
            cause=f"port {settings.api_port} is taken",
        ) from error
