"""How wrong keys are slowed down: so many from an address, then one now and then."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

_ADDRESSES: Final = 4096
_MINUTE: Final = 60.0
_SITE_BITS: Final = 64
"""Whoever has one IPv6 address has all of its /64 (RFC 6177)."""


class Throttle:
    """Counts wrong keys by address; right ones are not its business.

    An address has a bucket of so many attempts, filled again within a minute. Only as many
    addresses are remembered as fit into a megabyte or so; the one that was quiet longest goes.
    """

    def __init__(
        self, attempts_per_minute: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take so many wrong keys from an address in a minute.

        Args:
            attempts_per_minute: At once, and again within each minute.
            clock: Seconds that never go back.
        """
        self._most = attempts_per_minute
        self._clock = clock
        self._guard = threading.Lock()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def count(self, address: str) -> int:
        """Count a wrong key.

        Returns:
            0, or in how many seconds this address may try the next one.
        """
        site = site_of(address)
        with self._guard:
            moment = self._clock()
            left, at = self._left.pop(site, (float(self._most), moment))
            left = min(self._most, left + (moment - at) * self._most / _MINUTE)
            is_taken = left >= 1
            self._left[site] = (left - 1 if is_taken else left, moment)
            if len(self._left) > _ADDRESSES:
                self._left.popitem(last=False)
        return 0 if is_taken else max(1, math.ceil((1 - left) * _MINUTE / self._most))

    def __len__(self) -> int:
        """Count the addresses that are remembered."""
        return len(self._left)


def site_of(address: str) -> str:
    """Give what stands for all addresses that whoever has this one has."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, _SITE_BITS), strict=False))
    return address
