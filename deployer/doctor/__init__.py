"""Whether a machine is fit for a server: looked at from outside, with nothing changed."""

from __future__ import annotations

from deployer.doctor.examinations import examine
from deployer.doctor.findings import Finding, Verdict
from deployer.doctor.selftests import Trial, selftest

__all__ = ["Finding", "Trial", "Verdict", "examine", "selftest"]
