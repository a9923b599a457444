"""What a responder takes and gives, written beside it, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, TypeVar

from pydantic import BaseModel

from deployer.api.problem_sets import Problems
from deployer.keys import Scope

Responder = TypeVar("Responder", bound=Callable[..., None])

Content = type[BaseModel] | str | tuple[type[BaseModel] | str, ...] | None
"""A body: JSON of a model, a media type of raw bytes, any one of several, or none."""

WAIT: Final = {"wait": "Seconds to hold the request until it is done, at most 120"}
FOLLOW: Final = {"follow": "1: a stream of server-sent events, as `Accept` may ask for too"}
PAGE: Final = {"limit": "How many at most, up to 1000", "cursor": "`next` of the page before"}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one route.

    Attributes:
        summary: A few words for people.
        answers: What is answered by status.
        problems: What can go wrong, beside what any request may meet; each has its status.
        query: Query parameters with a sentence each; all are optional.
        body: What is taken.
        is_body_optional: No body at all is taken too.
        scope: What a caller must have; None: it answers without a key.
        is_filtered: It leaves out what concerns agents that a key does not hold for. Without that,
            and without an agent in its address, keys for some agents only are refused.
        is_repeatable: With an ``Idempotency-Key`` it is done once, however often it is asked for.
    """

    summary: str
    answers: Mapping[HTTPStatus, Content]
    scope: Scope | None
    problems: Problems = ()
    query: Mapping[str, str] = field(default_factory=dict)
    body: Content = None
    is_body_optional: bool = False
    is_filtered: bool = False
    is_repeatable: bool = False


def operation(  # noqa: PLR0913 - each is a part of the description, by its name
    summary: str,
    answers: Mapping[HTTPStatus, Content],
    *,
    scope: Scope | None,
    problems: Problems = (),
    query: Mapping[str, str] | None = None,
    body: Content = None,
    is_body_optional: bool = False,
    is_filtered: bool = False,
    is_repeatable: bool = False,
) -> Callable[[Responder], Responder]:
    """Describe a responder; see `Operation`."""

    def describe(responder: Responder) -> Responder:
        described = Operation(
            summary,
            answers,
            scope,
            problems=problems,
            query=query or {},
            body=body,
            is_body_optional=is_body_optional,
            is_filtered=is_filtered,
            is_repeatable=is_repeatable,
        )
        responder.operation = described  # type: ignore[attr-defined]  # functions take attributes
        return responder

    return describe


def kinds(content: Content) -> tuple[type[BaseModel] | str, ...]:
    """List what a body may be."""
    if content is None:
        return ()
    return content if isinstance(content, tuple) else (content,)


def models(described: Operation) -> Iterator[type[BaseModel]]:
    """List the models of what an operation takes and gives."""
    for content in (*described.answers.values(), described.body):
        yield from (each for each in kinds(content) if isinstance(each, type))
