"""Program configs and launch policies: rendered, checked, and moved in and out of conf.d.

A config holds only constants, numbers, and names and paths that we made. supervisord reads every
file of conf.d at its start and does not start when one of them does not parse, so nothing enters
that was not parsed back first and found to say what was meant.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shlex
import signal
import stat
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from supervisor.datatypes import RestartUnconditionally
from supervisor.options import ProcessConfig

from deployer import config_templates, faults, launcher, program_configs
from deployer.errors import ProgramConfigError
from deployer.launch_policies import LaunchPolicy, policy_bytes
from deployer.model import RestartPolicy, agent_of_program
from deployer.state_dir import StateDir
from deployer.supervisord_confs import (
    SERVICE,
    Credentials,
    LogPace,
    check_supervisord_conf,
    render_supervisord_conf,
)

__all__ = ["SERVICE", "Credentials", "LaunchPolicy", "Programs"]

_ANY_RESTARTS: Final = RestartPolicy()
_HALF: Final = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}")
"""What `tempfile.mkstemp` makes of the names that `replace_file` asks for."""


class Programs:
    """The program configs and launch policies of one server."""

    def __init__(
        self,
        state: StateDir,
        *,
        conf_d: Path | None = None,
        python: Path | str = sys.executable,
        log_bytes: int = 10_000_000,
        log_backups: int = 3,
        log_pace: LogPace = LogPace(),  # noqa: B008 - frozen
    ) -> None:
        """Write below state.

        Args:
            state: Holds the policies and logs.
            conf_d: Where program configs go; by default the state directory's own. Another one
                belongs to a supervisord that is not ours: only files named after agents are
                touched there.
            python: Runs the launcher; needs nothing but the standard library.
            log_bytes: Size at which supervisord rotates a log.
            log_backups: Rotated logs to keep; with fewer than 2 a follower can lose lines.
            log_pace: How fast agents may write their logs.
        """
        self._state = state
        self._conf_d = conf_d or state.conf_d
        self._python = str(python)
        self._log_bytes = log_bytes
        self._log_backups = log_backups
        self._log_pace = log_pace

    def render(self, policy: LaunchPolicy, restarts: RestartPolicy = _ANY_RESTARTS) -> str:
        """Render a program config and make sure that supervisord will read it as it was meant.

        Raises:
            ProgramConfigError: It would not; the sentence names the values.
        """
        program = policy.program
        if agent_of_program(program) is None:
            raise ProgramConfigError(
                f"cannot write a program config for {program!r}: it is not the name of an agent and"
                " the number of a release, such as weather--7"
            )
        text = config_templates.render(
            "program.conf.j2",
            {
                "program": program,
                "command": program_configs.command_value(self._command(policy)),
                "autorestart": str(restarts.enabled).lower(),
                "startretries": _startretries(restarts),
                "stop_seconds": math.ceil(policy.stop_seconds),
                "stdout_log": program_configs.log_value(self._state.stdout_log(program)),
                "stderr_log": program_configs.log_value(self._state.stderr_log(program)),
                "log_bytes": self._log_bytes,
                "log_backups": self._log_backups,
            },
        )
        config = program_configs.parse_program(program, text, here=self._conf_d)
        pairs = program_configs.differences(config, self._intent(policy, restarts))
        if pairs:
            wrong = [f"{key} is {pair[0]!r}, not {pair[1]!r}" for key, pair in pairs.items()]
            raise ProgramConfigError(
                f"cannot write the program config of {program}: supervisord would read it otherwise"
                f" than it is meant: {'; '.join(wrong)}",
                cause="a path that supervisord cannot read",
                hint="keep '%(here)s', ' ;', ' #' and control characters out of the state"
                " directory's path",
            )
        return text

    def write(self, policy: LaunchPolicy, restarts: RestartPolicy = _ANY_RESTARTS) -> None:
        """Write a program's launch policy and its config, each moved in place when it is whole.

        Args:
            policy: What the launcher does.
            restarts: Written down as far as a plain supervisord can follow it; our plugin is given
                the rest of the numbers when the program is applied.

        Raises:
            ProgramConfigError: The config would not say what was meant, or the policy cannot be
                written down; nothing was changed.
        """
        text = self.render(policy, restarts)
        lines = policy_bytes(policy)
        replace_file(self._state.policy(policy.program), lines)
        faults.reach("programs.write_policy")
        replace_file(self._config_path(policy.program), text.encode())
        faults.reach("programs.write_config")

    def delete(self, program: str) -> None:
        """Remove a program's config and policy, if they are there; its logs stay."""
        self._config_path(program).unlink(missing_ok=True)
        faults.reach("programs.delete_config")
        self._state.policy(program).unlink(missing_ok=True)
        faults.reach("programs.delete_policy")

    def port_of(self, program: str) -> int | None:
        """Read the port that a program's config starts it on; None when there is no such config."""
        try:
            words = self._config_path(program).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeError):
            return None
        for line in words:
            if line.startswith("command="):
                port = shlex.split(line.removeprefix("command="))[-2]
                return int(port) if port.isdecimal() else None
        return None

    def names(self) -> tuple[str, ...]:
        """Name the programs that this server has written, sorted.

        Each has a launch policy in the state directory, written before its config and deleted after
        it. A conf.d that is not ours may hold programs of others under names like ours.
        """
        names = (path.name for path in self._state.policies.glob("*"))
        return tuple(sorted(name for name in names if agent_of_program(name)))

    def is_written(self, program: str) -> bool:
        """Tell whether `names` names a program."""
        return self._state.policy(program).exists()

    def write_supervisord_conf(
        self, service_command: Sequence[str], *, identifier: str = "atoll-deployer"
    ) -> Credentials:
        """Write the configuration of a supervisord of our own, and make the directories it needs.

        Broken program configs must be in quarantine by then: supervisord reads them all.

        Args:
            service_command: Starts the API, which supervisord then restarts for ever.
            identifier: supervisord's name, shown by its web UI.

        Returns:
            New credentials for its socket; `supervisord_confs.read_credentials` finds them again.

        Raises:
            ProgramConfigError: supervisord could not start with it, or not below this path.
        """
        credentials = Credentials.generate()
        text = render_supervisord_conf(
            self._state,
            service_command=service_command,
            credentials=credentials,
            identifier=identifier,
            log_pace=self._log_pace,
            log_bytes=self._log_bytes,
            log_backups=self._log_backups,
        )
        state = self._state
        for directory in (state.conf_d, state.policies, state.run, state.logs):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_supervisord_conf(state, text)
        replace_file(state.supervisord_conf, text.encode())
        return credentials

    def quarantine_broken(self) -> tuple[tuple[str, str], ...]:
        """Move every config aside that supervisord could not read, or that speaks for others.

        Called before supervisord starts: one such file would keep it from starting, and with it
        every agent.

        Returns:
            The name of each file that went to ``quarantine/``, and why.
        """
        broken = []
        for path in self._files():
            try:
                text = path.read_text()
                program_configs.parse_program(path.stem, text, here=self._conf_d)
            except (ProgramConfigError, OSError, UnicodeError) as error:
                aside = self._conf_d / "quarantine"
                aside.mkdir(mode=0o700, exist_ok=True)
                path.replace(aside / path.name)
                broken.append((path.name, str(error)))
        return tuple(broken)

    def remove_halves(self, before: float) -> None:
        """Remove what `replace_file` left that was killed before it had moved its file in place.

        A half of a launch policy may hold secrets in clear.

        Args:
            before: Only what is older than this, in seconds since 1970: what is younger may be
                somebody's who is writing it now.
        """
        foreign = self._conf_d != self._state.conf_d
        for directory in (self._state.root, self._state.policies, self._conf_d):
            for path in directory.glob(".*"):
                named = _HALF.fullmatch(path.name)
                if named is None or (
                    foreign
                    and directory == self._conf_d
                    and agent_of_program(named["name"].removesuffix(".conf")) is None
                ):
                    continue
                with contextlib.suppress(FileNotFoundError):  # moved in place meanwhile
                    if path.is_file() and path.stat().st_mtime < before:
                        path.unlink()

    def _files(self) -> list[Path]:
        # in a conf.d that is not ours, nothing but our own files is our business
        foreign = self._conf_d != self._state.conf_d
        paths = sorted(self._conf_d.glob("*.conf"))
        return [path for path in paths if not foreign or agent_of_program(path.stem)]

    def _config_path(self, program: str) -> Path:
        return self._conf_d / f"{program}.conf"

    def _command(self, policy: LaunchPolicy) -> list[str]:
        launched_by = [self._python, "-I", "-S", str(Path(launcher.__file__).resolve())]
        inherits = [program_configs.INHERIT, policy.inherits_from] if policy.inherits_from else []
        return [*launched_by, str(policy.port), str(self._state.policy(policy.program)), *inherits]

    def _intent(self, policy: LaunchPolicy, restarts: RestartPolicy) -> ProcessConfig:
        """Say the same as the template, by supervisord's own nouns instead of text."""
        streams: dict[str, Any] = {}
        for stream, path in (
            ("stdout", self._state.stdout_log(policy.program)),
            ("stderr", self._state.stderr_log(policy.program)),
        ):
            streams |= {
                f"{stream}_logfile": str(path),
                f"{stream}_logfile_maxbytes": self._log_bytes,
                f"{stream}_logfile_backups": self._log_backups,
                f"{stream}_capture_maxbytes": 0,
                f"{stream}_events_enabled": False,
                f"{stream}_syslog": False,
            }
        return ProcessConfig(
            None,
            name=policy.program,
            command=shlex.join(self._command(policy)),
            directory=None,
            umask=None,
            uid=None,
            environment={},
            serverurl=None,
            priority=999,
            autostart=False,
            autorestart=RestartUnconditionally if restarts.enabled else False,
            startsecs=1,
            startretries=_startretries(restarts),
            stopsignal=signal.SIGTERM,
            stopwaitsecs=math.ceil(policy.stop_seconds),
            stopasgroup=True,
            killasgroup=True,
            exitcodes=[0],
            redirect_stderr=False,
            **streams,
        )


def _startretries(restarts: RestartPolicy) -> int:
    limit = restarts.max_restarts
    return program_configs.ENDLESS_RETRIES if limit is None else limit


def replace_file(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, and move it in place once it is on the disk.

    One that is like that already stays: most starts change nothing, and two syncs take 3 ms.

    The directory is not synced, for that doubles the time: a power cut may bring the file before
    back, but never leaves half a one.

    Args:
        path: Where it goes; its directory is made, 0700, if it is missing.
        content: All of it.
    """
    if _is_so_already(path, content):
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:  # mkstemp made it 0600
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        faults.reach("programs.replace_file")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _is_so_already(path: Path, content: bytes) -> bool:
    with contextlib.suppress(OSError):
        status = path.lstat()
        return (
            (status.st_mode, status.st_uid) == (stat.S_IFREG | 0o600, os.geteuid())
            and status.st_size == len(content)
            and path.read_bytes() == content
        )
    return False
