"""The contract as it is served: for programs, and as one page to read, without any script."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from itertools import chain
from typing import Any, Final

import falcon
from markupsafe import Markup, escape

from deployer.api.operations import operation
from deployer.api.pages import show
from deployer.keys import Scope

Document = Mapping[str, Any]

_CODE: Final = re.compile(r"`([^`]+)`")
_PROBLEM: Final = "application/problem+json"
_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Example:
    """What a body looks like.

    Attributes:
        media_type: Of the body.
        shapes: Names of the shapes that it may have.
        name: Of this example; empty when it is the only one.
        text: The body itself; empty where bytes cannot be shown.
    """

    media_type: str
    shapes: tuple[str, ...]
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One operation, as the page shows it.

    Attributes:
        method: In capitals.
        path: With the names of its parameters in braces.
        described: As the document has it.
        body: Examples of what is sent.
        answers: Status, words and examples of each answer that is no problem.
        codes: The codes of problems, by status.
        command: A line for a shell that sends one.
    """

    method: str
    path: str
    described: Document
    body: tuple[Example, ...]
    answers: tuple[tuple[str, str, tuple[Example, ...]], ...]
    codes: Mapping[str, list[str]]
    command: str


class OpenApi:
    """The contract, at ``/openapi.json``."""

    def __init__(self, contract: Callable[[], Document]) -> None:
        """Serve what contract makes; it is made when somebody first asks."""
        self._data = cache(lambda: json.dumps(contract()).encode())

    @operation(
        "Read this contract",
        {HTTPStatus.OK: "application/json"},
        is_filtered=True,
        scope=Scope.READ,
    )
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Give the whole document."""
        resp.content_type = falcon.MEDIA_JSON
        resp.data = self._data()


class Docs:
    """The contract as a page."""

    def __init__(self, contract: Callable[[], Document]) -> None:
        """Show the OpenAPI document that contract makes."""
        self._contract = contract

    @operation(
        "Read this contract as a page",
        {HTTPStatus.OK: "text/html"},
        is_filtered=True,
        scope=Scope.READ,
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show every operation with what it takes and answers, by the noun that it is about."""
        document = self._contract()
        entries = tuple(_entries(document, req.prefix))
        nouns = [
            (tag, [each for each in entries if tag["name"] in each.described["tags"]])
            for tag in document["tags"]
        ]
        problems = {
            code: document["components"]["examples"][code]
            for code in sorted({code for each in entries for code in chain(*each.codes.values())})
        }
        show(
            resp,
            "contract.html.j2",
            document=document,
            nouns=nouns,
            problems=problems,
            prose=prose,
            words=words,
            type_of=type_of,
            pretty=_pretty,
        )


def _entries(document: Document, server: str) -> Iterator[Entry]:
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            body = tuple(_examples(document, described.get("requestBody", {})))
            answers = []
            codes: dict[str, list[str]] = {}
            for status, given in described["responses"].items():
                answer = _answer(document, given)
                found = tuple(_examples(document, answer))
                phrase = answer["description"].partition(":")[0]
                if status < "400" or any(each.media_type != _PROBLEM for each in found):
                    shown = tuple(each for each in found if each.media_type != _PROBLEM)
                    answers.append((status, phrase, shown))
                if told := [each.name for each in found if each.media_type == _PROBLEM]:
                    codes[status] = told
            command = _command(method.upper(), server + path, described, body)
            yield Entry(method.upper(), path, described, body, tuple(answers), codes, command)


def _answer(document: Document, given: Document) -> Document:
    """Look up an answer that several operations share."""
    if "$ref" not in given:
        return given
    shared: Document = document["components"]["responses"][_name(given["$ref"])]
    return shared


def _examples(document: Document, described: Document) -> Iterator[Example]:
    """Give each example of a body, or a body without one."""
    for media_type, content in described.get("content", {}).items():
        schema = content.get("schema", {})
        shapes = tuple(
            _name(each["$ref"]) for each in schema.get("anyOf", [schema]) if each.get("$ref")
        )
        named = content.get("examples", {})
        for name, reference in named.items():
            value = document["components"]["examples"][_name(reference["$ref"])]["value"]
            yield Example(media_type, shapes, name, _pretty(value))
        if not named:
            yield Example(media_type, shapes, "", content.get("example", ""))


def _command(method: str, url: str, described: Document, body: tuple[Example, ...]) -> str:
    """Write a line for a shell that asks for this; ``$TOKEN`` is left for the shell to fill in."""
    line = "curl" if method == "GET" else f"curl -X {method}"
    if described.get("security") != []:
        line += ' -H "Authorization: Bearer $TOKEN"'
    kinds = {each.media_type for each in body}
    sent = next((each for each in body if each.media_type == _JSON), None)
    if sent is not None:
        data = json.dumps(json.loads(sent.text))
        line += f" -H {shlex.quote(f'Content-Type: {_JSON}')} -d {shlex.quote(data)}"
    elif "application/zip" in kinds:
        line += " -H 'Content-Type: application/zip' --data-binary @greeter.zip"
    elif "text/plain" in kinds:
        line += " --data-binary @greeter.zip.minisig"
    return f"{line} {shlex.quote(url) if '{' not in url else url}"


def type_of(schema: Document) -> Markup:
    """Say in a few words what a value is; shapes are links to where they are described."""
    if "$ref" in schema:
        name = _name(schema["$ref"])
        return Markup('<a href="#shape-{0}">{0}</a>').format(name)
    if "anyOf" in schema:
        return Markup(" or ").join(map(type_of, schema["anyOf"]))
    if "const" in schema:
        return Markup("<code>{}</code>").format(json.dumps(schema["const"]))
    if "enum" in schema:
        values = (Markup("<code>{}</code>").format(each) for each in schema["enum"])
        return Markup(", ").join(values)
    if schema.get("type") == "array":
        return Markup("list of {}").format(type_of(schema.get("items", {})))
    told = [schema.get("format") or schema.get("type", "anything")]
    told += [f"from {schema['minimum']}"] if "minimum" in schema else []
    told += [f"to {schema['maximum']}"] if "maximum" in schema else []
    return escape(" ".join(told))


def prose(text: str) -> Markup:
    """Show a text that was written for a docstring, in paragraphs."""
    paragraphs = (words(each) for each in text.split("\n\n") if each.strip())
    return Markup("").join(Markup("<p>{}</p>").format(each) for each in paragraphs)


def words(text: str) -> Markup:
    """Show a text with the words of code in it as such."""
    parts = enumerate(_CODE.split(text))  # every second one stood between backquotes
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if at % 2 else escape(part) for at, part in parts
    )


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _name(reference: str) -> str:
    return reference.rpartition("/")[2]
