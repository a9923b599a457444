"""pydantic's complaints as problems in words that the author of a file understands."""

from __future__ import annotations

from collections.abc import Callable, Collection
from difflib import get_close_matches
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from deployer.errors import Problem

Location = tuple[str | int, ...]
"""Where a value stands: keys and list indexes from the outside in."""

_SHOWN: Final = 60
_KINDS: Final = (
    (bool, "a boolean"),
    (str, "text"),
    (int, "a whole number"),
    (float, "a number"),
    (dict, "a table"),
    (list, "a list"),
)
_SENTENCES: Final = {
    "missing": "is missing",
    "string_type": "must be text, not {value}",
    "bool_type": "must be true or false, not {value}",
    "int_type": "must be a whole number, not {value}",
    "int_from_float": "must be a whole number, not {value}",
    "float_type": "must be a number, not {value}",
    "finite_number": "must be a finite number, not {value}",
    "greater_than": "must be more than {gt}, not {value}",
    "greater_than_equal": "must be at least {ge}, not {value}",
    "less_than_equal": "must be at most {le}, not {value}",
    "string_too_long": "must have at most {max_length} characters",
    "too_long": "must have at most {max_length} entries, not {actual_length}",
    "literal_error": "must be one of {expected}, not {value}",
    "enum": "must be one of {expected}, not {value}",
    "tuple_type": "must be a list, not {value}",
    "dict_type": "must be a table, not {value}",
    "model_type": "must be a table, not {value}",
    "model_attributes_type": "must be a table, not {value}",
    "path_type": "must be a path, not {value}",
    "string_unicode": "must be text without broken characters",
}


def _kind(value: object) -> str:
    return next((word for kind, word in _KINDS if isinstance(value, kind)), type(value).__name__)


def _shown(value: object) -> str:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return repr(value).lower() if isinstance(value, bool) else _kind(value)
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python is willing to write
        return "a number of thousands of digits"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _sentence(details: ErrorDetails, *, secret: bool) -> str:
    context: dict[str, Any] = {
        name: int(bound) if isinstance(bound, float) and bound.is_integer() else bound
        for name, bound in details.get("ctx", {}).items()
    }
    if details["type"] == "value_error":
        return str(context["error"])
    template = _SENTENCES.get(details["type"])
    if template is None:
        return details["msg"]
    value = _kind(details["input"]) if secret else _shown(details["input"])
    return template.format(**{**context, "value": value})


def dotted(location: Location) -> str:
    """Write a location as people do: ``mcp_servers.x.args[2]``."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part != "[key]":  # pydantic's mark for a problem with a key itself
            text += f".{part:.100}" if text else f"{part:.100}"
    return text.encode("unicode_escape").decode()


def problems_of(
    error: ValidationError,
    *,
    where: Callable[[Location], str],
    secrets: Collection[str] = (),
) -> tuple[Problem, ...]:
    """Turn everything that pydantic found into problems.

    Args:
        error: What a model's validation raised.
        where: Names the place of a location, such as ``agent.toml: resources.cpu_limit``.
        secrets: Keys below which values are never shown, only their kind.

    Returns:
        One problem for each finding, in the model's order.
    """
    return tuple(
        Problem(
            where(details["loc"]),
            _sentence(details, secret=any(part in secrets for part in details["loc"])),
        )
        for details in error.errors(include_url=False)
    )


def unknown_key(key: str, known: Collection[str]) -> str:
    """Say that a key is not known, and which known one it resembles most."""
    nearest = get_close_matches(key, known, n=1, cutoff=0.6)
    return f"is not known; did you mean {nearest[0]!r}?" if nearest else "is not known"
