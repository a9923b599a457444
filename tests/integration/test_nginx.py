"""TLS and client certificates, with the example for nginx as it stands and a real nginx."""

from __future__ import annotations

import os
import socket
import ssl
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from deployer.http_sessions import http_url, open_session
from tests.certificates import Authority, Certificate
from tests.contracts import ZIP, problem
from tests.free_ports import free_ports
from tests.integration.test_deploy_examples import adapt, nginx_command, running
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server, wait_until

RULES = [
    {"subject": "CN=ci,O=Example", "scope": "deploy", "agents": ["web-*"]},
    {"subject": "CN=*,OU=Operators,O=Example", "scope": "operate"},
]
SPOOFED = {
    "X-SSL-Client-Verify": "SUCCESS",
    "X-SSL-Client-Subject": "CN=root,OU=Operators,O=Example",
    "X_SSL_Client_Verify": "SUCCESS",
    "X_SSL_Client_Subject": "CN=root,OU=Operators,O=Example",
    "X-Forwarded-For": "198.51.100.66",
    "Forwarded": "for=198.51.100.66",
}


@dataclass
class Front:
    """A server on a Unix socket with nginx before it, and certificates of several kinds."""

    server: RunningServer
    url: str
    ours: Authority
    theirs: Authority

    def ask(
        self, method: str, path: str, certificate: Certificate | None = None, **options: Any
    ) -> requests.Response:
        headers = {"Connection": "close", **options.pop("headers", {})}
        return requests.request(
            method,
            f"{self.url}{path}",
            verify=str(self.ours.cert),
            cert=certificate.files if certificate else None,
            headers=headers,
            timeout=70,
            allow_redirects=False,
            **options,
        )

    def entry_of(self, answer: requests.Response) -> dict[str, Any]:
        """Find what the audit says of a request."""
        listed = self.server.request("GET", "/v1/audit").json()["entries"]
        request_id = answer.headers["X-Request-Id"]
        (found,) = [each for each in listed if each["request_id"] == request_id]
        entry: dict[str, Any] = found
        return entry


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, installer_cache: Path) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("n")
    port = free_ports(1)
    ours, theirs = Authority(folder / "ours", "ours"), Authority(folder / "theirs", "theirs")
    here = ours.issue("server", "CN=deployer.example.org")
    api_socket = folder / "api.sock"
    changes = {
        "listen 443": f"listen 127.0.0.1:{port}",
        "/etc/ssl/deployer.pem": str(here.cert),
        "/etc/ssl/deployer.key": str(here.key),
        "/etc/ssl/deployer-clients.pem": str(ours.cert),
        "http://unix:/run/atoll-deployer/api.sock": f"http://unix:{api_socket}",
    }
    command = nginx_command(folder, adapt("nginx/atoll-deployer.conf", changes, folder))
    settings = {
        "host": f"unix:{api_socket}",
        "socket_mode": "0660",
        "trusted_proxies": ["unix"],
        "client_certificates": RULES,
    }
    with (
        running_server(folder / "state", cache_dir=installer_cache, **settings) as server,
        running(command, port),
    ):
        yield Front(server, f"https://127.0.0.1:{port}", ours, theirs)


@pytest.fixture(scope="module")
def ci(front: Front) -> Certificate:
    return front.ours.issue("ci", "CN=ci,O=Example")


@pytest.fixture(scope="module")
def operator(front: Front) -> Certificate:
    return front.ours.issue("operator", "CN=Ada,OU=Operators,O=Example")


def test_whoever_has_neither_certificate_nor_key_stays_outside(front: Front) -> None:
    assert front.ask("GET", "/livez").status_code == 200
    problem(front.ask("GET", "/v1/agents"), 401, "authentication-required")


def test_a_key_lets_in_through_nginx_too(front: Front) -> None:
    headers = {"Authorization": f"Bearer {front.server.token}"}
    assert front.ask("GET", "/v1/keys", headers=headers).status_code == 200


def test_a_certificate_lets_in_to_what_its_subject_may_do(
    front: Front, ci: Certificate, operator: Certificate
) -> None:
    assert front.ask("GET", "/v1/agents", ci).status_code == 200
    problem(front.ask("GET", "/v1/agents/api", ci), 403, "agent-forbidden")
    problem(front.ask("GET", "/v1/keys", ci), 403, "scope-missing")
    problem(front.ask("POST", "/v1/agents/api/stop", operator), 404, "agent-unknown")
    problem(front.ask("DELETE", "/v1/agents/api", operator), 403, "scope-missing")


def test_the_audit_names_the_subject_and_the_address_behind_nginx(
    front: Front, operator: Certificate
) -> None:
    answer = front.ask("POST", "/v1/agents/api/stop", operator, headers=SPOOFED)
    entry = front.entry_of(answer)
    assert (entry["who"], entry["source"]) == ("mtls:CN=Ada,OU=Operators,O=Example", "127.0.0.1")


@pytest.mark.parametrize(
    "subject",
    [
        "CN=ci,O=Other",
        "CN=ci",
        "CN=root",
        "OU=Operators,O=Example",
        "CN=x\\,OU=Operators\\,O=Example",
        "CN=x\\,OU=Operators,O=Example",
        "CN=x+OU=Operators,O=Example",
    ],
)
def test_a_subject_that_no_rule_names_lets_nobody_in(front: Front, subject: str) -> None:
    stranger = front.ours.issue("stranger", subject)
    problem(front.ask("GET", "/v1/agents", stranger), 401, "authentication-required")


