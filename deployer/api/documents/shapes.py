"""What all documents are made of, and the one that tells of a problem."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Md5 = Annotated[str, Field(pattern="^[0-9a-f]{32}$", examples=["9e107d9d372bb6826bd81d3542a419d6"])]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Document(BaseModel):
    """A JSON object of the API."""

    model_config = ConfigDict(frozen=True)


class ProblemItem(Document):
    """One of several things wrong with an input."""

    where: str
    message: str


class Problem(Document):
    """Why a request could not be met (RFC 9457).

    Attributes:
        type: A name for this kind of problem, no address.
        title: The kind in words.
        status: Of HTTP.
        detail: One sentence for people: cannot X, and why.
        code: A stable word for programs, the same in every version.
        cause: The reason alone, in a few words.
        hint: What to do next.
        errors: Everything that is wrong, where that can be more than one thing.
        evidence: The last lines of the log that shows it.
        deployment: The deployment that failed, with its steps.
        request_id: As in X-Request-Id; the server's log has it too.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    cause: str | None = None
    hint: str | None = None
    errors: list[ProblemItem] | None = None
    evidence: list[str] | None = None
    deployment: dict[str, Any] | None = None
    request_id: str
