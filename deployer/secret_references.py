"""References to secrets in the variables of a manifest: ``${secret:NAME}``, anywhere in a value.

``$${secret:`` stands for the text ``${secret:`` itself; every other ``$`` is just that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

SECRET_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,62}")
"""Names of secrets, for ``fullmatch``."""

_REFERENCE: Final = re.compile(
    r"(?P<escaped>\$\$\{secret:)"
    rf"|\$\{{secret:(?P<name>{SECRET_NAME.pattern})\}}"
    r"|(?P<broken>\$\{secret:)"
)
_OPENING: Final = "${secret:"


def check_references(text: str) -> None:
    """Make sure that every reference in a value is a whole one.

    Raises:
        ValueError: One is not; the message does not show the value, which may be secret itself.
    """
    if any(match["broken"] for match in _REFERENCE.finditer(text)):
        raise ValueError(
            "must have the name of a secret and '}' after '${secret:': a letter, then letters,"
            " digits, '.', '_' or '-'; write '$${secret:' for the text itself"
        )


def secrets_in(text: str) -> frozenset[str]:
    """Name the secrets that a value refers to."""
    return frozenset(match["name"] for match in _REFERENCE.finditer(text) if match["name"])


def expand(text: str, values: Mapping[str, str]) -> str:
    """Put secrets in the place of their references.

    Args:
        text: A value that `check_references` took.
        values: Of every secret that it refers to.
    """
    return _REFERENCE.sub(lambda match: values[match["name"]] if match["name"] else _OPENING, text)


def recover(text: str, expanded: str) -> str:
    """Find out which secret was put into a value that refers to just one.

    Args:
        text: The value with its reference.
        expanded: What `expand` made of it, at some time or other.

    Returns:
        The secret as it was then; all of expanded where the value refers to several, or was another
        one then: nobody can tell where in it a secret ends.
    """
    found = [match for match in _REFERENCE.finditer(text) if match["name"]]
    if len(found) == 1:
        before, after = expand(text[: found[0].start()], {}), expand(text[found[0].end() :], {})
        fits = len(before) + len(after) <= len(expanded)
        if fits and expanded.startswith(before) and expanded.endswith(after):
            return expanded[len(before) : len(expanded) - len(after)]
    return expanded
