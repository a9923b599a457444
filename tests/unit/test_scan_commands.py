"""External scanners: whole answers count, and anything else is told as none."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from deployer.processes import is_running
from deployer.scan_reports import Finding, ScanReport, ScanStatus, Severity
from deployer.scans.commands import scan_by_command
from tests.servers import wait_until


def scan(tmp_path: Path, program: str, *, seconds: float = 20.0) -> ScanReport:
    return scan_by_command(
        (sys.executable, "-c", program), tmp_path / "code", tmp_path, timeout_seconds=seconds
    )


def test_a_command_is_given_the_code_and_its_findings_are_taken(tmp_path: Path) -> None:
    finding = {"rule": "own", "file": "a.py", "line": 3, "message": "m", "severity": "high", "x": 1}
    answer = json.dumps({"findings": [finding, {"rule": "bare"}], "version": "9"})

    report = scan(tmp_path, f"import sys; assert sys.argv[-1].endswith('/code'); print({answer!r})")

    assert report == ScanReport(
        "command",
        ScanStatus.FINDINGS,
        (
            Finding("own", "a.py", 3, "m", Severity.HIGH),
            Finding("bare", "", None, "", Severity.UNKNOWN),
        ),
    )


def test_no_findings_are_clean(tmp_path: Path) -> None:
    assert scan(tmp_path, "print('{\"findings\": []}')").status is ScanStatus.CLEAN


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("pass", "answered what cannot be read"),
        ("print('[]')", "answered what cannot be read"),
        ("print('{}')", "findings: Field required"),
        ("print('{\"findings\": [{}]}')", "findings.0.rule: Field required"),
        ('print(\'{"findings": [{"rule": "x", "line": 0}]}\')', "findings.0.line"),
        ("print('{\"findings\": []}'); raise SystemExit(3)", "ended with 3"),
        ("import os; os.kill(os.getpid(), 11)", "ended with -11"),
        ("print('x' * 5_000_000)", "answered with more than 4194304 bytes"),
    ],
)
def test_anything_else_is_not_scanned(tmp_path: Path, program: str, reason: str) -> None:
    report = scan(tmp_path, program)

    assert report.status is ScanStatus.NOT_SCANNED
    assert reason in report.reason


def test_a_command_that_is_not_there_is_told(tmp_path: Path) -> None:
    report = scan_by_command(("/no/such",), tmp_path, tmp_path, timeout_seconds=1)

    assert report.status is ScanStatus.NOT_SCANNED
    assert "/no/such could not be started" in report.reason


def test_an_overdue_command_is_killed_with_its_children(tmp_path: Path) -> None:
    program = (
        "import subprocess, time, pathlib;"
        f"child = subprocess.Popen(['sleep', '60']);"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid)); time.sleep(60)"
    )
    began = time.monotonic()

    report = scan(tmp_path, program, seconds=4)

    assert "had not ended after 4 s" in report.reason
    assert time.monotonic() - began < 30
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not is_running(pid))


def test_a_command_is_told_nothing_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "x")

    report = scan(
        tmp_path, "import os, sys; print('{\"findings\": []}'); sys.exit('SECRET' in os.environ)"
    )

    assert report.status is ScanStatus.CLEAN
    assert sorted(path.name for path in tmp_path.iterdir()) == []
