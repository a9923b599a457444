"""What keeps agents apart and in bounds here, found out by doing it."""

from __future__ import annotations

from deployer.doctor.findings import Finding, fail, ok, warn
from deployer.doctor.patients import Patient
from deployer.isolation_levels import IsolationLevel
from deployer.limits.limiters import Limiter


def examine_isolation(patient: Patient) -> Finding:
    """Find out at which level agents are kept apart."""
    found, required = patient.isolation, patient.settings.isolation.require
    if required is not None and not found.level.is_at_least(required):
        detail = f"level {found.level}, and isolation.require is {required}: {found.shortcomings}"
        return fail("isolation", detail, "mend what is named, or require less")
    if found.level is IsolationLevel.FULL:
        return ok("isolation", f"level {found.level}")
    hint = "run serve as root on Linux 6.12 or newer for level full"
    return warn("isolation", f"level {found.level}: {found.shortcomings}", hint)


def examine_limits(patient: Patient) -> Finding:
    """Find out what holds agents to their limits."""
    own_uids = patient.isolation.agent_uids is not None
    limiter = Limiter(patient.trial, patient.settings.limits, own_uids=own_uids)
    try:
        found = limiter.mechanisms
        kinds = {"memory": found.memory, "cpu": found.cpu, "pids": found.pids}
    finally:
        limiter.close()
    detail = ", ".join(f"{kind} by {mechanism.name}" for kind, mechanism in kinds.items())
    soft = [kind for kind, mechanism in kinds.items() if not mechanism.hard]
    if not soft:
        return ok("limits", detail)
    hint = (
        f"the kernel does not hold {', '.join(soft)} for all processes of an agent together: give"
        " the server control groups (systemd: Delegate=yes)"
    )
    return warn("limits", detail, hint)
