"""What stands between a client and this server, and how far its word is taken.

A proxy tells where a request came from, by which scheme, and which certificate the client showed.
Anybody else can write the same headers, so they count only when the connection itself comes from an
address that the settings name, and is no agent's; from everywhere else they are taken away before
anybody reads them.
waitress does the like, for one address and without certificates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final

Environ = dict[str, Any]
Wsgi = Callable[[Environ, Any], Iterable[bytes]]

UNIX: Final = "unix"
"""In the place of an address: whoever calls through the API's Unix socket."""

SUBJECT: Final = "atoll.certificate_subject"
"""Where the subject of a verified client certificate stands in a WSGI environment."""

IS_AGENT: Final = "atoll.is_agent"
"""Whether a WSGI environment is that of a call from an agent's process, or may be."""

_FOR: Final = "HTTP_X_FORWARDED_FOR"
_SCHEME: Final = "HTTP_X_FORWARDED_PROTO"
_VERIFIED: Final = "HTTP_X_SSL_CLIENT_VERIFY"
_SUBJECT: Final = "HTTP_X_SSL_CLIENT_SUBJECT"
_HEADERS: Final = (
    _FOR,
    _SCHEME,
    _VERIFIED,
    _SUBJECT,
    # Of these nothing is taken from anybody: the proxy passes Host on as the client wrote it.
    "HTTP_FORWARDED",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_X_FORWARDED_BY",
    "HTTP_X_REAL_IP",
)


class Proxies:
    """The proxies whose word is taken."""

    def __init__(self, trusted: Iterable[str], *, is_unix: bool) -> None:
        """Trust whoever connects from here.

        Args:
            trusted: Addresses and networks, and ``unix`` for the Unix socket.
            is_unix: Whether the API listens on a Unix socket, where peers have no address.
        """
        self._is_unix = is_unix
        self._trusts_socket = UNIX in trusted
        self._networks = [ip_network(each) for each in trusted if each != UNIX]
        self._trusts = lru_cache(maxsize=1024)(self._judge)

    def wrap(self, app: Wsgi) -> Wsgi:
        """Give an application environments that say who really calls."""

        def wrapped(environ: Environ, start_response: Any) -> Iterable[bytes]:
            self.resolve(environ)
            return app(environ, start_response)

        return wrapped

    def resolve(self, environ: Environ) -> None:
        """Write into an environment who really calls, and take away what proxies say of it."""
        said = {name: str(environ.pop(name, "")) for name in _HEADERS}
        if self._is_unix:
            environ["REMOTE_ADDR"] = UNIX
        if environ.get(IS_AGENT) or not self._trusts(str(environ.get("REMOTE_ADDR", ""))):
            return
        environ["REMOTE_ADDR"] = self._client(said[_FOR]) or environ["REMOTE_ADDR"]
        if said[_SCHEME] in {"http", "https"}:
            environ["wsgi.url_scheme"] = said[_SCHEME]
        if said[_VERIFIED] == "SUCCESS" and said[_SUBJECT]:
            environ[SUBJECT] = said[_SUBJECT]

    def _judge(self, peer: str) -> bool:
        if peer == UNIX:
            return self._trusts_socket
        address = _address(peer)
        return address is not None and any(address in network for network in self._networks)

    def _client(self, hops: str) -> str:
        """Find the last hop that is not a proxy of ours: what stands before it, it may invent."""
        for hop in reversed(hops.split(",")):
            address = _address(hop.strip())
            if address is None:
                return ""
            if not self._trusts(str(address)):
                return str(address)
        return ""


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