def test_a_certificate_of_another_authority_is_refused_by_nginx(front: Front) -> None:
    forged = front.theirs.issue("ci", "CN=ci,O=Example")
    answer = front.ask("GET", "/v1/agents", forged)
    assert (answer.status_code, "X-Request-Id" in answer.headers) == (400, False)


def test_an_expired_certificate_is_refused_by_nginx(front: Front) -> None:
    expired = front.ours.issue("expired", "CN=ci,O=Example", days=-1)
    answer = front.ask("GET", "/v1/agents", expired)
    assert (answer.status_code, "X-Request-Id" in answer.headers) == (400, False)


def test_headers_that_a_client_makes_up_are_overwritten_by_nginx(
    front: Front, ci: Certificate
) -> None:
    problem(front.ask("GET", "/v1/agents", headers=SPOOFED), 401, "authentication-required")
    problem(front.ask("GET", "/v1/agents/api", ci, headers=SPOOFED), 403, "agent-forbidden")


def test_a_wrong_key_is_not_mended_by_a_certificate(front: Front, ci: Certificate) -> None:
    wrong = {"Authorization": "Bearer wrong"}
    problem(front.ask("GET", "/v1/agents", ci, headers=wrong), 401, "authentication-required")


def test_another_sites_page_cannot_use_the_certificate_of_who_looks_at_it(
    front: Front, operator: Certificate
) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = front.ask("POST", "/v1/agents/api/stop", operator, headers=headers)
        problem(answer, 403, "forbidden")
    own = {"Origin": front.url, "Sec-Fetch-Site": "same-origin"}
    answer = front.ask("POST", "/v1/agents/api/stop", operator, headers=own)
    problem(answer, 404, "agent-unknown")


def test_a_package_of_megabytes_is_deployed_with_a_certificate(
    front: Front, ci: Certificate
) -> None:
    data = zip_package("stdlib_agent", name="web-1", extra_files={"big": os.urandom(5_000_000)})
    answer = front.ask("POST", "/v1/deployments", ci, data=data, headers=ZIP, params={"wait": "60"})
    assert answer.json()["status"] == "succeeded"
    assert front.entry_of(answer)["agent"] == "web-1"
    other = zip_package("stdlib_agent", name="backend")
    refused = front.ask("POST", "/v1/packages", ci, data=other, headers=ZIP)
    problem(refused, 403, "agent-forbidden")


def test_a_large_package_without_a_key_is_refused_through_nginx_too(front: Front) -> None:
    for _ in range(3):
        answer = front.ask("POST", "/v1/packages", data=os.urandom(8_000_000), headers=ZIP)
        problem(answer, 401, "authentication-required")


def test_a_growing_log_comes_through_as_it_grows(front: Front) -> None:
    headers = {"Authorization": f"Bearer {front.server.token}"}
    with requests.get(
        f"{front.url}/supervisor/logtail/atoll-deployer",
        headers=headers,
        verify=str(front.ours.cert),
        stream=True,
        timeout=20,  # which is less than the answer takes that nginx would hold back to its end
    ) as answer:
        lines = answer.iter_lines()
        assert b"the end of this log" in next(lines)
        front.server.request("POST", "/v1/agents/nobody-grows/stop")
        assert any(b"nobody-grows" in line for line in lines)


def test_a_session_over_tls_is_for_tls_only(front: Front) -> None:
    answer = front.ask("POST", "/login", data={"token": front.server.token})
    assert answer.status_code == 303
    assert answer.headers["Set-Cookie"].startswith("__Host-atoll_session=")
    assert {"Secure", "Path=/"} <= set(answer.headers["Set-Cookie"].split("; "))


def test_old_versions_of_tls_are_not_spoken(front: Front) -> None:
    context = ssl.create_default_context(cafile=str(front.ours.cert))
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    host, port = front.url.removeprefix("https://").split(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host) as spoken,
    ):
        assert spoken.version() == "TLSv1.2"


# The socket ---------------------------------------------------------------------------------------


def test_only_the_server_and_its_group_may_open_the_socket(front: Front) -> None:
    path = Path(str(front.server.settings["host"]).removeprefix("unix:"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_the_client_finds_its_way_to_the_socket(front: Front) -> None:
    assert front.server.client.health().auth_enabled
    assert front.server.client.keys()[0].is_local


def test_on_the_socket_itself_headers_count_only_because_the_settings_say_so(
    front: Front, tmp_path: Path, installer_cache: Path
) -> None:
    """Whoever can open it may be nginx; where it is not trusted, the same headers mean nothing."""
    headers = {name: value for name, value in SPOOFED.items() if "_" not in name}
    with open_session(front.server.url) as session:
        trusted = session.get(f"{http_url(front.server.url)}/v1/agents", headers=headers)
    assert trusted.status_code == 200
    with (
        running_server(
            tmp_path / "s", cache_dir=installer_cache, host=f"unix:{tmp_path}/a.sock"
        ) as server,
        open_session(server.url) as session,
    ):
        refused = session.get(f"{http_url(server.url)}/v1/agents", headers=headers)
        problem(refused, 401, "authentication-required")
        # and the socket of a server that was killed is taken over by the next one
        (pid,) = [server.api_pid()]
        os.kill(pid, 9)
        wait_until(lambda: server.is_ready() and server.api_pid() != pid, 30)
