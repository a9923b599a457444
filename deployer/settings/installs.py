"""What an operator allows to be installed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Final

from pydantic import AfterValidator

from deployer.index_urls import is_below
from deployer.quantities import Flag
from deployer.settings.addresses import Url
from deployer.settings.sections import Section

PYPI: Final = "https://pypi.org/simple"
"""What uv and pip ask when nobody names an index."""

_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d([Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d))?")


class InstallSettings(Section):
    """What may be installed, and from where.

    Attributes:
        require_hashes: Every dependency, also those of dependencies, must be listed with its
            ``--hash``: nothing is installed that the author has not seen.
        allowed_indexes: All that `index_url`, `extra_index_urls`, `find_links` and direct
            addresses may lie below; none: no limit.
        allow_sdist: What has no wheel is built from source, in a sandbox.
        allow_direct_urls: Authors may name an archive by its https address instead of a version.
    """

    require_hashes: Flag = False
    allowed_indexes: tuple[Url, ...] = ()
    allow_sdist: Flag = False
    allow_direct_urls: Flag = False

    def foreign(self, urls: Iterable[str]) -> list[str]:
        """Give those of some addresses that are not allowed."""
        allowed = self.allowed_indexes
        return [url for url in urls if allowed and not is_below(url, allowed)]


def _moment(text: str) -> str:
    """Check a date or time after RFC 3339: uv would read others as something else, or late."""
    try:
        is_moment = _MOMENT.fullmatch(text) and datetime.fromisoformat(text.upper())
    except ValueError:  # of its form, but no such day or hour
        is_moment = None
    if not is_moment:
        raise ValueError(
            "must be a date such as '2026-01-31', or a time with its zone such as"
            f" '2026-01-31T12:00:00Z', not {text!r:.60}"
        )
    return text


Moment = Annotated[str, AfterValidator(_moment)]
"""A date, or a time with its zone, after RFC 3339."""
