"""The OpenAPI document, made from the route table and what stands beside each responder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

import falcon
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from deployer import __version__
from deployer.api.documents import Problem
from deployer.api.operations import Operation
from deployer.api.routes import Route

_METHODS: Final = ("get", "head", "post", "put", "delete")
_PARAMETER: Final = re.compile(r"\{([a-z_]+)(?::[a-z]+)?(?:\([^)]*\))?\}")
_WORDS: Final = re.compile(r"[A-Za-z0-9]+")
_ALWAYS: Final = (HTTPStatus.FORBIDDEN,)
_LOCKED: Final = (HTTPStatus.UNAUTHORIZED,)
_REFERENCES: Final = "#/components/schemas/{model}"


def openapi_document(routes: Iterable[Route]) -> dict[str, Any]:
    """Make the document for a route table.

    Args:
        routes: What is served.

    Returns:
        An OpenAPI 3.1 document, as JSON would hold it.
    """
    table = list(routes)
    paths: dict[str, dict[str, Any]] = {}
    models: list[type[BaseModel]] = [Problem]
    for route in table:
        for method in _METHODS:
            described = described_operation(route, method)
            if described is not None:
                models += _models(described)
                path = _PARAMETER.sub(r"{\1}", route.path)
                paths.setdefault(path, {})[method] = _operation(route, method, described)
    _, schemas = models_json_schema(
        [(each, "serialization") for each in dict.fromkeys(models)], ref_template=_REFERENCES
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ATOLL Deployment Server",
            "version": __version__,
            "description": "Installs, configures, supervises and updates agents on one machine.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def described_operation(route: Route, method: str) -> Operation | None:
    """Find what stands beside the responder of a route's method."""
    suffix = f"_{route.suffix}" if route.suffix else ""
    responder = getattr(route.resource, f"on_{method}{suffix}", None)
    operation: Operation | None = getattr(responder, "operation", None)
    return operation


def _models(described: Operation) -> list[type[BaseModel]]:
    candidates: list[object] = [*described.answers.values(), described.body]
    return [each for each in candidates if isinstance(each, type) and issubclass(each, BaseModel)]


def _operation(route: Route, method: str, described: Operation) -> dict[str, Any]:
    words = "_".join(_WORDS.findall(route.path)) or "root"
    document: dict[str, Any] = {
        "operationId": f"{method}_{words}",
        "summary": route.summary or described.summary,
        "tags": [route.tag],
        "responses": _responses(described),
    }
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "integer"} if name == "number" else {"type": "string"},
        }
        for name in _PARAMETER.findall(route.path)
    ]
    parameters += [
        {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
        for name, text in described.query.items()
    ]
    if parameters:
        document["parameters"] = parameters
    if described.body is not None and not route.takes_name:
        document["requestBody"] = {"required": True, "content": _body(described.body)}
    if described.is_open:
        document["security"] = []
    return document


def _responses(described: Operation) -> Mapping[str, Any]:
    responses: dict[str, Any] = {}
    for status, content in described.answers.items():
        responses[str(status.value)] = {"description": status.phrase, **_content(content)}
    locked = () if described.is_open else _LOCKED
    for status in (*described.problems, *locked, *_ALWAYS):
        responses.setdefault(
            str(status.value),
            {
                "description": status.phrase,
                "content": {"application/problem+json": {"schema": _reference(Problem)}},
            },
        )
    return dict(sorted(responses.items()))


def _content(content: type[BaseModel] | str | None) -> dict[str, Any]:
    if content is None:
        return {}
    if isinstance(content, str):
        return {"content": {content: {"schema": {"type": "string"}}}}
    return {"content": {"application/json": {"schema": _reference(content)}}}


def _body(body: type[BaseModel] | tuple[str, ...]) -> dict[str, Any]:
    if isinstance(body, type):
        return {"application/json": {"schema": _reference(body)}}
    form = {
        "type": "object",
        "properties": {"file": {"type": "string", "contentMediaType": "application/zip"}},
        "required": ["file"],
    }
    return {each: {"schema": form} if each.startswith("multipart/") else {} for each in body}


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REFERENCES.format(model=model.__name__)}


class OpenApi:
    """The contract, at ``/openapi.json``."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """Serve document."""
        self._data = json.dumps(document).encode()

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Give the whole document."""
        resp.content_type = falcon.MEDIA_JSON
        resp.data = self._data
