"""Documents of keys and of the audit."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from deployer.api.documents.shapes import Document
from deployer.audits import Entry
from deployer.keys import Key as KeyNoun
from deployer.keys import Scope


class Key(Document):
    """An API key, without its text."""

    id: str
    name: str
    scope: Scope
    agents: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    is_local: bool = Field(description="It lies in the state directory's file `token`")


class NewKey(Key):
    """A key just made, with its text: this once, for only a hash of it is kept."""

    key: str


class KeyList(Document):
    """API keys, the oldest first."""

    keys: list[Key]
    count: int
    next: str | None


class AuditEntry(Document):
    """What somebody did, or tried to."""

    id: int
    at: datetime | None
    who: str = Field(description="key:ID, mtls:SUBJECT, unix, none, server, supervisord, or empty")
    name: str = Field(description="The key's")
    source: str = Field(description="The address that it came from")
    operation: str
    agent: str
    target: str = Field(description="A deployment, a key or a package, by its id or checksum")
    status: int = Field(description="Of HTTP; 0 where it came another way")
    request_id: str
    times: int = Field(description="How many refusals it stands for; 1 for an act")


class AuditList(Document):
    """A page of the audit, the newest first."""

    entries: list[AuditEntry]
    count: int
    next: str | None


def key(noun: KeyNoun) -> Key:
    """Write a key down, without what is kept of its text."""
    return Key.model_validate(_members(noun))


def new_key(noun: KeyNoun, text: str) -> NewKey:
    """Write a new key down, with its text."""
    return NewKey.model_validate({**_members(noun), "key": text})


def audit_entry(entry: Entry) -> AuditEntry:
    """Write an entry of the audit down."""
    return AuditEntry.model_validate(entry, from_attributes=True)


def _members(noun: KeyNoun) -> dict[str, object]:
    return {name: getattr(noun, name) for name in Key.model_fields}
