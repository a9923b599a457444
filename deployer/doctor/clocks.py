"""The clock: leases, locks, tokens of TLS and the age of logs all rest on it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final

import psutil

from deployer.doctor.findings import Finding, fail, ok, warn
from deployer.doctor.patients import Patient

_OLDEST: Final = datetime(2025, 1, 1, tzinfo=UTC).timestamp()
"""Before this version was made: a machine that forgot the time begins in 1970 or so."""

_SLEEP_SECONDS: Final = 0.05
_TOLERATED_SECONDS: Final = 2.0
_SET_CLOCK: Final = "set the clock, and keep it so: timedatectl set-ntp true"


def examine_clock(patient: Patient) -> Finding:
    """Compare the clock with the file system's, with the boot, and with itself."""
    probe = patient.scratch / "clock"
    probe.touch()
    skew = probe.stat().st_mtime - time.time()
    wall, steady = time.time(), time.monotonic()
    time.sleep(_SLEEP_SECONDS)
    drift = (time.time() - wall) - (time.monotonic() - steady)
    return judge_clock(
        now=wall, booted_at=psutil.boot_time(), skew_seconds=skew, drift_seconds=drift
    )


def judge_clock(
    *, now: float, booted_at: float, skew_seconds: float, drift_seconds: float
) -> Finding:
    """Judge what was measured.

    Args:
        now: Seconds since 1970.
        booted_at: When the machine was started, on the same clock.
        skew_seconds: How far the file system's clock is ahead.
        drift_seconds: How much faster the clock ran than the monotonic one, in a moment.
    """
    said = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if now < _OLDEST:
        return fail("clock", f"{said}: certificates are not valid yet", _SET_CLOCK)
    if booted_at > now + _TOLERATED_SECONDS:
        return fail("clock", f"{said}, and the machine was started after that", _SET_CLOCK)
    if abs(drift_seconds) > _TOLERATED_SECONDS:
        jump = f"{said}: it jumped by {drift_seconds:.1f} s in a moment"
        return fail("clock", jump, "find who sets it: two time services, or the hypervisor")
    if abs(skew_seconds) > _TOLERATED_SECONDS:
        return warn(
            "clock",
            f"{said}; the file system's clock differs by {skew_seconds:.1f} s",
            "put the state directory on a local disk, or set the clock of the file server",
        )
    hours = (now - booted_at) / 3600
    return ok(
        "clock", f"{said}, up for {hours:.0f} h, file system within {abs(skew_seconds):.2f} s"
    )
