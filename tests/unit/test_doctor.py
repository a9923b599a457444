from __future__ import annotations

from datetime import UTC, datetime

import pytest

from deployer.doctor import Finding, Verdict
from deployer.doctor.clocks import judge_clock

NOW = datetime(2026, 6, 1, tzinfo=UTC).timestamp()


def clock(**facts: float) -> Finding:
    measured = {"now": NOW, "booted_at": NOW - 7200, "skew_seconds": 0.0, "drift_seconds": 0.0}
    return judge_clock(**(measured | facts))


def test_a_good_clock_is_told_with_the_time_since_boot() -> None:
    finding = clock()

    assert finding.verdict is Verdict.OK
    assert finding.detail.startswith("2026-06-01 00:00:00 UTC, up for 2 h")
    assert not finding.hint


def test_a_clock_that_begins_in_1970_fails() -> None:
    finding = clock(now=3600.0, booted_at=0.0)

    assert finding.verdict is Verdict.FAIL
    assert "certificates are not valid yet" in finding.detail
    assert "set-ntp" in finding.hint


def test_a_machine_that_was_started_in_the_future_fails() -> None:
    assert clock(booted_at=NOW + 60).verdict is Verdict.FAIL


@pytest.mark.parametrize("seconds", [-30.0, 30.0])
def test_a_clock_that_jumps_fails(seconds: float) -> None:
    finding = clock(drift_seconds=seconds)

    assert finding.verdict is Verdict.FAIL
    assert f"jumped by {seconds:.1f} s" in finding.detail


@pytest.mark.parametrize("seconds", [-5.0, 5.0])
def test_a_file_system_with_another_clock_is_a_warning(seconds: float) -> None:
    finding = clock(skew_seconds=seconds)

    assert finding.verdict is Verdict.WARN
    assert f"differs by {seconds:.1f} s" in finding.detail
