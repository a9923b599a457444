"""Whom the server trusts: proxies in front of it, and the holders of client certificates."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from deployer.agent_patterns import EVERY_AGENT, AgentPattern
from deployer.certificates import CertificateRule, read_subject
from deployer.keys import Scope
from deployer.settings.sections import Section

_MAPPED: Final = IPv6Network("::ffff:127.0.0.0/104")
"""127.0.0.0/8, as a socket for both families shows it (RFC 4291, 2.5.5.2)."""

UNIX_PROXY: Final = "unix"
"""In the place of a proxy's address: whoever calls by the Unix socket."""


def reaches_loopback(network: str) -> bool:
    """Tell whether a network holds an address by which this machine calls itself."""
    parsed = ip_network(network)
    if isinstance(parsed, IPv4Network):
        return parsed.overlaps(IPv4Network("127.0.0.0/8"))
    return parsed.overlaps(IPv6Network("::1/128")) or parsed.overlaps(_MAPPED)


def _subject(text: str) -> str:
    read_subject(text)
    return text


def _proxy(text: str) -> str:
    if text == UNIX_PROXY:
        return text
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise ValueError(
            f"must be an address, a network or 'unix', not {text[:80]!r}: {error}"
        ) from error


Proxy = Annotated[str, AfterValidator(_proxy)]
"""An IP address, a network (``10.0.0.0/8``), or ``unix`` for who calls by the Unix socket."""

SocketMode = Literal["0600", "0660", "0666"]
"""Who may call by the Unix socket: the server's user, its group too, or everybody here."""


class CertificateSettings(Section):
    """What the holders of client certificates may do that a trusted proxy has verified.

    Attributes:
        subject: As in RFC 4514, ``CN=ci,O=Example``; ``*`` in a value stands for any characters.
        scope: How much they may do.
        agents: Patterns of the agents for which that holds.
    """

    subject: Annotated[str, Field(max_length=1000), AfterValidator(_subject)]
    scope: Scope
    agents: Annotated[tuple[AgentPattern, ...], Field(min_length=1, max_length=100)] = EVERY_AGENT

    @model_validator(mode="after")
    def _admins_see_all(self) -> CertificateSettings:
        if self.scope is Scope.ADMIN and "*" not in self.agents:
            raise ValueError("must hold for every agent: who makes keys can make one for any agent")
        return self

    @property
    def rule(self) -> CertificateRule:
        """The same as a noun."""
        return CertificateRule(read_subject(self.subject), self.scope, self.agents)
