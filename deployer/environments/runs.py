"""Running an installer: with few variables, logged, bounded in time, gone with the server."""

from __future__ import annotations

import functools
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from deployer.environments.failures import EVIDENCE_LINES, failure_of
from deployer.errors import DeploymentCanceledError, InstallError

_LOOK_SECONDS: Final = 0.1
_END_SECONDS: Final = 0.001  # between closing its output, at its end, and having ended
_KEPT_LINES: Final = 2000
_LONGEST_LINE: Final = 4096
_LOG_BYTES: Final = 16 * 1024**2
"""Of one command; what builds source may print without end."""

_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_KEPT_VARIABLES: Final = (
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
    *_PROXIES,
    *(name.upper() for name in _PROXIES),
)


def installer_variables(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """Choose the variables that an installer gets: nothing of ours, and no ``UV_*`` or ``PIP_*``.

    Args:
        environ: The server's own variables, for the CA bundle and the proxies.
        home: A private directory, for HOME and TMPDIR, where ``.netrc`` may hold logins.
    """
    kept = {name: environ[name] for name in _KEPT_VARIABLES if environ.get(name)}
    return {
        **kept,
        "PATH": environ.get("PATH", os.defpath),
        "HOME": str(home),
        "TMPDIR": str(home),
        "LANG": "C.UTF-8",
        "UV_HTTP_RETRIES": "2",
        "UV_PYTHON_DOWNLOADS": "never",
        # The one way to keep pip from the machine's own pip.conf; --isolated does not.
        "PIP_CONFIG_FILE": os.devnull,
    }


def run(
    command: Sequence[str],
    *,
    doing: str,
    cwd: Path,
    variables: Mapping[str, str],
    log: Path,
    timeout_seconds: float,
    canceled: Callable[[], bool] = lambda: False,
) -> None:
    """Run one installer command, and return once it has succeeded.

    What it makes is readable by every user, whatever the server's umask: agents have uids of
    their own. It dies with the server where util-linux is there to arrange it.

    Args:
        command: What to run; must hold no secret, as every user can read command lines.
        doing: What it is for, to stand behind "cannot", such as ``resolve the dependencies``.
        cwd: An empty directory, because uv and pip read configuration where they run.
        variables: All the environment variables that it gets.
        log: Where its output is appended, after a line with the command.
        timeout_seconds: It is killed with its process group when this is over.
        canceled: Asked ten times a second; True kills it too.

    Raises:
        ResolutionError: The requirements cannot be met.
        NoSpaceError: The disk is full.
        InstallError: It failed otherwise, or was overdue.
        DeploymentCanceledError: canceled said so.
    """
    deadline = time.monotonic() + timeout_seconds
    kept: deque[str] = deque(maxlen=_KEPT_LINES)
    kept.append(f"$ {shlex.join(command)}")
    try:
        with log.open("ab") as out:
            out.write(f"{kept[0]}\n".encode())
            out.flush()
            with subprocess.Popen(  # noqa: S603  # a list that our own modules made
                [*_dying_with_us(), *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=dict(variables),
                start_new_session=True,
                umask=0o022,
            ) as process:
                try:
                    ended = _copy(process, out, kept, deadline, canceled)
                finally:
                    # Also after success: nothing that it started may live on in the environment.
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
    except OSError as error:
        raise failure_of([*kept, f"error: {error.strerror or error}"], doing=doing) from error
    if canceled():
        raise DeploymentCanceledError(f"cannot {doing}: canceled", cause="canceled")
    if not ended:
        raise InstallError(
            f"cannot {doing}: not done within {timeout_seconds:g} s",
            cause=f"not done within {timeout_seconds:g} s",
            hint="look at the evidence for what it waited for, or raise the time allowed for "
            "installs in the settings",
            evidence=list(kept)[-EVIDENCE_LINES:],
        )
    if process.returncode != 0:
        raise failure_of(list(kept), doing=doing)


def _copy(
    process: subprocess.Popen[bytes],
    out: IO[bytes],
    kept: deque[str],
    deadline: float,
    canceled: Callable[[], bool],
) -> bool:
    """Copy output until the process ends; False when it was stopped before.

    The pipe's end is seen at once, while waiting for the process alone would mean looking again
    and again: a build of 20 ms would take 40.
    """
    pipe = process.stdout
    if pipe is None:  # pragma: no cover  # for the type checker: it was opened with PIPE
        return False
    os.set_blocking(pipe.fileno(), False)
    unfinished = b""
    room = _LOG_BYTES
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        is_open = True
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or canceled():
                return False
            has_ended = _has_ended(process.pid)
            if not is_open:
                if has_ended:
                    break
                time.sleep(_END_SECONDS)
            elif selector.select(0 if has_ended else min(left, _LOOK_SECONDS)):
                data = pipe.read(65536)
                is_open = data != b""
                room = _append(out, data or b"", room)
                *lines, unfinished = (unfinished + (data or b"")).split(b"\n")
                kept.extend(_shorten(line).decode(errors="replace") for line in lines)
                unfinished = _shorten(unfinished)
            elif has_ended:  # a daemon that kept the pipe must not hold us
                break
    if unfinished:
        kept.append(unfinished.decode(errors="replace"))
        out.write(b"\n")
    return True


def _append(out: IO[bytes], data: bytes, room: int) -> int:
    """Write as much as there is room for, and give what is left of it; below 0: there was more."""
    if room < 0:
        return room
    out.write(data[:room])
    if len(data) > room:
        out.write(b"\n[the rest is left out]")
    out.flush()
    return room - len(data)


def _shorten(line: bytes) -> bytes:
    return line[:_LONGEST_LINE]


def _has_ended(pid: int) -> bool:
    """Tell whether a child ended, and leave it a zombie.

    So its number stays taken, and its process group can be killed without hitting a stranger.
    """
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


@functools.cache
def _dying_with_us() -> tuple[str, ...]:
    """Give the words before a command that kill it when our thread dies; none without setpriv.

    An installer that outlived a killed server would write on into a directory that the next start
    has begun to delete.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return ()
    words = (setpriv, "--pdeathsig", "KILL", "--")
    try:
        # BusyBox has a setpriv without this option.
        subprocess.run([*words, "true"], check=True, capture_output=True, timeout=10)  # noqa: S603  # as above
    except (OSError, subprocess.SubprocessError):
        return ()
    return words
