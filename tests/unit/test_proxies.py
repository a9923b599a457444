"""Whose word is taken on where a request came from."""

from __future__ import annotations

from typing import Any

import pytest

from deployer.api.proxies import SUBJECT, Proxies

TOLD = {
    "HTTP_X_FORWARDED_FOR": "192.0.2.7",
    "HTTP_X_FORWARDED_PROTO": "https",
    "HTTP_X_SSL_CLIENT_VERIFY": "SUCCESS",
    "HTTP_X_SSL_CLIENT_SUBJECT": "CN=ci",
}


def resolve(peer: str, *trusted: str, is_unix: bool = False, **told: str) -> dict[str, Any]:
    environ: dict[str, Any] = {"REMOTE_ADDR": peer, "wsgi.url_scheme": "http", **TOLD, **told}
    Proxies(trusted, is_unix=is_unix).resolve(environ)
    return environ


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [("127.0.0.1", "127.0.0.0/8"), ("::ffff:10.1.2.3", "10.0.0.0/8"), ("::1", "::1")],
)
def test_a_trusted_proxy_is_believed(peer: str, trusted: str) -> None:
    environ = resolve(peer, trusted)
    assert environ["REMOTE_ADDR"] == "192.0.2.7"
    assert environ["wsgi.url_scheme"] == "https"
    assert environ[SUBJECT] == "CN=ci"


@pytest.mark.parametrize("trusted", [(), ("127.0.0.2",), ("unix",), ("::1",)])
def test_nobody_else_is(trusted: tuple[str, ...]) -> None:
    environ = resolve("127.0.0.1", *trusted)
    assert environ == {"REMOTE_ADDR": "127.0.0.1", "wsgi.url_scheme": "http"}


def test_whoever_calls_by_the_unix_socket_is_believed_where_the_settings_say_so() -> None:
    assert resolve("localhost", "unix", is_unix=True)["REMOTE_ADDR"] == "192.0.2.7"
    assert resolve("localhost", "127.0.0.1", is_unix=True)["REMOTE_ADDR"] == "unix"


@pytest.mark.parametrize(
    ("hops", "client"),
    [
        ("6.6.6.6, 192.0.2.7", "192.0.2.7"),  # the first was in what the client sent
        ("192.0.2.7, 127.0.0.1", "192.0.2.7"),  # a proxy behind a proxy
        ("192.0.2.7, nonsense", "127.0.0.1"),
        ("", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_the_client_is_the_last_hop_that_is_no_proxy(hops: str, client: str) -> None:
    environ = resolve("127.0.0.1", "127.0.0.1", HTTP_X_FORWARDED_FOR=hops)
    assert environ["REMOTE_ADDR"] == client


@pytest.mark.parametrize("verified", ["NONE", "FAILED:expired", "", "success"])
def test_a_certificate_that_was_not_verified_is_none(verified: str) -> None:
    environ = resolve("127.0.0.1", "127.0.0.1", HTTP_X_SSL_CLIENT_VERIFY=verified)
    assert SUBJECT not in environ


def test_other_headers_of_proxies_are_taken_from_nobody() -> None:
    told = {"HTTP_X_FORWARDED_HOST": "evil.example", "HTTP_FORWARDED": "host=evil.example"}
    environ = resolve("127.0.0.1", "127.0.0.1", **told)
    assert not told.keys() & environ.keys()
