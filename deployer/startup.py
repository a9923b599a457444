"""What `serve` does before it becomes supervisord: what can be refused is refused here.

This module imports little of the server: supervisord is started by a process that has to read it
all, and whoever waits for the server waits for that too.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sys
from collections.abc import Mapping
from typing import Final

from deployer import __version__, faults, listeners, local_keys, ports
from deployer.errors import ProgramConfigError, ServeRefusedError, SettingsInvalidError
from deployer.isolation import Isolation, find_isolation
from deployer.isolation_levels import IsolationLevel
from deployer.leftovers import end_leftovers
from deployer.limits.groups import remove_leftover_groups
from deployer.programs import Programs, replace_file
from deployer.settings import Settings
from deployer.state_dir import MARKER, StateDir
from deployer.supervisord_confs import LogPace

_KEPT_VARIABLES: Final = (
    faults.VARIABLE,
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


def serve(settings: Settings) -> None:
    """Prepare the state directory and become supervisord, whose first program is the API.

    Args:
        settings: As resolved, with a supervisord of our own.

    Raises:
        ServeRefusedError: The server cannot start here; nothing was started.
    """
    state = prepare(settings)
    isolation = require_isolation(state, settings)
    for name, reason in write_configuration(state, settings):
        _say(f"moved the damaged program config {name} to {state.quarantine}: {reason}")
    _say(f"ATOLL Deployment Server {__version__} on {url_of(settings)}")
    _say(f"state in {state.root}; Ctrl-C stops it and every agent")
    for line in isolation:
        _say(line)
    if settings.auth == "token":
        _say(f"token in {state.token}")
    else:
        _say("warning: no key is asked for: whoever gets to this address may do everything")
    become_supervisord(state)


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
    try:
        _make_directories(state)
        _take_lock(state)
        if settings.supervisor.url is None:  # a foreign one has kept the agents running meanwhile
            end_leftovers(state.root)
            remove_leftover_groups(state)
        _try_address(settings)
        if settings.install.allow_sdist:
            require_confined_builds(find_isolation(state, settings.isolation))
        replace_file(state.settings, settings.to_json().encode())
        local_keys.read_text(state)
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        raise ServeRefusedError(
            f"cannot use the state directory {state.root}: {error.strerror or error}{place};"
            " choose another one with --state-dir"
        ) from error
    return state


def require_confined_builds(isolation: Isolation) -> None:
    """Make sure that source can be built where it does no harm, before a server promises it.

    Raises:
        ServeRefusedError: It would run as the server.
    """
    if isolation.level is IsolationLevel.NONE:
        reasons = "; ".join(f"{fact.name}: {fact.detail}" for fact in isolation.facts)
        raise ServeRefusedError(
            "cannot serve with install.allow_sdist: building runs code of strangers, and nothing"
            f" here keeps it from the server's files ({reasons}); turn it off, or serve where"
            " Landlock or uids of their own can be had"
        )


def require_isolation(state: StateDir, settings: Settings) -> tuple[str, ...]:
    """Make sure that agents can be kept apart as well as the settings require.

    Returns:
        How well they can, in a line, and what else follows from it, in another.

    Raises:
        ServeRefusedError: Not well enough.
    """
    found, required = find_isolation(state, settings.isolation), settings.isolation.require
    if required is not None and not found.level.is_at_least(required):
        raise ServeRefusedError(
            f"cannot serve: agents can be kept apart at level {found.level} here, and"
            f" isolation.require is {required}: {found.shortcomings}"
        )
    said = f"isolation {found.level}"
    if found.level is not IsolationLevel.FULL:
        said = f"warning: isolation is only {found.level}: {found.shortcomings}"
    if settings.auth == "none" and not found.knows_callers:
        return said, "warning: agents can drive this API: it asks for no key, and cannot tell them"
    return (said,)


def write_configuration(state: StateDir, settings: Settings) -> tuple[tuple[str, str], ...]:
    """Write supervisord.conf, and move program configs aside that supervisord would choke on.

    Returns:
        File name and reason of each that was moved.

    Raises:
        ServeRefusedError: supervisord cannot work below this path.
    """
    programs = Programs(
        state,
        log_bytes=settings.limits.log_bytes,
        log_backups=settings.limits.log_backups,
        log_pace=LogPace(settings.limits.log_bytes_per_second, settings.limits.log_burst_seconds),
    )
    moved = programs.quarantine_broken()
    try:
        programs.write_supervisord_conf(service_command(state))
    except ProgramConfigError as error:
        raise ServeRefusedError("; ".join(filter(None, (error.detail, error.hint)))) from error
    return moved


def url_of(settings: Settings) -> str:
    """Give the address of the API, as far as its settings know it."""
    if settings.api_socket is not None:
        return f"unix://{settings.api_socket}"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.api_port}"


def service_command(state: StateDir) -> list[str]:
    """Say how supervisord starts the API."""
    return [sys.executable, "-m", "deployer.server", "--state-dir", str(state.root)]


def service_variables(state: StateDir, environ: Mapping[str, str]) -> dict[str, str]:
    """Choose the variables of supervisord and the API: children would inherit all the others."""
    kept = {name: environ[name] for name in _KEPT_VARIABLES if name in environ}
    return {
        "LANG": "C.UTF-8",
        **kept,
        # One heap, and no cache of freed pieces for each of 50 to 90 threads that share one
        # interpreter anyway: 20 MB after some minutes of traffic. Nobody reads columns of lines.
        "GLIBC_TUNABLES": "glibc.malloc.arena_max=1:glibc.malloc.tcache_count=0",
        "PYTHONNODEBUGRANGES": "1",
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
    open_ones = (state.root, state.agents, state.builds, state.environments)
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
    for directory in (*open_ones, *ours):
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(_OPEN if directory in open_ones else _OURS)
    probe = state.run / ".writable"
    probe.touch()
    probe.unlink()


def _take_lock(state: StateDir) -> None:
    """Take the lock, for good: it is let go when this process becomes supervisord or ends.

    supervisord closes inherited descriptors, so our plugin takes it again inside.
    """
    descriptor = os.open(state.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        present = _present_server(state, descriptor)
        os.close(descriptor)
        raise ServeRefusedError(
            f"cannot serve from {state.root}: {present} does already;"
            " stop it, or choose another state directory with --state-dir"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def _present_server(state: StateDir, descriptor: int) -> str:
    try:
        pid = os.pread(descriptor, 20, 0).decode("ascii").strip()
        url = url_of(Settings.read(state.settings))
    except (OSError, ValueError, SettingsInvalidError):
        return "another server"
    return f"another server (pid {pid}, {url})"


def _try_address(settings: Settings) -> None:
    """Find out in time that the API's address is taken."""
    if settings.api_socket is None:
        _try_port(settings)
        return
    try:
        listeners.bind_socket(settings.api_socket, settings.socket_mode).close()
    except OSError as error:
        raise ServeRefusedError(
            f"cannot serve on {url_of(settings)}: {error.strerror or error};"
            " choose another --host unix:PATH, in a directory that is there and can be written to"
        ) from error


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
        if holder is not None:
            why = f"port {settings.api_port} is held by {holder}; choose another with --api-port"
        else:
            why = f"{error.strerror or error}; choose another --host or --api-port"
        raise ServeRefusedError(f"cannot serve on {url_of(settings)}: {why}") from error


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()
