"""The ``supervisord.conf`` of a state directory: rendered, and read back as supervisord will."""

from __future__ import annotations

import io
import os
import pwd
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.options import ServerOptions, UnhosedConfigParser

from deployer import config_templates, program_configs
from deployer.errors import ProgramConfigError
from deployer.state_dir import StateDir

SERVICE: Final = "atoll-deployer"
"""The program that is this server's own API."""

_LONGEST_SOCKET_PATH: Final = 107 - len(".4194304")
"""Bytes that the kernel takes (unix(7)), less the pid that supervisord appends while it binds."""

_UNSPEAKABLE: Final = ("%(here)s", " ;", " #")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What supervisord's HTTP asks for; whoever has it can start and stop anything."""

    username: str
    password: str

    @classmethod
    def generate(cls) -> Credentials:
        """Make a pair that nobody can guess."""
        return cls("atoll", secrets.token_urlsafe(24))


@dataclass(frozen=True, slots=True)
class LogPace:
    """How fast a program may write its logs before it has to wait.

    Attributes:
        bytes_per_second: For good; 0: as fast as it can.
        burst_seconds: For how long twice as fast.
    """

    bytes_per_second: int = 0
    burst_seconds: float = 0.0


def render_supervisord_conf(
    state: StateDir,
    *,
    service_command: Sequence[str],
    credentials: Credentials,
    identifier: str = "atoll-deployer",
    log_pace: LogPace = LogPace(),
    log_bytes: int = 10_000_000,
    log_backups: int = 3,
) -> str:
    """Render the configuration of a supervisord of our own.

    Args:
        state: Where everything of it lies.
        service_command: Starts the API; supervisord restarts it for ever.
        credentials: For its socket and, in the same file, for supervisorctl.
        identifier: Its name, shown by the web UI.
        log_pace: How fast programs may write their logs.
        log_bytes: Size at which logs are rotated, its own and the API's.
        log_backups: Rotated logs to keep.

    Raises:
        ProgramConfigError: supervisord cannot work below this path; the sentence says why.
    """
    _refuse_unusable(state)
    value = program_configs.value
    return config_templates.render(
        "supervisord.conf.j2",
        {
            "is_known_root": os.geteuid() == 0 and _is_known(os.geteuid()),
            "identifier": value(identifier),
            "logs": value(str(state.logs)),
            "logfile": value(str(state.logs / "supervisord.log")),
            "pidfile": value(str(state.run / "supervisord.pid")),
            "socket": value(str(state.supervisor_socket)),
            "username": value(credentials.username),
            "password": value(credentials.password),
            "conf_d": value(str(state.conf_d)),
            "events_socket": value(str(state.events_socket)),
            "lock": value(str(state.lock)),
            "state_dir": value(str(state.root)),
            "service": SERVICE,
            "service_command": program_configs.command_value(service_command),
            "service_log": program_configs.log_value(state.logs / "deployer.log"),
            "log_bytes_per_second": log_pace.bytes_per_second,
            "log_burst_seconds": log_pace.burst_seconds,
            "log_bytes": log_bytes,
            "log_backups": log_backups,
        },
    )


def _is_known(uid: int) -> bool:
    """Tell whether a user has a row in passwd, which an empty image may be without."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def check_supervisord_conf(state: StateDir, text: str) -> None:
    """Read a configuration as supervisord will, together with every program config of conf.d.

    Raises:
        ProgramConfigError: supervisord would not start with it, or would use other paths.
    """
    options = ServerOptions()
    options.here = str(state.root)
    options.configfile = _NamedText(text, state.supervisord_conf)
    try:
        options.process_config(do_usage=False)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ProgramConfigError(
            f"cannot start supervisord in {state.root}: {reason}", cause="does not parse"
        ) from error
    section = options.configroot.supervisord
    found = [section.logfile, section.pidfile, *(at["file"] for at in section.server_configs)]
    meant = [state.logs / "supervisord.log", state.run / "supervisord.pid", state.supervisor_socket]
    if found != [str(path) for path in meant]:
        raise ProgramConfigError(
            f"cannot start supervisord in {state.root}: it would use {found} instead of its paths",
            cause="a path that supervisord cannot read",
            hint="choose another state directory with --state-dir",
        )


def read_credentials(state: StateDir) -> Credentials:
    """Read the credentials that the present supervisord.conf holds.

    Raises:
        ProgramConfigError: There is none.
    """
    parser = UnhosedConfigParser()
    if not parser.read(str(state.supervisord_conf)) or not parser.has_section("unix_http_server"):
        raise ProgramConfigError(
            f"cannot find supervisord's password: {state.supervisord_conf} is missing or another's"
        )
    read = parser.saneget
    section = "unix_http_server"
    return Credentials(read(section, "username"), read(section, "password"))


def _refuse_unusable(state: StateDir) -> None:
    root = str(state.root)
    length = len(os.fsencode(state.supervisor_socket))
    why = ""
    if length > _LONGEST_SOCKET_PATH:
        why = f"its socket's path would have {length} bytes, and {_LONGEST_SOCKET_PATH} is the most"
    elif set(root) & set("*?["):
        why = "supervisord takes * ? [ in the path of its conf.d for a pattern"
    elif cut := [text for text in _UNSPEAKABLE if text in root]:
        why = f"supervisord replaces {cut[0]!r} or cuts a value there, however it is quoted"
    elif not root.isprintable():
        why = "a control character in its path would end a line of supervisord's configuration"
    if why:
        raise ProgramConfigError(
            f"cannot use {root!r} as the state directory: {why}",
            cause="unusable state directory",
            hint="choose another one with --state-dir",
        )


class _NamedText(io.StringIO):
    """A text that supervisord takes for the file it will be, for the sake of [include]."""

    def __init__(self, text: str, path: Path) -> None:
        super().__init__(text)
        self.name = str(path)
