"""Pseudo-terminals: commands as people see them, who look, press keys and have narrow windows."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SECONDS = 60.0


class TerminalSession:
    """A command that runs on a terminal of its own.

    Attributes:
        shown: All that it wrote, escape sequences included.
    """

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        """Watch a process whose terminal's other end is descriptor."""
        self.process = process
        self._descriptor = descriptor
        self.shown = ""

    @property
    def plain(self) -> str:
        """What it wrote, without escape sequences."""
        return _ESCAPES.sub("", self.shown).replace("\r", "")

    def wait_for(self, text: str, *, times: int = 1) -> None:
        """Read until a text was shown so often."""
        deadline = time.monotonic() + _SECONDS
        while self.plain.count(text) < times:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.shown[-500:]!r}"
            assert self._read(), f"ended without {text!r}: {self.shown[-500:]!r}"

    def press(self, keys: bytes) -> None:
        """Type."""
        os.write(self._descriptor, keys)

    def resize(self, columns: int) -> None:
        """Make the window wider or narrower."""
        set_size(self._descriptor, columns)

    def echoes(self) -> bool:
        """Tell whether the terminal shows what is typed, as shells want it."""
        return bool(termios.tcgetattr(self._descriptor)[3] & termios.ECHO)

    def finish(self) -> int:
        """Read until the command ends, and give its exit code."""
        deadline = time.monotonic() + _SECONDS
        while self._read():
            assert time.monotonic() < deadline, f"does not end: {self.shown[-500:]!r}"
        return self.process.wait(10)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._descriptor], [], [], 1)
        if not ready:
            return self.process.poll() is None
        try:
            chunk = os.read(self._descriptor, 65536)
        except OSError:
            return False  # how Linux says that the other end was closed
        self.shown += chunk.decode(errors="replace")
        return bool(chunk)


def set_size(descriptor: int, columns: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


@contextlib.contextmanager
def on_a_terminal(
    *words: str | Path, columns: int = 100, environ: Mapping[str, str] | None = None
) -> Iterator[TerminalSession]:
    """Run `atoll-deployer` on a terminal while the block runs."""
    ours, theirs = pty.openpty()
    set_size(theirs, columns)
    unwanted = {"COLUMNS", "LINES", "NO_COLOR"}
    variables = {name: value for name, value in os.environ.items() if name not in unwanted}
    process = subprocess.Popen(
        [sys.executable, "-m", "deployer.cli", *map(str, words)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=variables | {"TERM": "xterm", **(environ or {})},
        start_new_session=True,
        # Ctrl-C is for whoever's terminal it is
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one thread
    )
    try:
        yield TerminalSession(process, ours)
    finally:
        process.kill()
        process.wait(10)
        os.close(theirs)
        os.close(ours)
