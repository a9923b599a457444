"""The look into a package's own code, done by a process that may die of it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from deployer.scan_reports import Finding, ScanReport, Severity, not_scanned, report_of
from deployer.scans import source_rules

SCANNER: Final = "source"
MOST_FINDINGS: Final = 200
"""Of one report: more would be read by nobody."""

_MOST_DEATHS: Final = 5


def scan_sources(code: Path, *, timeout_seconds: float) -> ScanReport:
    """Say what stands out in a package's code.

    A file in which the parser dies is a finding itself, and the look goes on behind it.

    Args:
        code: The unpacked package.
        timeout_seconds: For all of it.
    """
    deadline = time.monotonic() + timeout_seconds
    findings: list[Finding] = []
    passed = 0
    for _ in range(_MOST_DEATHS):
        documents, end = _look(code, passed, deadline - time.monotonic())
        begun = [each["file"] for each in documents if "rule" not in each and "file" in each]
        findings += [_finding(each) for each in documents if "rule" in each]
        if documents and "end" in documents[-1]:
            return _cut(findings)
        if time.monotonic() > deadline or not begun:
            return not_scanned(SCANNER, f"the code could not be looked through: {end}")
        message = f"could not be looked into: the parser {end}"
        findings.append(Finding("unreadable-source", begun[-1], None, message, Severity.HIGH))
        passed += len(begun)
    return not_scanned(SCANNER, f"the parser died in {_MOST_DEATHS} files: {findings[-1].file}")


def _look(code: Path, passed: int, seconds: float) -> tuple[list[dict[str, Any]], str]:
    """Run the rules; gives what they printed, and how they ended."""
    command = [sys.executable, "-I", "-S", "-W", "ignore", source_rules.__file__]
    try:
        done = subprocess.run(  # noqa: S603 - a list of our own
            [*command, str(code.resolve()), str(passed)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            check=False,
            timeout=max(seconds, 0.0),
        )
    except subprocess.TimeoutExpired as error:
        return _documents(error.stdout or b""), "took too long"
    except OSError as error:
        return [], f"could not be started: {error.strerror}"
    by = signal.strsignal(-done.returncode) if done.returncode < 0 else f"exit {done.returncode}"
    return _documents(done.stdout), f"ended by {by}"


def _documents(output: bytes) -> list[dict[str, Any]]:
    # Without the last piece: what stands behind the last line break was cut off.
    return [json.loads(line) for line in output.split(b"\n")[:-1]]


def _finding(document: dict[str, Any]) -> Finding:
    # Half of what is said are the author's words, which may hold anything.
    message = "".join(each if each.isprintable() else "?" for each in document["message"])
    return Finding(**{**document, "message": message, "severity": Severity(document["severity"])})


def _cut(findings: list[Finding]) -> ScanReport:
    more = len(findings) - MOST_FINDINGS
    reason = f"{more} more findings are left out" if more > 0 else ""
    return report_of(SCANNER, findings[:MOST_FINDINGS], reason)
