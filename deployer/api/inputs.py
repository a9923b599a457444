"""What a request asks for, read out of its parts and judged at the door."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import falcon
from falcon.routing.converters import BaseConverter
from pydantic import BaseModel, ValidationError

from deployer.errors import (
    BadRequestError,
    Problem,
    RequestInvalidError,
    UnsupportedMediaTypeError,
)
from deployer.model import AGENT_NAME

Model = TypeVar("Model", bound=BaseModel)
_Row = TypeVar("_Row")

LONGEST_WAIT_SECONDS: Final = 120.0
_LARGEST_PAGE: Final = 1000
_LARGEST_JSON: Final = 1024 * 1024
_LARGEST_CURSOR: Final = 2**62
_PREFERRED_WAIT: Final = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
_TRUE: Final = frozenset({"1", "true", "yes", "on", "y", "t"})
_FALSE: Final = frozenset({"0", "false", "no", "off", "n", "f", ""})


def media_type(req: falcon.Request) -> str:
    """Name the type of a request's body, without its parameters; empty: none was said."""
    return (req.content_type or "").split(";")[0].strip().lower()


class AgentNameConverter(BaseConverter):
    """Lets only names through that an agent can have: others are no address at all."""

    def convert(self, value: str) -> str | None:
        """Give the name, or None for what is none."""
        return value if AGENT_NAME.fullmatch(value) else None


class ReleaseNumberConverter(BaseConverter):
    """Lets only numbers through that a release can have."""

    def convert(self, value: str) -> int | None:
        """Give the number, or None for what is none."""
        return int(value) if re.fullmatch(r"[0-9]{1,9}", value) else None


def is_gone(req: falcon.Request) -> Callable[[], bool]:
    """Give what tells that the client has left: whoever holds its request need not go on."""
    told: Callable[[], bool] = req.env.get("waitress.client_disconnected", lambda: False)
    return told


def wait_seconds(req: falcon.Request, default: float = 0.0) -> float:
    """Read how long to hold a request: ``?wait=N``, or ``Prefer: wait=N`` (RFC 7240).

    Raises:
        BadRequestError: The query parameter is no number of seconds.
    """
    text = req.get_param("wait")
    if text is None:
        preferred = _PREFERRED_WAIT.search(req.get_header("Prefer") or "")
        seconds = float(preferred[1]) if preferred else default
    else:
        seconds = _number(text, "wait")
    return min(seconds, LONGEST_WAIT_SECONDS)


def timeout_seconds(req: falcon.Request, default: float) -> float:
    """Read how long a question may be held, out of ``?timeout=N``; 0: answer at once."""
    text = req.get_param("timeout")
    seconds = default if text is None else _number(text, "timeout")
    return min(seconds, LONGEST_WAIT_SECONDS)


def page_limit(req: falcon.Request, default: int = 100) -> int:
    """Read how many items a list may have."""
    text = req.get_param("limit")
    if text is None:
        return default
    return max(1, min(int(_number(text, "limit")), _LARGEST_PAGE))


def cut_page(
    found: Sequence[_Row], limit: int, cursor_of: Callable[[_Row], str]
) -> tuple[Sequence[_Row], str | None]:
    """Cut a page off what a list has behind its cursor.

    Args:
        found: In the list's order; one more than limit is enough.
        limit: How many at most.
        cursor_of: Names the place of a row.

    Returns:
        The page, and the cursor of what follows; None: nothing does.
    """
    page = found[:limit]
    return page, cursor_of(page[-1]) if len(found) > limit else None


def cursor(req: falcon.Request, name: str = "cursor") -> int | None:
    """Read where a list goes on; None: from its beginning."""
    text = req.get_param(name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise BadRequestError(
            f"cannot read {name}={text[:80]!r}: it is none that a list gave out",
            cause=f"bad {name}",
        )
    return min(int(text), _LARGEST_CURSOR)


def boolean(text: str | None, name: str, *, default: bool) -> bool:
    """Read a boolean in any of its spellings.

    Raises:
        BadRequestError: It is none.
    """
    if text is None:
        return default
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise BadRequestError(
        f"cannot read {name}={text[:80]!r}: it must be true or false", cause=f"bad {name}"
    )


def json_body(req: falcon.Request, model: type[Model], *, is_optional: bool = False) -> Model:
    """Read a JSON body as a model.

    Args:
        req: The request.
        model: What the body must be.
        is_optional: No body at all is as good as ``{}``.

    Raises:
        UnsupportedMediaTypeError: It is something other than JSON.
        BadRequestError: It is no JSON, or too long.
        RequestInvalidError: It is JSON, but not what it must be; every problem is listed.
    """
    body = req.bounded_stream.read(_LARGEST_JSON + 1)
    if is_optional and not body.strip():
        body = b"{}"
    elif media_type(req) not in {"application/json", ""}:
        raise UnsupportedMediaTypeError(
            f"cannot read a body of type {media_type(req)[:80]!r}: send application/json",
            cause="send application/json",
        )
    if len(body) > _LARGEST_JSON:
        raise BadRequestError(
            "cannot read the body: it is longer than 1 MiB", cause="body too long"
        )
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        problems = [_problem(each) for each in found]
        is_json = found[0]["type"] != "json_invalid"
        raise (RequestInvalidError if is_json else BadRequestError)(
            f"cannot read the body: {problems[0]}", cause=str(problems[0]), problems=problems
        ) from error


def _problem(detail: Any) -> Problem:
    where = ".".join(str(part) for part in detail["loc"])
    return Problem(where or "body", str(detail["msg"]).lower())


def _number(text: str, name: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise BadRequestError(
            f"cannot read {name}={text[:80]!r}: it must be a number, not negative",
            cause=f"bad {name}",
        )
    return float(text)
