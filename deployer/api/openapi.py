"""The OpenAPI document, made from the route table and what stands beside each responder."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from deployer import __version__
from deployer.api import contents
from deployer.api.documents import Problem
from deployer.api.operations import Operation, models
from deployer.api.parameters import parameters, plain_path
from deployer.api.routes import METHODS, Route
from deployer.errors import DeployerError

Document = Mapping[str, Any]

_WORDS: Final = re.compile(r"[A-Za-z0-9]+")
_ATTRIBUTES: Final = "\n\nAttributes:\n"
_ATTRIBUTE: Final = re.compile(r"^ {4}(\w+): (.*)$")
_INTRODUCTION: Final = """\
Installs, configures, supervises and updates agents on one machine.

Send a key as `Authorization: Bearer KEY`, or as `X-API-Key`. What cannot be done is answered with a
problem document (RFC 9457): `code` is stable and for programs, `detail` is a sentence for people,
`hint` says what to do next, and `errors` lists everything that is wrong where that can be more
than one thing. Long acts answer 202 with `Location`; `?wait=N` or `Prefer: wait=N` holds the
request until they are over. What is not done once by nature takes an `Idempotency-Key`: sent again
with it, within 24 hours and by the same caller, a request is not done again and its first answer
comes back. Lists have a `next`, which is the `cursor` of the next page. Every
answer names its request in `X-Request-Id`, and so does the server's log."""
_TAGS: Final = {
    "agents": "How agents are, and what they are told to do",
    "packages": "What is uploaded, and who vouches for it",
    "deployments": "How a package becomes a release that serves",
    "releases": "What an agent has run, and the way back",
    "secrets": "What agents are given at their start and nobody can read",
    "server": "The machine: is it there, what does it hold, what happened",
    "keys": "Who may do what, and who did",
    "web": "For browsers",
    "atoll": "The wire of ATOLL 2.x, for its own client",
}


def openapi_document(routes: Iterable[Route]) -> Document:
    """Make the document for a route table.

    HEAD goes unsaid: it answers wherever GET does (RFC 9110, 9.3.2).

    Args:
        routes: What is served.

    Returns:
        An OpenAPI 3.1 document, as JSON would hold it.
    """
    paths: dict[str, dict[str, Any]] = {}
    shown: dict[type[BaseModel], None] = {}
    raised: set[type[DeployerError]] = set()
    tags: dict[str, None] = {}
    for route in routes:
        for method in METHODS:
            described = route.operation(method)
            if described is not None:
                shown |= dict.fromkeys(models(described))
                raised.update(contents.problem_classes(described))
                tags[route.tag] = None
                paths.setdefault(plain_path(route.path), {})[method] = _operation(
                    route, method, described
                )
    shapes: list[type[BaseModel]] = [Problem, *shown]
    _, schemas = models_json_schema(
        [(each, "serialization") for each in shapes], ref_template=contents.SCHEMAS
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ATOLL Deployment Server",
            "version": __version__,
            "description": _INTRODUCTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"key": []}, {"certificate": []}],
        "tags": [{"name": tag, "description": _TAGS[tag]} for tag in _TAGS if tag in tags],
        "paths": paths,
        "components": {
            "schemas": {name: _schema(each) for name, each in schemas["$defs"].items()},
            "responses": contents.share_responses(paths),
            **contents.components(shown, raised),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "certificate": {"type": "mutualTLS"},
            },
        },
    }


def _operation(route: Route, method: str, described: Operation) -> Document:
    words = "_".join(_WORDS.findall(route.path)) or "root"
    text = inspect.getdoc(route.responder(method)) or ""
    needs = "Needs no key." if described.scope is None else f"Needs the scope `{described.scope}`."
    document: dict[str, Any] = {
        "operationId": f"{method}_{words}",
        "summary": route.summary or described.summary,
        "description": f"{text.replace('``', '`')}\n\n{needs}",
        "tags": [route.tag],
        "parameters": list(parameters(route, described)),
    }
    if described.body is not None and not route.takes_name:
        document["requestBody"] = contents.body(described)
    document["responses"] = contents.responses(described)
    if described.scope is None:
        document["security"] = []
    else:
        document["x-scope"] = described.scope
    return document


def _schema(schema: dict[str, Any]) -> Document:
    """Give the attributes in a model's docstring to the properties that they describe."""
    text, _, attributes = str(schema.get("description", "")).partition(_ATTRIBUTES)
    if not attributes:
        return schema
    described: dict[str, str] = {}
    name = ""
    for line in attributes.splitlines():
        if found := _ATTRIBUTE.match(line):
            name = found[1]
            described[name] = found[2]
        else:
            described[name] += f" {line.strip()}"
    properties = {
        name: {**each, **({"description": described[name]} if name in described else {})}
        for name, each in schema["properties"].items()
    }
    return {**schema, "description": text, "properties": properties}
