"""A real shell in a home of its own, in which what a page shows is typed.

What comes out differs from the page in what no page can know: ports, times, ids, paths of the
machine. Both sides are rewritten alike before they are compared, and runs of spaces count as one,
because the width of a table's column follows its values.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

COMMAND_SECONDS: Final = 90.0
INTERRUPTED: Final = "^C"
"""As the last line that a page shows: the command is ended by Ctrl-C once the rest was printed."""

_VARYING: Final = (
    (r"\x1b\[[0-9;]*m", ""),
    (r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?", "<when>"),
    (r"\b\d+:\d\d:\d\d(?:[.,]\d+)?\b", "<when>"),
    (r"\b[A-Z][a-z]{2} \d\d \d\d:\d\d [AP]M\b", "<when>"),
    (r"\batoll_[0-9a-f]{12}_[\w-]{20,}", "<key>"),
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<id>"),
    (r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{12,}\b", "<id>"),
    (r"\bpid(\"?:?) \d+", r"pid\1 <pid>"),
    (r"\bPython 3\.\d+(?:\.\d+)?", "Python 3.x"),
    (r"\b\d+(?:\.\d+)? ?(?:ms|s|seconds|min|h|d)\b", "<time>"),
    (r"\b\d+(?:\.\d+)? ?(?:bytes|[KMG]i?B|B)\b", "<size>"),
    (r"\b\d+(?:\.\d+)?%", "<share>"),
    (r"[ \t]+", " "),
)


class Shell:
    """A bash whose commands come from a test, with what they print."""

    def __init__(self, home: Path, environ: Mapping[str, str]) -> None:
        """Start it in home."""
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=home,
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            bufsize=0,
        )
        self._text = ""
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        # each command a process group, as in a terminal, so that Ctrl-C reaches it alone
        self._send("set -m\n")

    def type(self, command: str) -> tuple[str, int]:
        """Type a command and wait for its end; give what it printed and its exit code."""
        mark, start = secrets.token_hex(8), len(self._text)
        self._begin(command, mark)
        found = self._wait_for(re.compile(rf"(?s)(.*?){mark} (\d+)\n"), start, command)
        return found[1], int(found[2])

    def type_and_interrupt(self, command: str, expected: Sequence[str], ports: Ports) -> str:
        """Type a command, wait for what it should print, and end it by Ctrl-C; give all of it."""
        mark, start = secrets.token_hex(8), len(self._text)
        self._begin(command, mark)
        deadline = time.monotonic() + COMMAND_SECONDS
        while not matches(expected, self._text[start:], ports) and time.monotonic() < deadline:
            time.sleep(0.05)
        shown = self._text[start:]
        self.interrupt()
        self._wait_for(re.compile(rf"{mark} \d+\n"), start, command)
        return shown

    def begin(self, command: str, expected: Sequence[str], ports: Ports) -> str:
        """Type a command that goes on, and give what it printed once that is what it should."""
        start = len(self._text)
        self._send(f"{command} < /dev/null\n")
        deadline = time.monotonic() + COMMAND_SECONDS
        while not matches(expected, self._text[start:], ports) and time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        return self._text[start:]

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        for child in psutil.Process(self._process.pid).children():
            with contextlib.suppress(ProcessLookupError, psutil.Error):
                os.killpg(child.pid, signal.SIGINT)

    def close(self) -> None:
        """End what runs, and the shell."""
        if self._process.poll() is None:
            self.interrupt()
            assert self._process.stdin
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(COMMAND_SECONDS)
        finally:
            self._process.kill()
            self._reader.join(10)
            assert self._process.stdout
            self._process.stdout.close()

    def _begin(self, command: str, mark: str) -> None:
        # The braces keep what it sets, and it must not read the commands that follow.
        self._send(
            f"(exit ${{last:-0}})\n{{ {command}\n}} < /dev/null\nlast=$?; echo {mark} $last\n"
        )

    def _send(self, text: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(text.encode())

    def _read(self) -> None:
        assert self._process.stdout
        with contextlib.suppress(ValueError, OSError):
            while chunk := os.read(self._process.stdout.fileno(), 65536):
                with self._changed:
                    self._text += chunk.decode("utf-8", "replace").replace("\r\n", "\n")
                    self._changed.notify_all()

    def _wait_for(self, pattern: re.Pattern[str], start: int, command: str) -> re.Match[str]:
        deadline = time.monotonic() + COMMAND_SECONDS
        with self._changed:
            while not (found := pattern.search(self._text, start)):
                left = deadline - time.monotonic()
                if left < 0 or self._process.poll() is not None:
                    raise AssertionError(f"no end of {command!r}:\n{self._text[start:]}")
                self._changed.wait(min(left, 1.0))
        return found


class Ports:
    """The ports that pages show, 8080 and 8100 onwards, and those that a test has for them."""

    def __init__(self, api: int, first: int, home: Path) -> None:
        """Map them; home is what ``~`` stands for."""
        self._ports = {8080: api, **{8100 + place: first + place for place in range(10)}}
        self._back = {str(real): str(shown) for shown, real in self._ports.items()}
        self._home = str(home)

    def typed(self, text: str) -> str:
        """Put the real ports into what a page shows."""
        return re.sub(r"\b8[01]\d\d\b", lambda it: str(self._ports.get(int(it[0]), it[0])), text)

    def shown(self, text: str) -> str:
        """Put the ports and the home of the page into what was printed."""
        text = text.replace(self._home, "~")
        return re.sub(r"\b\d{4,5}\b", lambda it: self._back.get(it[0], it[0]), text)


def matches(expected: Sequence[str], printed: str, ports: Ports) -> bool:
    """Tell whether what was printed is what a page shows."""
    parts = []
    for line in expected:
        if line.strip() == "...":
            parts.append(r"(?:.*\n)*?")
            continue
        pieces = (re.escape(piece) for piece in alike(line).split("..."))
        parts.append(".*".join(pieces) + r"\n")
    lines = [alike(line) for line in ports.shown(printed).splitlines()]
    return bool(re.fullmatch("".join(parts), "".join(f"{line}\n" for line in lines)))


def alike(line: str) -> str:
    """Write a line so that it is equal to another which differs in what varies only."""
    for pattern, written in _VARYING:
        line = re.sub(pattern, written, line)
    return line.rstrip()
