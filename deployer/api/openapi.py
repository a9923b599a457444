"""The OpenAPI document, made from the route table and what stands beside each responder."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, Final

import falcon
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from deployer import __version__
from deployer.api import streams
from deployer.api.documents import Problem
from deployer.api.operations import Content, Operation, operation
from deployer.api.packages import FORM
from deployer.api.routes import Route
from deployer.api.signatures import FIELD as SIGNATURE_FIELD
from deployer.api.signatures import HEADER as SIGNATURE_HEADER
from deployer.keys import Scope
from deployer.model import AGENT_NAME
from deployer.secret_references import SECRET_NAME

Document = Mapping[str, Any]

METHODS: Final = ("get", "head", "post", "put", "delete")
_PARAMETER: Final = re.compile(r"\{([a-z_]+)(?::[a-z]+)?(?:\([^)]*\))?\}")
_WORDS: Final = re.compile(r"[A-Za-z0-9]+")
_REFERENCES: Final = "#/components/schemas/{model}"
_JSON: Final = "application/json"

_ALWAYS: Final = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.INTERNAL_SERVER_ERROR,
)
"""What any request may meet: a bad header, the gate, a body too large, a fault of the server's."""

_LOCKED: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS)
"""What whoever shows no key, or a wrong one, may meet."""

_FORM: Final = {
    "type": "object",
    "properties": {
        "file": {"type": "string", "contentMediaType": "application/zip"},
        "force": {"type": "string"},
        SIGNATURE_FIELD: {"type": "string", "description": "The package's .minisig file"},
    },
    "required": ["file"],
}
_PATH_SCHEMAS: Final = {
    "agent": {"type": "string", "pattern": f"^{AGENT_NAME.pattern}$"},
    "number": {"type": "integer", "minimum": 0},
    "secret": {"type": "string", "pattern": f"^{SECRET_NAME.pattern}$"},
}
_TEXT: Final = {"type": "string"}
_STREAM: Final = (
    "Server-sent events (HTML standard, 9.2). `problem` carries a problem document and ends the"
    " stream; one that ends without `end` is to be taken up again, after its last id."
)


def openapi_document(routes: Iterable[Route]) -> Document:
    """Make the document for a route table.

    HEAD goes unsaid: it answers wherever GET does (RFC 9110, 9.3.2).

    Args:
        routes: What is served.

    Returns:
        An OpenAPI 3.1 document, as JSON would hold it.
    """
    paths: dict[str, dict[str, Any]] = {}
    models: dict[type[BaseModel], None] = {Problem: None}
    for route in routes:
        for method in METHODS:
            described = described_operation(route, method)
            if described is not None:
                models |= dict.fromkeys(_models(described))
                path = _PARAMETER.sub(r"{\1}", route.path)
                paths.setdefault(path, {})[method] = _operation(route, method, described)
    _, schemas = models_json_schema(
        [(each, "serialization") for each in models], ref_template=_REFERENCES
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
        "security": [{"bearer": []}, {"key": []}, {"certificate": []}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "certificate": {"type": "mutualTLS"},
            },
        },
    }


def described_operation(route: Route, method: str) -> Operation | None:
    """Find what stands beside the responder of a route's method."""
    suffix = f"_{route.suffix}" if route.suffix else ""
    responder = getattr(route.resource, f"on_{method}{suffix}", None)
    described: Operation | None = getattr(responder, "operation", None)
    return described


def _models(described: Operation) -> Iterator[type[BaseModel]]:
    for content in (*described.answers.values(), described.body):
        yield from (each for each in _kinds(content) if isinstance(each, type))


def _kinds(content: Content) -> tuple[type[BaseModel] | str, ...]:
    if content is None:
        return ()
    return content if isinstance(content, tuple) else (content,)


def _operation(route: Route, method: str, described: Operation) -> Document:
    words = "_".join(_WORDS.findall(route.path)) or "root"
    document: dict[str, Any] = {
        "operationId": f"{method}_{words}",
        "summary": route.summary or described.summary,
        "tags": [route.tag],
        "parameters": list(_parameters(route, described)),
        "responses": _responses(described),
    }
    if described.body is not None and not route.takes_name:
        document["requestBody"] = {
            "required": not described.is_body_optional,
            "content": _content(described.body),
        }
    if described.scope is None:
        document["security"] = []
    else:
        document["x-scope"] = described.scope
        document["description"] = f"Needs the scope `{described.scope}`."
    return document


def _parameters(route: Route, described: Operation) -> Iterator[Document]:
    for name in _PARAMETER.findall(route.path):
        schema = _PATH_SCHEMAS.get(name, _TEXT)
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    for name, text in described.query.items():
        yield {"name": name, "in": "query", "description": text, "schema": _TEXT}
    if "wait" in described.query:
        text = "`wait=N`, in place of the query's"
        yield {"name": "Prefer", "in": "header", "description": text, "schema": _TEXT}
    if any(streams.MEDIA_TYPE in _kinds(content) for content in described.answers.values()):
        text = "The `id` of the last event that arrived: a stream goes on after it"
        name = streams.LAST_EVENT_ID
        yield {"name": name, "in": "header", "description": text, "schema": _TEXT}
    if FORM in _kinds(described.body):
        text = "The .minisig file in base64, where the body is the ZIP itself"
        yield {"name": SIGNATURE_HEADER, "in": "header", "description": text, "schema": _TEXT}


def _responses(described: Operation) -> Document:
    responses: dict[str, Any] = {}
    for status, content in described.answers.items():
        body = {} if content is None else {"content": _content(content)}
        responses[str(status.value)] = {"description": status.phrase, **body}
    locked = () if described.scope is None else _LOCKED
    problem = {"application/problem+json": {"schema": _reference(Problem)}}
    for status in (*described.problems, *locked, *_ALWAYS):
        response = responses.setdefault(str(status.value), {"description": status.phrase})
        response["content"] = response.get("content", {}) | problem
    return dict(sorted(responses.items()))


def _content(content: Content) -> Document:
    kinds = _kinds(content)
    models = [_reference(each) for each in kinds if isinstance(each, type)]
    document: dict[str, Any] = {each: _raw(each) for each in kinds if isinstance(each, str)}
    if models:
        schema = models[0] if len(models) == 1 else {"anyOf": models}
        document = {_JSON: {"schema": schema}, **document}
    return document


def _raw(media_type: str) -> Document:
    """Describe bytes: those of a form have parts, of the others nothing more is to be said."""
    if media_type == streams.MEDIA_TYPE:
        return {"schema": {"type": "string", "description": _STREAM}}
    return {"schema": _FORM} if media_type.startswith("multipart/") else {}


def _reference(model: type[BaseModel]) -> Document:
    return {"$ref": _REFERENCES.format(model=model.__name__)}


class OpenApi:
    """The contract, at ``/openapi.json``."""

    def __init__(self, contract: Callable[[], Document]) -> None:
        """Serve what contract makes; it is made when somebody first asks."""
        self._data = cache(lambda: json.dumps(contract()).encode())

    @operation("Read this contract", {HTTPStatus.OK: _JSON}, is_filtered=True, scope=Scope.READ)
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Give the whole document."""
        resp.content_type = falcon.MEDIA_JSON
        resp.data = self._data()
