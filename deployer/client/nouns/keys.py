"""Keys and the audit, as frozen nouns."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from deployer.client.answers import TEXTS, TIME, Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Key(Answer):
    """An API key.

    Attributes:
        id: What the audit calls it.
        name: What it is for.
        scope: read, operate, deploy or admin.
        agents: Patterns of the agents for which that holds.
        created_at: When it was made.
        expires_at: From when on it is none any more; None: never.
        last_used_at: About when it last let somebody in; None: never yet.
        is_local: It lies in the server's state directory.
        key: Its text; empty but in the answer to the request that made it.
    """

    id: str
    name: str = ""
    scope: str = ""
    agents: tuple[str, ...] = field(default=(), metadata=TEXTS)
    created_at: datetime | None = field(default=None, metadata=TIME)
    expires_at: datetime | None = field(default=None, metadata=TIME)
    last_used_at: datetime | None = field(default=None, metadata=TIME)
    is_local: bool = False
    key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry(Answer):
    """What somebody did, or tried to.

    Attributes:
        id: Its number.
        at: When.
        who: ``key:ID``, ``mtls:SUBJECT``, ``unix``, ``none``, ``server``, ``supervisord``; empty
            for those who were not let in.
        name: The key's.
        source: The address that it came from.
        operation: Method and address, with its parameters left open.
        agent: Whom it concerned.
        target: What else: a deployment, a key, a package.
        status: Of HTTP; 0 where it came another way.
        request_id: As in X-Request-Id.
        times: How many refusals it stands for.
    """

    id: int
    at: datetime | None = field(default=None, metadata=TIME)
    who: str = ""
    name: str = ""
    source: str = ""
    operation: str = ""
    agent: str = ""
    target: str = ""
    status: int = 0
    request_id: str = ""
    times: int = 1
