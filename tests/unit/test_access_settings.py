"""Whom the settings may trust, and what they refuse to."""

from __future__ import annotations

from typing import Any

import pytest

from deployer.errors import SettingsInvalidError
from deployer.settings import load_settings

RULE = {"subject": "CN=ci,O=Example", "scope": "deploy"}


def problems(**given: Any) -> str:
    with pytest.raises(SettingsInvalidError) as caught:
        load_settings(None, {}, given)
    return "; ".join(map(str, caught.value.problems))


def test_a_certificate_is_believed_from_a_unix_socket_or_from_another_machine() -> None:
    for proxies in (["unix"], ["192.0.2.1"], ["10.0.0.0/8", "2001:db8::/64"]):
        given = {"trusted_proxies": proxies, "client_certificates": [RULE]}
        settings = load_settings(None, {}, {"host": "unix:/run/x.sock", **given})
        assert settings.client_certificates[0].rule.subject == (("CN", "ci"), ("O", "Example"))


@pytest.mark.parametrize(
    "proxy", ["127.0.0.1", "127.0.0.0/8", "0.0.0.0/0", "::1", "::/0", "::ffff:127.0.0.1"]
)
def test_a_certificate_is_not_believed_from_where_every_agent_is(proxy: str) -> None:
    told = problems(trusted_proxies=[proxy, "unix"], client_certificates=[RULE])
    assert "every agent on this machine" in told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"client_certificates": [RULE]}, "no trusted_proxies"),
        (
            {"client_certificates": [RULE], "trusted_proxies": ["unix"], "auth": "none"},
            "while auth is 'none'",
        ),
        ({"trusted_proxies": ["nginx"]}, "must be an address, a network or 'unix'"),
        ({"trusted_proxies": ["10.0.0.1/8"]}, "has host bits set"),
        ({"client_certificates": [{**RULE, "subject": "ci"}]}, "RFC 4514"),
        ({"client_certificates": [{**RULE, "scope": "root"}]}, "scope"),
        ({"client_certificates": [{**RULE, "agents": ["[a]"]}]}, "agents"),
        ({"client_certificates": [{**RULE, "scope": "admin", "agents": ["a"]}]}, "every agent"),
        ({"socket_mode": "0777"}, "must be one of '0600'"),
        ({"host": "unix:"}, "absolute path"),
        ({"host": "0.0.0.0", "auth": "none"}, "only this machine may reach the API"),
        ({"host": "::", "auth": "none"}, "only this machine may reach the API"),
    ],
)
def test_what_makes_no_sense_or_no_safety_is_refused(given: dict[str, Any], told: str) -> None:
    assert told in problems(**given)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "unix:/run/api.sock"])
def test_without_keys_only_this_machine_is_served(host: str) -> None:
    settings = load_settings(None, {}, {"host": host, "auth": "none"})
    assert settings.bind_address == "127.0.0.1"
