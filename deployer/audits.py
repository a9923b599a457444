"""What the audit holds: one entry for each act, and for refusals in bulk."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """What somebody did, or tried to.

    Attributes:
        who: As `deployer.keys.Caller` names them; empty for those whom nobody knows.
        operation: Method and address with its parameters left open, such as
            ``POST /v1/agents/{agent}/stop``, or what was seen of an act elsewhere.
        source: The address that it came from.
        status: Of HTTP; 0 where it did not come by HTTP.
        name: The key's.
        agent: Whom it concerned; may be empty.
        target: What else: the id of a deployment or a key, a package's checksum; may be empty.
        request_id: As in X-Request-Id.
        times: How many refusals it stands for; 1 for an act.
        id: Its number in the audit; 0 before it has one.
        at: When it was written; None before.
    """

    who: str
    operation: str
    source: str
    status: int
    name: str = ""
    agent: str = ""
    target: str = ""
    request_id: str = ""
    times: int = 1
    id: int = 0
    at: datetime | None = None
