"""Where dependencies come from: whether each place answers."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import requests

from deployer.doctor.findings import Finding, fail, ok, warn
from deployer.doctor.patients import Patient
from deployer.settings.addresses import without_login
from deployer.settings.installs import PYPI

_SECONDS: Final = 5.0
_REFUSALS: Final = frozenset({401, 403})
_FIRST_BAD: Final = 500
_UNTRUSTED: Final = "is not trusted"


def examine_indexes(patient: Patient) -> Finding:
    """Ask every index once, and look at every directory with wheels."""
    settings = patient.settings
    urls = (*settings.extra_index_urls, settings.index_url or PYPI)
    shown = ", ".join(map(without_login, urls))
    lost = [link for link in settings.find_links if "://" not in link and not Path(link).is_dir()]
    if lost:
        hint = "make it, or take it out of find_links in the settings"
        return fail("index", f"no such directory: {', '.join(lost)}", hint)
    for url in urls:
        problem, is_refusal = _problem_of(url, patient)
        if is_refusal:
            hint = "put user and password into index_url or extra_index_urls in the settings"
            return fail("index", problem, hint)
        if problem.endswith(_UNTRUSTED):
            hint = "start the server with SSL_CERT_FILE naming the right CA bundle"
            return fail("index", problem, hint)
        if problem and settings.find_links:
            hint = "dependencies come from find_links alone until it answers"
            return warn("index", problem, hint)
        if problem:
            hint = (
                "check the network, the proxy variables and index_url in the settings; agents with"
                " dependencies cannot be installed meanwhile"
            )
            return fail("index", problem, hint)
    return ok("index", f"{shown} answers")


def _problem_of(url: str, patient: Patient) -> tuple[str, bool]:
    """Say what is wrong with an index, and whether it wants another login; empty: nothing."""
    bundle = patient.environ.get("SSL_CERT_FILE") or patient.environ.get("SSL_CERT_DIR")
    try:
        # a name that is no project's, so that no index sends the list of all it has
        response = requests.get(
            f"{url.rstrip('/')}/pip/",
            timeout=_SECONDS,
            verify=bundle or True,
            stream=True,
            headers={"Accept": "text/html"},
        )
        response.close()
    except requests.exceptions.SSLError:
        return f"the certificate of {without_login(url)} {_UNTRUSTED}", False
    except requests.Timeout:
        return f"cannot reach {without_login(url)}: no answer within {_SECONDS:g} s", False
    except requests.RequestException as error:
        reason = "connection refused" if "refused" in str(error).lower() else type(error).__name__
        return f"cannot reach {without_login(url)}: {reason}", False
    if response.status_code in _REFUSALS:
        return f"{without_login(url)} answers {response.status_code}", True
    if response.status_code >= _FIRST_BAD:
        return f"{without_login(url)} answers {response.status_code}", False
    return "", False
