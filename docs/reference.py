"""Writes the parts of the pages that say what the code says: ``make docs``.

A part stands between two comments, ``<!-- begin NAME -->`` and ``<!-- end NAME -->``. Types, bounds
and defaults are those of the pydantic models; what a field means is what its docstring says.

``python docs/reference.py --check`` writes nothing, and ends with 1 when a page is not current.
"""

from __future__ import annotations

import json
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin

from docstring_parser import DocstringStyle, parse
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from deployer import errors
from deployer.api import problems
from deployer.byte_sizes import size_text
from deployer.event_kinds import EventKind
from deployer.manifest import Manifest
from deployer.quantities import parse_bytes
from deployer.settings import Settings
from deployer.settings.sections import Section

HERE: Final = Path(__file__).parent
OWN_FAULT: Final = {"internal-error": "The server's fault; its log has more, by the request's id."}
FAR: Final = 10_000_000
"""Bounds from here on only keep nonsense out."""


def manifest_reference() -> str:
    """Describe the tables of a manifest."""
    parts = []
    for name, field in Manifest.model_fields.items():
        table = _model_of(field.annotation)
        if table is not None:
            summary = _summary(table).removeprefix(f"`[{name}]`: ")
            summary = f"{summary[:1].upper()}{summary[1:]}"
            parts.append(f"### `[{name}]`\n\n{summary}\n\n{_table(table, 'key')}")
    return "\n\n".join(parts)


def settings_reference() -> str:
    """Describe the server's settings, those of sections after those at the top."""
    sections = {
        name: model
        for name, field in Settings.model_fields.items()
        if (model := _model_of(field.annotation)) is not None and issubclass(model, Section)
    }
    parts = [f"### At the top\n\n{_table(Settings, 'setting', without=set(sections))}"]
    for name, model in sections.items():
        body = _table(model, "setting", prefix=f"{name}.")
        parts.append(f"### `{name}`\n\n{_summary(model)}\n\n{body}")
        parts += _items(model, f"{name}.")
    parts += _items(Settings)
    return "\n\n".join(parts)


def problem_reference() -> str:
    """Describe the problems that the API answers with, by their codes."""
    contract = (HERE / "openapi.json").read_text()
    kinds = _subclasses(errors.DeployerError)
    known = {each.code: each for each in kinds if "code" in vars(each)}
    rows = [
        (f"`{code}`", f"{problems.STATUSES[each.kind]:d}", OWN_FAULT.get(code) or _summary(each))
        for code, each in sorted(known.items())
        if f'"{code}"' in contract
    ]
    return _rows(("code", "status", "what it means"), rows)


def event_reference() -> str:
    """Describe what lines of the timeline are about."""
    said = _attributes(EventKind)
    return _rows(("kind", "what it means"), [(f"`{each}`", said[each.name]) for each in EventKind])


PARTS: Final[dict[str, tuple[str, Callable[[], str]]]] = {
    "manifest": ("agents.md", manifest_reference),
    "settings": ("settings.md", settings_reference),
    "problems": ("api.md", problem_reference),
    "events": ("api.md", event_reference),
}


def written(name: str) -> tuple[Path, str, str]:
    """Give the page of a part, its text, and what the text should be."""
    filename, write = PARTS[name]
    page = HERE / filename
    text = page.read_text()
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{page}: there is no {begin} with its end")
    note = "\n<!-- written by `make docs`; change the docstrings instead -->\n\n"
    return page, text, f"{before}{begin}{note}{write()}\n\n{end}{after}"


def main() -> int:
    """Write every part, or only check them."""
    stale = 0
    for name in PARTS:
        page, text, wanted = written(name)
        if text != wanted:
            stale = 1
            if "--check" in sys.argv:
                sys.stderr.write(f"{page.name} is not current: make docs\n")
            else:
                page.write_text(wanted)
    return stale if "--check" in sys.argv else 0


def _table(model: type[BaseModel], title: str, prefix: str = "", without: Any = ()) -> str:
    said = _attributes(model)
    rows = [
        (f"`{prefix}{name}`", _type(field), _default(field), said[name])
        for name, field in model.model_fields.items()
        if name not in without
    ]
    return _rows((title, "type", "default", ""), rows)


def _rows(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [titles, tuple("---" for _ in titles), *rows]
    return "\n".join("| " + " | ".join(_cell(each) for each in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|").replace("``", "`")


def _items(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Describe what stands in lists of tables."""
    for name, field in model.model_fields.items():
        if get_origin(field.annotation) is tuple:
            item = _model_of(get_args(field.annotation)[0])
            if item is not None:
                rows = _table(item, "key")
                yield f"### Each of `{prefix}{name}`\n\n{_summary(item)}\n\n{rows}"


def _subclasses(kind: type[errors.DeployerError]) -> Iterator[type[errors.DeployerError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _subclasses(each)


def _summary(kind: type) -> str:
    parsed = parse(kind.__doc__ or "", DocstringStyle.GOOGLE)
    return (parsed.short_description or "").replace("``", "`").replace("\n", " ")


def _attributes(model: type) -> dict[str, str]:
    parsed = parse(model.__doc__ or "", DocstringStyle.GOOGLE)
    return {each.arg_name: each.description or "" for each in parsed.params}


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """Find the model in an annotation that is one, or one that may be missing."""
    inner = () if get_origin(annotation) is tuple else get_args(annotation)
    for each in (annotation, *inner):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None


def _type(field: FieldInfo) -> str:
    annotation, metadata = _unwrapped(field.annotation, list(field.metadata))
    bounds = [
        f"{sign} {bound:g}"
        for each in metadata
        for name, sign in (("gt", ">"), ("ge", "≥"), ("le", "≤"))
        if (bound := getattr(each, name, None)) is not None and bound < FAR
    ]
    return ", ".join([_words(annotation, metadata), *bounds])


def _unwrapped(annotation: Any, metadata: list[Any]) -> tuple[Any, list[Any]]:
    """Take off what may be missing, and what says more than the type."""
    if get_origin(annotation) in {Union, types.UnionType}:
        inner = next(each for each in get_args(annotation) if each is not type(None))
        return _unwrapped(inner, metadata)
    if hasattr(annotation, "__metadata__"):
        return _unwrapped(annotation.__origin__, [*_flat(annotation.__metadata__), *metadata])
    return annotation, _flat(metadata)


def _flat(metadata: Iterable[Any]) -> list[Any]:
    """Put what stands in a Field in Annotated beside the rest."""
    return [
        inner
        for each in metadata
        for inner in (each.metadata if isinstance(each, FieldInfo) else (each,))
    ]


def _words(annotation: Any, metadata: list[Any]) -> str:
    if any(isinstance(each, BeforeValidator) and each.func is parse_bytes for each in metadata):
        return "size"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{each}`" for each in arguments)
    if origin is tuple:
        return f"list of {_plural(arguments[0])}"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(f"`{each.value}`" for each in annotation)
    names: dict[Any, str] = {int: "whole number", float: "number", bool: "true or false"}
    names |= {str: "text", Path: "path"}
    return names.get(annotation, "table")


def _plural(annotation: Any) -> str:
    words = _words(*_unwrapped(annotation, []))
    return {"text": "texts", "path": "paths", "table": "tables"}.get(words, words)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return "see below" if field.annotation is Path else ""
    value = field.default
    if value is None:
        return ""
    if _type(field) == "size":
        return f"`{json.dumps(size_text(value))}`"
    if isinstance(value, tuple):
        return f"`{json.dumps([str(each) for each in value])}`"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{json.dumps(value)}`"


if __name__ == "__main__":
    sys.exit(main())
