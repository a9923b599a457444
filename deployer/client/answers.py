"""How JSON objects from the server become frozen nouns.

Each noun keeps the whole document it was read from, so that members a newer server adds are not
lost on those who look for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final, Self

from deployer.errors import ServerUnreachableError

# How a field's JSON value is read when it is neither null nor as it should be already.
TIME: Final = {"read": datetime.fromisoformat}
SECONDS: Final = {"read": float}
TEXTS: Final = {"read": lambda values: tuple(map(str, values))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A JSON object from the server.

    Attributes:
        document: The object as it came.
    """

    document: Mapping[str, Any] = field(repr=False, compare=False, default_factory=dict)

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """Read an object by the names of this noun's fields; others are kept in ``document``.

        Raises:
            ServerUnreachableError: It is no object, or a member is missing or of another kind:
                whoever answered is no server that this client knows.
        """
        try:
            return cls(document=document, **_values(cls, document))
        except (AttributeError, TypeError, ValueError) as error:
            raise unreadable(cls.__name__.lower(), error) from error


def _values(cls: type[Answer], document: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for each in fields(cls):
        value = document.get(each.name)
        if value is not None and each.name != "document":
            read: Callable[[Any], Any] | None = each.metadata.get("read")
            values[each.name] = read(value) if read else value
    return values


def unreadable(what: str, why: object) -> ServerUnreachableError:
    """Make the error for an answer that does not hold what it should."""
    return ServerUnreachableError(
        f"cannot read the server's answer: no {what}: {why}",
        cause=f"the answer is no {what}",
        hint="is this the address of an ATOLL Deployment Server, of this version?",
    )
