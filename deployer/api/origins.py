"""Where a request says that it comes from, and by which name it calls this server.

Browsers set ``Origin``, ``Referer`` and ``Sec-Fetch-Site`` themselves; a page cannot forge them.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import falcon

from deployer.errors import BadRequestError, ForbiddenError

_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


def check_host(req: falcon.Request) -> None:
    """Refuse a name that none can have: it is repeated in the addresses that we give out.

    Raises:
        BadRequestError: The Host header is no host with an optional port.
    """
    given = req.get_header("Host")
    if given is not None and not _HOST.fullmatch(given):
        raise BadRequestError(
            f"cannot do {req.method} {req.path}: the header Host names no host: {given[:80]!r}",
            cause="bad Host header",
        )


def is_called_by_own_name(req: falcon.Request, names: frozenset[str]) -> bool:
    """Tell whether a request calls this machine by a loopback address or one of names.

    A page that rebinds its own name to this machine's address calls it by that name.
    """
    host = req.host.lower()
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in names


def refuse_foreign_pages(req: falcon.Request) -> None:
    """Refuse what another site's page sends in the name of whoever looks at it.

    Programs say nothing of where they come from, and are let in.

    Raises:
        ForbiddenError: It says that it comes from elsewhere.
    """
    # Browsers of old leave Origin out of forms, but not Referer.
    origin = req.get_header("Origin", default=req.get_header("Referer"))
    if _is_from_elsewhere(req) or (origin is not None and not _is_ours(origin, req)):
        raise ForbiddenError(
            f"cannot do {req.method} {req.path}: it comes from another site's page",
            cause="cross-site request",
        )


def refuse_foreign_looks(req: falcon.Request) -> None:
    """Refuse that another site's page fetches anything; a link that somebody follows is none.

    For servers without keys: the page could not read the answer, but measure it, and hold requests.

    Raises:
        ForbiddenError: It does.
    """
    if _is_from_elsewhere(req) and req.get_header("Sec-Fetch-Mode") != "navigate":
        raise ForbiddenError(
            f"cannot do {req.method} {req.path}: another site's page asks for it",
            cause="cross-site request",
        )


def require_own_page(req: falcon.Request) -> None:
    """Let only what comes from a page of this very site through, and says so.

    For acts that are plain GETs: whoever gets somebody to follow a link could send them.

    Raises:
        ForbiddenError: It comes from elsewhere, or says nothing.
    """
    site = req.get_header("Sec-Fetch-Site")
    # Browsers leave that header out where the server is neither HTTPS nor on their own machine.
    is_own = site == "same-origin" if site else _is_ours(req.get_header("Referer") or "", req)
    if not is_own:
        raise ForbiddenError(
            f"cannot do {req.method} {req.path}: it does not come from this server's own page",
            cause="cross-site request",
            hint="open /supervisor/ and press the button there",
        )


def _is_from_elsewhere(req: falcon.Request) -> bool:
    return req.get_header("Sec-Fetch-Site") not in {None, "same-origin", "none"}


def _is_ours(address: str, req: falcon.Request) -> bool:
    try:
        return urlsplit(address).netloc.lower() == req.netloc.lower()
    except ValueError:
        return False
