"""Taking secrets out of lines of a log, also those that a line has only a part of.

A log is read in lines, but not every line is whole: a long one is handed out in parts, the last one
may not be finished, and rotation deletes what came before the first. What is left of a secret at
such a cut is hidden as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Self

_SHORTEST_HIDDEN: Final = 4
"""Shorter texts are found everywhere: taking them out would leave no log to read."""

_REPLACEMENT: Final = "\ufffd"
"""What stands for the rest of a character that was cut."""


class CutLine(str):
    """A line that may not be whole, and on which side.

    Attributes:
        lacks_start: Its beginning may be missing.
        lacks_end: Its end may be.
    """

    __slots__ = ("lacks_end", "lacks_start")

    lacks_start: bool
    lacks_end: bool

    def __new__(cls, text: str, *, lacks_start: bool = False, lacks_end: bool = False) -> Self:
        """Mark a text."""
        line = super().__new__(cls, text)
        line.lacks_start = lacks_start
        line.lacks_end = lacks_end
        return line


class Redaction:
    """Hides some secrets, in the forms that Python and JSON give them."""

    def __init__(self, secrets: Iterable[tuple[str, str]]) -> None:
        """Hide secrets, given by name and value; a name may have several."""
        self._names = {form: name for name, value in secrets for form in _forms(value)}

    def apply(self, lines: Sequence[str]) -> list[str]:
        """Write lines anew, with the names of secrets in their place."""
        text = "\n".join(lines)
        present = [form for form in self._names if form in text]
        return [self._hide(line, present) for line in lines]

    def _hide(self, line: str, present: Sequence[str]) -> str:
        spans = [*_spans_of(line, present)]
        if isinstance(line, CutLine):
            spans += _spans_at_cuts(line, self._names)
        hidden, end = [], 0
        for start, stop, form in sorted(spans, key=lambda span: (span[0], -span[1])):
            if start >= end:
                hidden += [line[end:start], f"[secret {self._names[form]}]"]
            end = max(end, stop)
        return "".join([*hidden, line[end:]])


def _spans_of(line: str, forms: Iterable[str]) -> Iterator[tuple[int, int, str]]:
    """Find each form wherever it stands, also where one overlaps another."""
    for form in forms:
        start = line.find(form)
        while start >= 0:
            yield start, start + len(form), form
            start = line.find(form, start + 1)


def _spans_at_cuts(line: CutLine, forms: Iterable[str]) -> Iterator[tuple[int, int, str]]:
    """Find what a line has of forms that it has not the whole of."""
    first = len(line) - len(line.lstrip(_REPLACEMENT)) if line.lacks_start else 0
    end = len(line.rstrip(_REPLACEMENT)) if line.lacks_end else len(line)
    text = line[first:end]
    if len(text) < _SHORTEST_HIDDEN:
        return
    for form in forms:
        if line.lacks_start and (length := _length_of_end(form, text)):
            yield first, first + length, form
        if line.lacks_end and (length := _length_of_beginning(form, text)):
            yield end - length, end, form
        if line.lacks_start and line.lacks_end and text in form:
            yield first, end, form


def _length_of_end(form: str, text: str) -> int:
    """Tell how much of the end of a form a text begins with."""
    head = text[:_SHORTEST_HIDDEN]
    at = form.find(head, 1)
    while at >= 0:
        if text.startswith(form[at:]):
            return len(form) - at
        at = form.find(head, at + 1)
    return 0


def _length_of_beginning(form: str, text: str) -> int:
    """Tell how much of the beginning of a form a text ends with."""
    head = form[:_SHORTEST_HIDDEN]
    at = text.find(head, max(0, len(text) - len(form) + 1))
    while at >= 0:
        if form.startswith(text[at:]):
            return len(text) - at
        at = text.find(head, at + 1)
    return 0


def _forms(value: str) -> set[str]:
    """Give the texts under which a value shows in a log, where each line stands for itself."""
    whole = {value, *value.splitlines()}
    written = {
        repr(value)[1:-1],
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
    }
    forms = {form.strip() for form in (*whole, *written)}
    return {form for form in forms if len(form) >= _SHORTEST_HIDDEN}
