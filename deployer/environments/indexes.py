"""Where dependencies come from: addresses without logins, and the logins beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from deployer.settings.addresses import without_login


@dataclass(frozen=True, slots=True)
class Sources:
    """Where dependencies come from.

    Logins are kept out of the addresses, because an installer gets those on its command line,
    which every user of the machine can read, agents too; and because locks and logs name them.

    Attributes:
        index: Asked last; None: the installer's own default, PyPI.
        extra_indexes: Asked first, in this order. With uv the first that knows a name decides,
            so that nobody can take a private name over on a public index; pip has no such rule.
        find_links: Directories or addresses with wheels.
        exclude_newer: Dependencies uploaded later do not exist; None: all do.
        builds: Whether source is built: only ever in a sandbox.
        netrc: The logins, as a file ``.netrc`` that uv and pip both read; may be empty. One host
            has one login there, the first that is named.
    """

    index: str | None = None
    extra_indexes: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    exclude_newer: str | None = None
    builds: bool = False
    netrc: str = ""


def read_sources(
    index_url: str | None,
    extra_index_urls: Sequence[str] = (),
    find_links: Sequence[str] = (),
    exclude_newer: str | None = None,
) -> Sources:
    """Take the settings' addresses apart from the logins in them."""
    extra = tuple(extra_index_urls)
    logins: dict[str, str] = {}
    for url in (*extra, *filter(None, [index_url]), *find_links):
        parts = urlsplit(url)
        if parts.username is not None and parts.hostname is not None:
            user, password = (unquote(word or "") for word in (parts.username, parts.password))
            line = f"machine {parts.hostname} login {_quoted(user)} password {_quoted(password)}\n"
            logins.setdefault(parts.hostname, line)
    return Sources(
        index=None if index_url is None else without_login(index_url),
        extra_indexes=tuple(without_login(url) for url in extra),
        find_links=tuple(without_login(link) for link in find_links),
        exclude_newer=exclude_newer,
        netrc="".join(logins.values()),
    )


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
