"""Sizes in bytes as people write and read them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_SIZE: Final = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,6})?)\s*([KMGT]?i?B|[KMGT]|)", re.IGNORECASE)
_UNITS: Final = {
    "": 1,
    "b": 1,
    # Decimal and binary prefixes as in IEC 80000-13; a bare letter as systemd and Docker read it.
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", start=1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", start=1)},
    **{letter: 1024**power for power, letter in enumerate("kmgt", start=1)},
}
_MOST_OF_A_UNIT: Final = 2048
"""People say 1500MB and 1536MiB, but not 2932KiB."""

_LARGEST: Final = 2**63 - 1


def parse_bytes(value: object) -> int:
    """Read a size: a whole number of bytes, or text such as ``"4GB"``, ``"512MB"``, ``"256MiB"``.

    ``GB`` counts in thousands, ``GiB`` and a bare ``G`` in 1024s, as IEC 80000-13, systemd and
    Docker have it.

    Returns:
        Bytes, between 1 and 2**63 - 1.

    Raises:
        ValueError: It is no such size; the message fits behind the name of the setting.
    """
    size = value
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if match and match[2].lower() in _UNITS:
            size = int(Decimal(match[1]) * _UNITS[match[2].lower()])
    if isinstance(size, bool) or not isinstance(size, int):
        shown = repr(value) if isinstance(value, str | float) else type(value).__name__
        raise ValueError(f"must be a size such as '512MB' or a number of bytes, not {shown:.60}")  # noqa: TRY004  # pydantic turns ValueErrors into problems, TypeErrors into crashes
    if not 0 < size <= _LARGEST:
        raise ValueError(f"must be a size between 1 byte and 2**63 - 1 bytes, not {value!s:.60}")
    return size


def size_text(size_bytes: int) -> str:
    """Write a size as `parse_bytes` reads it, in the unit in which it is shortest.

    Sizes that people chose come out as they wrote them: ``64MB``, ``256MiB``; others are rounded
    to a tenth.
    """
    exact = [
        f"{size_bytes // size}{prefix}{kind}"
        for factor, kind in ((1000, "B"), (1024, "iB"))
        for power, prefix in enumerate("KMGT", start=1)
        if size_bytes % (size := factor**power) == 0 and size_bytes < _MOST_OF_A_UNIT * size
    ]
    if exact:
        return min(exact, key=lambda text: (len(text), "i" in text))
    for power, prefix in ((4, "T"), (3, "G"), (2, "M"), (1, "K")):
        if size_bytes >= 1024**power:
            return f"{size_bytes / 1024**power:.1f}{prefix}iB"
    return f"{size_bytes}B"
