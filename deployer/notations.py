"""TOML and JSON written by strangers, read as plain data within bounds of size, depth and time.

The parsers themselves may recurse until Python gives up, take quadratic time for dotted keys
(tomli before 2.3: 20 KB in 1.7 s) or die of a number of 100,000 digits with an error of their own.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

import tomli

DEEPEST: Final = 32
"""Tables and lists inside each other, and parts of a dotted key."""

_TOML_TOKEN: Final = re.compile(
    # An unterminated string runs to the end, one of a single quote to that of its line: there tomli
    # gives up as well. Were it no match, each quote in it would be tried as the beginning of one.
    r'"""(?:\\.|[^\\])*?(?:"{3,5}|\Z)'
    r"|'''.*?(?:'{3,5}|\Z)"
    r'|"(?:\\.|[^"\\\n])*"?'
    r"|'[^'\n]*'?"
    r"|#[^\n]*"
    r"|[.\[\]{}=,\n]",
    re.DOTALL,
)


def read_toml(data: bytes) -> dict[str, Any]:
    """Read a TOML document.

    Args:
        data: UTF-8, with or without a byte order mark; of a size the caller has bounded.

    Raises:
        ValueError: It cannot be read; the message fits behind the name of the file.
    """
    text = _text(data)
    _refuse_deep_toml(text)
    try:
        document = tomli.loads(text)
    except RecursionError:
        _refuse_depth()
    except tomli.TOMLDecodeError as error:
        raise ValueError(f"is not TOML: {error}") from error
    except ValueError as error:  # int() of too many digits, a date that does not exist
        raise ValueError(f"holds a value that cannot be read: {error!s:.200}") from error
    _refuse_deep_data(document)
    return document


def read_json(data: bytes) -> dict[str, Any]:
    """Read a JSON document that holds one object.

    Args:
        data: UTF-8, with or without a byte order mark; of a size the caller has bounded.

    Raises:
        ValueError: It cannot be read; the message fits behind the name of the file.
    """
    text = _text(data)
    try:
        document = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object)
        # A lone surrogate, written as an escape, is no text: nothing could write it down again.
        json.dumps(document, ensure_ascii=False).encode()
    except RecursionError:
        _refuse_depth()
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from error
    except UnicodeEncodeError as error:
        raise ValueError("holds text with broken characters") from error
    except ValueError as error:
        raise ValueError(f"holds a value that cannot be read: {error!s:.200}") from error
    if not isinstance(document, dict):
        raise ValueError("must hold one object")  # noqa: TRY004  # about a document, not a type
    _refuse_deep_data(document)
    return document


def _text(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:4]:
        raise ValueError("is UTF-16 or UTF-32: save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8: byte {error.start} cannot be read") from error


def _refuse_deep_toml(text: str) -> None:
    brackets = dots = 0
    for match in _TOML_TOKEN.finditer(text):
        sign = match[0]
        if sign == ".":
            dots += 1
        elif sign in "[]{}=,\n":
            dots = 0
            brackets += {"[": 1, "{": 1, "]": -1, "}": -1}.get(sign, 0)
        if dots >= DEEPEST - 1 or brackets >= DEEPEST:
            _refuse_depth()


def _refuse_deep_data(document: object) -> None:
    # Headers, dotted keys and inline tables add up, so the whole is measured once more.
    level = [document]
    for _ in range(DEEPEST + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    _refuse_depth()


def _refuse_depth() -> NoReturn:
    raise ValueError(f"is nested too deeply: at most {DEEPEST} tables, lists or parts of a key")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) < len(pairs):
        raise ValueError("the same key stands twice in one object")
    return built
