"""Numbers and sizes as people write them, for manifests and settings alike.

pydantic by itself takes ``true`` for 1 and ``"5"`` for 5; a file that says so was meant otherwise.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from deployer.byte_sizes import parse_bytes

Bytes = Annotated[int, BeforeValidator(parse_bytes)]
"""A size in bytes."""

Whole = Annotated[int, Field(strict=True)]
"""A whole number: no text, no boolean, no 3.0."""

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A finite number, whole or not: no text, no boolean."""

Flag = Annotated[bool, Field(strict=True)]
"""true or false: no text, no 1."""

PortNumber = Annotated[int, Field(strict=True, ge=1, le=65535)]
"""A TCP port."""

Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]
"""How many of something; at least one."""

Seconds = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0, le=86400 * 366)]
"""A time span that is not nothing, at most a year."""
