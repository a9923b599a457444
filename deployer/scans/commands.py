"""A scanner that the operator brings: a command that is given the code and answers in JSON."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Annotated, Final

from pydantic import BaseModel, Field, ValidationError

from deployer.scan_reports import Finding, ScanReport, Severity, not_scanned, report_of

SCANNER: Final = "command"
_END_SECONDS: Final = 5.0
_LARGEST_ANSWER: Final = 4 * 1024**2
_MOST_FINDINGS: Final = 200
_SHOWN: Final = 200


class Told(BaseModel):
    """A finding as a command tells it; what else it says is passed over."""

    rule: Annotated[str, Field(min_length=1, max_length=100)]
    file: Annotated[str, Field(max_length=1024)] = ""
    line: Annotated[int, Field(ge=1)] | None = None
    message: Annotated[str, Field(max_length=2000)] = ""
    severity: Severity = Severity.UNKNOWN


class Answer(BaseModel):
    """What a command prints."""

    findings: list[Told]


def scan_by_command(
    command: Sequence[str], code: Path, tmp: Path, *, timeout_seconds: float
) -> ScanReport:
    """Ask an external scanner, and take everything but a whole answer for none.

    Args:
        command: Its words; the code's directory is appended. No shell reads them.
        code: The unpacked package.
        tmp: Where its home is made for the time of the scan.
        timeout_seconds: It is killed with its process group when this is over.
    """
    with tempfile.TemporaryDirectory(dir=tmp) as home, tempfile.TemporaryFile(dir=tmp) as out:
        try:
            process = subprocess.Popen(  # noqa: S603 - the operator's own words
                [*command, str(code)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.DEVNULL,
                cwd=home,
                env={"PATH": os.environ.get("PATH", os.defpath), "HOME": home, "LANG": "C.UTF-8"},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            return not_scanned(SCANNER, f"{command[0]} could not be started: {error}")
        try:
            exit_code = process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return not_scanned(SCANNER, f"{command[0]} had not ended after {timeout_seconds:g} s")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):  # it hangs in the kernel then
                process.wait(_END_SECONDS)
        if exit_code:
            return not_scanned(SCANNER, f"{command[0]} ended with {exit_code}")
        return _read(out, command[0])


def _read(out: IO[bytes], name: str) -> ScanReport:
    out.seek(0)
    data = out.read(_LARGEST_ANSWER + 1)
    if len(data) > _LARGEST_ANSWER:
        return not_scanned(SCANNER, f"{name} answered with more than {_LARGEST_ANSWER} bytes")
    try:
        answer = Answer.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        why = f"{where}: {first['msg']}" if where else first["msg"]
        return not_scanned(SCANNER, f"{name} answered what cannot be read: {why:.{_SHOWN}}")
    found = [Finding(**dict(each)) for each in answer.findings]
    more = len(found) - _MOST_FINDINGS
    reason = f"{more} more findings are left out" if more > 0 else ""
    return report_of(SCANNER, found[:_MOST_FINDINGS], reason)
