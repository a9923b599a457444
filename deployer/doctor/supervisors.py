"""supervisord: whether it is there, and whether what it is to read can be read."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

from deployer import program_configs
from deployer.doctor.findings import Finding, fail, ok, warn
from deployer.doctor.patients import Patient
from deployer.errors import DeployerError, ProgramConfigError
from deployer.leftovers import find_leftovers
from deployer.startup import service_command
from deployer.supervisord import connect
from deployer.supervisord_confs import (
    Credentials,
    check_supervisord_conf,
    read_credentials,
    render_supervisord_conf,
)

_SECONDS: Final = 5.0


def is_answering(patient: Patient) -> bool:
    """Tell whether the server's supervisord answers."""
    try:
        _ping(patient)
    except DeployerError:
        return False
    return True


def examine_supervisord(patient: Patient) -> Finding:
    """Ask supervisord, if it runs."""
    here = f"supervisor {version('supervisor')}"
    foreign = patient.settings.supervisor.url
    if patient.is_running:
        return ok("supervisord", f"{here}; {foreign or 'its own'} answers")
    if foreign is not None:
        hint = "start it, or take supervisor.url out of the settings"
        return fail("supervisord", f"{foreign} does not answer", hint)
    left = find_leftovers(patient.state.root)
    if left:
        pids = ", ".join(str(process.pid) for process in left[:5])
        detail = f"it does not answer, and {len(left)} processes of the server live: pid {pids}"
        return warn("supervisord", detail, "look into STATE/logs/supervisord.log; serve ends them")
    return ok("supervisord", f"{here}; not running, serve starts it")


def examine_configuration(patient: Patient) -> Finding:
    """Render what supervisord is to read, and read all program configs, changing nothing."""
    conf_d = patient.settings.supervisor.conf_d or patient.state.conf_d
    broken = []
    found = sorted(conf_d.glob("*--*.conf")) if conf_d.is_dir() else []
    for path in found:
        try:
            program_configs.parse_program(path.stem, path.read_text(), here=conf_d)
        except (ProgramConfigError, UnicodeError) as error:
            broken.append(f"{path}: {error}")
    if broken:
        hint = "serve moves them to conf.d/quarantine and writes them anew"
        return fail("configuration", "; ".join(broken), hint)
    text = render_supervisord_conf(
        patient.state,
        service_command=service_command(patient.state),
        credentials=Credentials("doctor", "nobody"),
    )
    if patient.state.logs.is_dir():  # else supervisord's own parser asks for the directories
        check_supervisord_conf(patient.state, text)
    return ok("configuration", f"templates render; {len(found)} program configs parse")


def _ping(patient: Patient) -> None:
    settings, state = patient.settings, patient.state
    if settings.supervisor.url is not None:
        name, word = settings.supervisor.username or "", settings.supervisor.password or ""
        stock = connect(
            settings.supervisor.url, name, word, has_plugin=False, timeout_seconds=_SECONDS
        )
        stock.ping()
        return
    credentials = read_credentials(state)
    url = f"unix://{state.supervisor_socket}"
    connect(url, credentials.username, credentials.password, timeout_seconds=_SECONDS).ping()
