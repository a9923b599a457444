"""The look into a package's own code, done by a process that may die of it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Self

from deployer.scan_reports import Finding, ScanReport, Severity, not_scanned, report_of
from deployer.scans import source_rules

SCANNER: Final = "source"
MOST_FINDINGS: Final = 200
"""Of one report: more would be read by nobody."""

_MOST_DEATHS: Final = 5
_MOST_KNOWN: Final = 4096
_KIND_BYTES: Final = 4096

_START: Final = """
import sys
sys.path.append(sys.argv[1])  # imported, its bytecode is used; run by its path, it is compiled
__import__(sys.argv[2]).main(sys.argv[3])
"""

_Key = tuple[str, bytes]
"""A file's name without its folders, and the SHA-256 of what it holds: all that rules ask about."""


class Sources:
    """Looks into code, and remembers what it found in each file that was parsed.

    A file is known again by what it holds, whosever it is: of a release in which one file has
    changed one file is parsed.
    """

    def __init__(self) -> None:
        """Know nothing."""
        self._known: OrderedDict[_Key, tuple[source_rules.Found, ...]] = OrderedDict()
        self._guard = threading.Lock()

    def begin(self, code: Path) -> Look:
        """Begin to look into a package, in a process of its own while other things are done.

        Args:
            code: The unpacked package; its files stay as they are.
        """
        found: dict[str, tuple[source_rules.Found, ...]] = {}
        unknown: dict[str, _Key] = {}
        try:
            for name in _names(code):
                data = _read(code / name)
                if not source_rules.is_source(name):
                    found[name] = tuple(source_rules.of_kind(data, name))
                    continue
                key = Path(name).name, hashlib.sha256(data).digest()
                known = self._recall(key)
                if known is None:
                    unknown[name] = key
                else:
                    found[name] = known
        except OSError as error:
            return Look(self, code, {}, {}, f"{error.filename}: {error.strerror}")
        return Look(self, code, found, unknown)

    def remember(self, key: _Key, found: tuple[source_rules.Found, ...]) -> None:
        """Keep what was found in a file that was parsed."""
        with self._guard:
            self._known[key] = found
            if len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)

    def _recall(self, key: _Key) -> tuple[source_rules.Found, ...] | None:
        with self._guard:
            if key in self._known:
                self._known.move_to_end(key)
            return self._known.get(key)


class Look:
    """One look into a package; as a context it ends with its block, whether or not it is over.

    Attributes:
        code: The unpacked package.
    """

    def __init__(
        self,
        sources: Sources,
        code: Path,
        found: Mapping[str, tuple[source_rules.Found, ...]],
        unknown: Mapping[str, _Key],
        failure: str = "",
    ) -> None:
        """Begin to parse, if there is anything to parse.

        Args:
            sources: Is told what was found.
            code: The unpacked package.
            found: What is known of its files, by their names.
            unknown: Files that are to be parsed, by their names.
            failure: Why they could not be listed or read; empty: they could.
        """
        self._sources = sources
        self.code = code
        self._found = dict(found)
        self._unknown = unknown
        self._failure = failure
        self._run = _Run(code, sorted(unknown))

    def __enter__(self) -> Self:
        """Be ended with the block."""
        return self

    def __exit__(self, *_error: object) -> None:
        """End what still runs: nobody asks about it any more."""
        self._run.end()

    def report(self, *, timeout_seconds: float) -> ScanReport:
        """Say what stands out, once all has been looked at.

        A file in which the parser dies is a finding itself, and the look goes on behind it.

        Args:
            timeout_seconds: The longest wait for that.
        """
        deadline = time.monotonic() + timeout_seconds
        dead = ""
        for _ in range(_MOST_DEATHS):
            begun, end = self._run.follow(deadline - time.monotonic())
            self._found |= begun
            if end and (not begun or time.monotonic() > deadline):
                self._failure = end
            if self._failure:
                reason = f"the code could not be looked through: {self._failure}"
                return not_scanned(SCANNER, reason)
            dead = list(begun)[-1] if end else ""
            for name in begun.keys() - {dead}:
                self._sources.remember(self._unknown[name], begun[name])
            if not end:
                findings = (_findings(name, self._found[name]) for name in sorted(self._found))
                return _cut([each for of_file in findings for each in of_file])
            message = f"could not be looked into: the parser {end}"
            self._found[dead] += (("unreadable-source", 0, message, "high"),)
            self._run = _Run(self.code, sorted(self._unknown.keys() - self._found.keys()))
        return not_scanned(SCANNER, f"the parser died in {_MOST_DEATHS} files: {dead}")


