"""What a responder takes and gives, written beside it, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, TypeVar

from pydantic import BaseModel

Responder = TypeVar("Responder", bound=Callable[..., None])

WAIT: Final = {"wait": "Seconds to hold the request until it is done, at most 120"}
PAGE: Final = {"limit": "How many at most, up to 1000", "cursor": "`next` of the page before"}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one route.

    Attributes:
        summary: A few words for people.
        answers: What is answered by status; None: no body; a text: that media type.
        problems: Statuses that carry a problem document.
        query: Query parameters with a sentence each; all are optional.
        body: What is taken: a model, or media types of raw bytes.
        is_open: Whether it answers without a token.
    """

    summary: str
    answers: Mapping[HTTPStatus, type[BaseModel] | str | None]
    problems: tuple[HTTPStatus, ...] = ()
    query: Mapping[str, str] = field(default_factory=dict)
    body: type[BaseModel] | tuple[str, ...] | None = None
    is_open: bool = False


def operation(
    summary: str,
    answers: Mapping[HTTPStatus, type[BaseModel] | str | None],
    *,
    problems: tuple[HTTPStatus, ...] = (),
    query: Mapping[str, str] | None = None,
    body: type[BaseModel] | tuple[str, ...] | None = None,
    is_open: bool = False,
) -> Callable[[Responder], Responder]:
    """Describe a responder; see `Operation`."""

    def describe(responder: Responder) -> Responder:
        described = Operation(summary, answers, problems, query or {}, body, is_open)
        responder.operation = described  # type: ignore[attr-defined]  # functions take attributes
        return responder

    return describe
