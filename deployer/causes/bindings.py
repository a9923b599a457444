"""Why an agent could not bind: its own port is taken, or it wants another one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from deployer.causes.nouns import Cause
from deployer.causes.tracebacks import Raised

_ADDRESS_IN_USE: Final = re.compile(
    r"address already in use|\bEADDRINUSE\b|\[Errno (?:98|48)\]|\(os error (?:98|48)\)",
    re.IGNORECASE,
)
_PORT: Final = re.compile(r"(?:', ?|:|\bport:? )(\d{4,5})\b(?!-)")
"""A port as in ``('0.0.0.0', 8101)``, ``:::8101`` and ``port 8101``; times and years are not."""

_BINDING: Final = re.compile(r"\b(?:bind|server_bind|create_server)\b")
_PERMISSION_DENIED: Final = re.compile(r"permission denied", re.IGNORECASE)
_USE_PORT: Final = "bind the port in the PORT variable instead of one of its own"


def is_address_in_use(lines: Iterable[str]) -> bool:
    """Tell whether a log says that a port could not be bound because somebody has it."""
    return any(_ADDRESS_IN_USE.search(line) for line in lines)


def is_forbidden(raised: Raised | None, lines: Iterable[str]) -> bool:
    """Tell whether a log says that a port may not be bound."""
    if raised is not None:
        return bool(_PERMISSION_DENIED.search(raised.line)) and any(
            map(_BINDING.search, raised.frames)
        )
    return any(_PERMISSION_DENIED.search(line) and _BINDING.search(line) for line in lines)


def explain_address_in_use(
    lines: Iterable[str], port: int, holder_of: Callable[[int], str]
) -> Cause:
    """Say who has the port that an agent could not bind.

    Args:
        lines: What it wrote.
        port: What it was told to bind.
        holder_of: Who listens on a port; empty when nobody does.
    """
    said = [_PORT.search(line) for line in lines if _ADDRESS_IN_USE.search(line)]
    wanted = {int(match[1]) for match in said if match}
    if wanted and port not in wanted:
        other = min(wanted)
        holder = holder_of(other)
        by = f" by {holder}" if holder else ""
        return Cause(
            f"wants port {other}, which is in use{by}, instead of {port}: use the PORT variable",
            _USE_PORT,
            "wrong-port",
        )
    if holder := holder_of(port):
        return Cause(
            f"port {port} is held by {holder}",
            "end that program, or give the agent another port",
            "address-in-use",
        )
    return Cause(
        f"port {port} was in use",
        "whoever held it is gone by now: start the agent again",
        "address-in-use",
    )


def explain_forbidden_port(lines: Iterable[str], port: int) -> Cause:
    """Say why an agent may not bind: it can bind its own port, and at most levels no other."""
    said = [_PORT.search(line) for line in lines if _PERMISSION_DENIED.search(line)]
    wanted = [int(match[1]) for match in said if match and int(match[1]) != port]
    hint = "bind the port in the PORT variable: an agent can bind no other"
    if wanted:
        text = f"may not bind port {wanted[-1]} instead of {port}: use the PORT variable"
        return Cause(text, hint, "wrong-port")
    return Cause(f"may bind no port but {port}: permission denied", hint, "permission-denied")