class _Run:
    """The rules, as they are applied to some files in a process of their own."""

    def __init__(self, code: Path, names: list[str]) -> None:
        """Start the process, unless there are no files."""
        self._process: subprocess.Popen[bytes] | None = None
        self._failure = ""
        if not names:
            return
        rules = Path(source_rules.__file__)
        python = [sys.executable, "-I", "-S", "-W", "ignore", "-c", _START]
        try:
            with tempfile.TemporaryFile() as listing:  # a pipe could be full before it is read
                listing.write(b"".join(os.fsencode(name) + b"\0" for name in names))
                listing.seek(0)
                self._process = subprocess.Popen(  # noqa: S603 - a list of our own
                    [*python, str(rules.parent), rules.stem, str(code.resolve())],
                    stdin=listing,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env={},
                )
        except OSError as error:
            self._failure = f"could not be started: {error.strerror}"

    def follow(self, seconds: float) -> tuple[dict[str, tuple[source_rules.Found, ...]], str]:
        """Wait for its end, but not for longer than so many seconds.

        Returns:
            What was found in each file that was begun, by name and in order; and how it ended
            before it had looked at all, empty when it had.
        """
        if self._process is None:
            return {}, self._failure
        try:
            output, _ = self._process.communicate(timeout=max(seconds, 0.0))
        except subprocess.TimeoutExpired as error:
            begun, _ = _read_output(error.stdout or b"")
            return begun, "took too long"
        begun, is_whole = _read_output(output)
        code = self._process.returncode
        by = signal.strsignal(-code) if code < 0 else f"exit {code}"
        return begun, "" if is_whole else f"ended by {by}"

    def end(self) -> None:
        """End the process, if it still runs."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


def scan_sources(code: Path, *, timeout_seconds: float) -> ScanReport:
    """Say what stands out in a package's code.

    Args:
        code: The unpacked package.
        timeout_seconds: For all of it.
    """
    with Sources().begin(code) as look:
        return look.report(timeout_seconds=timeout_seconds)


def _names(code: Path) -> Iterator[str]:
    for folder, _, names in os.walk(code, onerror=_give_up):
        for name in names:
            path = Path(folder, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield str(path.relative_to(code))


def _give_up(error: OSError) -> None:
    raise error  # what cannot be listed must not pass for empty


def _read(path: Path) -> bytes:
    is_whole = source_rules.is_source(path.name)
    with path.open("rb") as file:
        return file.read(source_rules.LARGEST_SOURCE + 1 if is_whole else _KIND_BYTES)


def _read_output(output: bytes) -> tuple[dict[str, tuple[source_rules.Found, ...]], bool]:
    """Read what the rules printed: what they found by files, and whether they came to the end."""
    begun: dict[str, tuple[source_rules.Found, ...]] = {}
    # Without the last piece: what stands behind the last line break was cut off.
    for line in output.split(b"\n")[:-1]:
        fields = json.loads(line)
        if not fields:
            return begun, True
        name, *found = fields
        begun.setdefault(name, ())
        if found:
            rule, number, message, severity = found
            begun[name] += ((rule, number, message, severity),)
    return begun, False


def _findings(name: str, found: tuple[source_rules.Found, ...]) -> Iterator[Finding]:
    for rule, line, message, severity in found:
        # Half of what is said are the author's words, which may hold anything.
        printable = "".join(each if each.isprintable() else "?" for each in message)
        yield Finding(rule, name, line or None, printable, Severity(severity))


def _cut(findings: list[Finding]) -> ScanReport:
    more = len(findings) - MOST_FINDINGS
    reason = f"{more} more findings are left out" if more > 0 else ""
    return report_of(SCANNER, findings[:MOST_FINDINGS], reason)
