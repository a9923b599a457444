"""Lines of a log, as a frozen noun."""

from __future__ import annotations

from dataclasses import dataclass, field

from deployer.client.answers import TEXTS, Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs(Answer):
    """Lines of one of an agent's logs.

    Attributes:
        agent: Its name.
        stream: stdout, stderr or install.
        release: The number of the release that wrote them; None: there is none yet.
        lines: Without their ends, the oldest first.
        gap: Before them lines may be missing: they were rotated away before they were read.
        next: Where to read on.
    """

    agent: str
    stream: str
    release: int | None = None
    lines: tuple[str, ...] = field(default=(), metadata=TEXTS)
    gap: bool = False
    next: str = ""
