"""uv and the interpreters: what environments are made with."""

from __future__ import annotations

import os
import subprocess
from typing import Final

from deployer.doctor.findings import Finding, fail, ok, warn
from deployer.doctor.patients import Patient
from deployer.environments.installers import find_pip, find_uv
from deployer.environments.interpreters import Interpreter, find_interpreters, unreachable_by

_SECONDS: Final = 10.0
_SHOWN: Final = 3


def examine_installer(patient: Patient) -> Finding:
    """Run uv, or find the pip that stands in for it."""
    if patient.settings.installer == "pip":
        return ok("installer", f"pip, as the settings say: {' '.join(find_pip())}")
    uv = find_uv()
    reinstall = "install the server again, with uv: pip install --force-reinstall uv"
    if uv is None:
        hint = f"{reinstall}; pip is slower, and cannot keep names to their first index"
        return warn("installer", f"no uv here: pip stands in ({' '.join(find_pip())})", hint)
    try:
        done = subprocess.run(  # noqa: S603 - found where our own Python keeps it
            [str(uv), "--version", "--no-config"],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return fail("installer", f"{uv} does not answer within {_SECONDS:g} s", reinstall)
    except OSError as error:
        return fail("installer", f"{uv} cannot be run: {error.strerror}", reinstall)
    if done.returncode != 0 or not done.stdout.startswith("uv "):
        said = (done.stderr or done.stdout).strip().partition("\n")[0]
        return fail("installer", f"{uv} exits with {done.returncode}: {said}", reinstall)
    version = " ".join(done.stdout.split()[:2])
    return ok("installer", f"{version} at {uv}")


def examine_interpreters(patient: Patient) -> Finding:
    """Find the Pythons that agents can have."""
    uid = patient.isolation.reader_uid
    usable, skipped = [], []
    path = patient.environ.get("PATH", os.defpath)
    for found in find_interpreters(patient.settings.python.search, path):
        if not isinstance(found, Interpreter):
            skipped.append(f"{found.path}: {found.reason}")
        elif why := unreachable_by(found.path, uid) or unreachable_by(found.stdlib, uid):
            skipped.append(f"{found.path}: {why}")
        else:
            usable.append(f"{found.version} at {found.path}")
    passed_over = f"; passed over {'; '.join(skipped[:_SHOWN])}" if skipped else ""
    if len(skipped) > _SHOWN:
        passed_over += f" and {len(skipped) - _SHOWN} more"
    if not usable:
        hint = "install a Python that every user can reach, or name one in python.search"
        return fail("interpreters", f"none for agents{passed_over}", hint)
    return ok("interpreters", f"{', '.join(usable)}{passed_over}")
