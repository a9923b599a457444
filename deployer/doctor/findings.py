"""What a check found: a verdict, what was seen, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"  # a server works here, but not as well as it could
    FAIL = "fail"  # something that is promised will not work


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: What was looked at, a word or two.
        verdict: How bad it is.
        detail: What was seen, with real values.
        hint: What to do; empty when all is well.
    """

    check: str
    verdict: Verdict
    detail: str
    hint: str = ""


def ok(check: str, detail: str) -> Finding:
    """Say that all is well."""
    return Finding(check, Verdict.OK, detail)


def warn(check: str, detail: str, hint: str) -> Finding:
    """Say that something could be better."""
    return Finding(check, Verdict.WARN, detail, hint)


def fail(check: str, detail: str, hint: str) -> Finding:
    """Say that something will not work."""
    return Finding(check, Verdict.FAIL, detail, hint)
