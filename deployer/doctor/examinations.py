"""All checks of a machine, one after another; one that breaks keeps no other from being made."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deployer.doctor.clocks import examine_clock
from deployer.doctor.confinements import examine_isolation, examine_limits
from deployer.doctor.findings import Finding, fail, ok
from deployer.doctor.indexes import examine_indexes
from deployer.doctor.installers import examine_installer, examine_interpreters
from deployer.doctor.patients import Patient
from deployer.doctor.places import examine_disk, examine_state_directory
from deployer.doctor.port_ranges import examine_api_address, examine_ports, examine_sockets
from deployer.doctor.supervisors import examine_configuration, examine_supervisord, is_answering
from deployer.errors import DeployerError, SettingsInvalidError
from deployer.settings import Settings, load_settings
from deployer.state_dir import StateDir

_CHECKS: Final[Mapping[str, Callable[[Patient], Finding]]] = {
    "state directory": examine_state_directory,
    "disk": examine_disk,
    "clock": examine_clock,
    "installer": examine_installer,
    "interpreters": examine_interpreters,
    "index": examine_indexes,
    "supervisord": examine_supervisord,
    "configuration": examine_configuration,
    "sockets": examine_sockets,
    "api address": examine_api_address,
    "ports": examine_ports,
    "isolation": examine_isolation,
    "limits": examine_limits,
}


def examine(
    config: Path | None, environ: Mapping[str, str], state_dir: Path | None
) -> Iterator[Finding]:
    """Look at this machine, with and without a server running on it.

    Args:
        config: A settings file; None: the settings of the server that was last started from the
            state directory, if there was one.
        environ: All variables.
        state_dir: The state directory; None: as the settings say.

    Yields:
        What each check found, as soon as it is known.
    """
    settings, finding = _read_settings(config, environ, state_dir)
    yield finding
    with _scratch(settings.state_dir) as scratch:
        patient = Patient(settings, StateDir(settings.state_dir), scratch, environ)
        patient.is_running = is_answering(patient)
        for name, check in _CHECKS.items():
            try:
                yield check(patient)
            except (DeployerError, OSError, ValueError) as error:
                detail = error.detail if isinstance(error, DeployerError) else str(error)
                hint = getattr(error, "hint", "") or "see to what the sentence names"
                yield fail(name, f"cannot be looked at: {detail}", hint)


def _read_settings(
    config: Path | None, environ: Mapping[str, str], state_dir: Path | None
) -> tuple[Settings, Finding]:
    overrides = {"state_dir": None if state_dir is None else str(state_dir)}
    try:
        settings = load_settings(config, environ, overrides)
        resolved = StateDir(settings.state_dir).settings
        if config is None and resolved.is_file():
            return Settings.read(resolved), ok("settings", f"as last served, {resolved}")
    except SettingsInvalidError as error:
        detail = "; ".join(map(str, error.problems)) or error.detail
        bare = Settings() if state_dir is None else Settings(state_dir=state_dir.resolve())
        hint = "correct what is listed; all other checks are made with the defaults"
        return bare, fail("settings", detail, hint)
    except OSError as error:
        hint = "run doctor as the user who runs the server"
        return settings, fail("settings", f"{resolved}: {error.strerror}", hint)
    return settings, ok("settings", f"{config or 'defaults and variables'}")


@contextmanager
def _scratch(root: Path) -> Iterator[Path]:
    """Make a directory for trials where agents would be: what closes the way there counts."""
    try:
        made = tempfile.TemporaryDirectory(prefix=".atoll-doctor-", dir=root.parent)
    except OSError:
        made = tempfile.TemporaryDirectory(prefix="atoll-doctor-")
    with made as name:
        directory = Path(name).resolve()
        directory.chmod(0o711)
        yield directory
