"""Bodies in the contract, of requests and of answers, each with an example."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from itertools import groupby
from typing import Any, Final

from pydantic import BaseModel

from deployer.api import problem_sets, streams
from deployer.api.documents import Problem
from deployer.api.examples import BODIES, DOCUMENTS, TEXTS, UNFINISHED, problem_example
from deployer.api.idempotency import REPLAYED
from deployer.api.operations import Content, Operation, kinds
from deployer.api.problems import STATUSES
from deployer.api.signatures import FIELD as SIGNATURE_FIELD
from deployer.errors import DeployerError, IdempotencyKeyInUseError

SCHEMAS: Final = "#/components/schemas/{model}"
_EXAMPLES: Final = "#/components/examples/{name}"
_HEADERS: Final = "#/components/headers/{name}"
_RESPONSES: Final = "#/components/responses/{name}"
_MOST_NAMED: Final = 3
_GOES_ON: Final = ".goes-on"

HEADERS: Final = {
    "X-Request-Id": "Names the request in the server's log: the client's own, or one of ours",
    "Location": "Where what was made, begun or meant is found",
    "Retry-After": "Seconds after which it may be tried again",
    "WWW-Authenticate": "How to show a key",
    REPLAYED: "`true`: this is the answer to the first request with its `Idempotency-Key`",
}
_JSON: Final = "application/json"
_PROBLEM_JSON: Final = "application/problem+json"
_PHRASES: Final = {  # RFC 9110's words, whatever this Python calls them
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Content Too Large",
    HTTPStatus.UNPROCESSABLE_ENTITY: "Unprocessable Content",
}
_FORM: Final = {
    "type": "object",
    "properties": {
        "file": {
            "type": "string",
            "contentMediaType": "application/zip",
            "description": "The package",
        },
        "force": {"type": "string"},
        SIGNATURE_FIELD: {"type": "string", "description": "The package's .minisig file"},
    },
    "required": ["file"],
}
_STREAM: Final = (
    "Server-sent events (HTML standard, 9.2). `problem` carries a problem document and ends the"
    " stream; one that ends without `end` is to be taken up again, after its last id."
)


def body(described: Operation) -> Mapping[str, Any]:
    """Describe what a request carries."""
    return {
        "required": not described.is_body_optional,
        "content": _content(described.body),
    }


def responses(described: Operation) -> Mapping[str, Any]:
    """Describe what is answered, by status: what was asked for, or what went wrong."""
    found: dict[HTTPStatus, dict[str, Any]] = {}
    for status, content in described.answers.items():
        found[status] = {
            "description": _phrase(status),
            "content": _content(content, goes_on=status is HTTPStatus.ACCEPTED),
            "headers": (REPLAYED,) if described.is_repeatable else (),
        }
    for status, group in groupby(problem_classes(described), key=_status):
        classes = list(group)
        codes = ", ".join(f"`{each.code}`" for each in classes)
        response = found.setdefault(status, {"description": _phrase(status), "content": {}})
        response["description"] += f": {codes}"
        response["content"][_PROBLEM_JSON] = _problems(classes)
    return {str(status.value): _response(status, found[status]) for status in sorted(found)}


def problem_classes(described: Operation) -> list[type[DeployerError]]:
    """List everything that can go wrong with a request, by status and code."""
    keys = () if described.scope is None else problem_sets.KEYS
    repeats = problem_sets.REPEATABLE if described.is_repeatable else ()
    classes = {*described.problems, *problem_sets.ANY_REQUEST, *keys, *repeats}
    return sorted(classes, key=lambda each: (_status(each), each.code))


def share_responses(paths: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """Leave references in the place of answers that many operations give alike.

    Args:
        paths: Of the document; those with few problem codes are taken out.

    Returns:
        What the references lead to, by status and codes.
    """
    shared: dict[str, Any] = {}
    for described in (each for methods in paths.values() for each in methods.values()):
        for status, response in described["responses"].items():
            codes = list(response.get("content", {}).get(_PROBLEM_JSON, {}).get("examples", {}))
            if 0 < len(codes) <= _MOST_NAMED and len(response["content"]) == 1:
                name = ".".join((status, *codes))
                shared[name] = response
                described["responses"][status] = {"$ref": _RESPONSES.format(name=name)}
    return shared


def components(
    models: Iterable[type[BaseModel]], classes: Iterable[type[DeployerError]]
) -> Mapping[str, Any]:
    """Write the examples and headers that bodies and answers refer to.

    Args:
        models: Those that are taken or given.
        classes: Everything that can go wrong.
    """
    examples = {each.__name__: {"value": _example(each)} for each in models}
    examples |= {
        f"{each.__name__}{_GOES_ON}": {"value": UNFINISHED[each].model_dump(mode="json")}
        for each in UNFINISHED
    }
    examples |= {
        each.code: {
            "summary": (each.__doc__ or "").partition("\n")[0],
            "value": problem_example(each),
        }
        for each in sorted(classes, key=lambda each: each.code)
    }
    headers = {
        name: {"description": text, "schema": {"type": "string"}} for name, text in HEADERS.items()
    }
    return {"examples": examples, "headers": headers}


def _example(model: type[BaseModel]) -> Any:
    if model in BODIES:
        return BODIES[model].model_dump(mode="json", exclude_unset=True)
    return DOCUMENTS[model].model_dump(mode="json")


def _response(status: HTTPStatus, described: dict[str, Any]) -> Mapping[str, Any]:
    names = ["X-Request-Id", *described.pop("headers", ())]
    if status in {HTTPStatus.CREATED, HTTPStatus.ACCEPTED, HTTPStatus.SEE_OTHER}:
        names.append("Location")
    codes = described["content"].get(_PROBLEM_JSON, {}).get("examples", {})
    if status is HTTPStatus.TOO_MANY_REQUESTS or IdempotencyKeyInUseError.code in codes:
        names.append("Retry-After")
    if status is HTTPStatus.UNAUTHORIZED:
        names.append("WWW-Authenticate")
    headers = {name: {"$ref": _HEADERS.format(name=name)} for name in names}
    content = described.pop("content")
    return {**described, "headers": headers, **({"content": content} if content else {})}


def _problems(classes: Iterable[type[DeployerError]]) -> Mapping[str, Any]:
    codes = [each.code for each in classes]
    return {
        "schema": {**_reference(Problem), "properties": {"code": {"enum": codes}}},
        "examples": {code: {"$ref": _EXAMPLES.format(name=code)} for code in codes},
    }


def _content(content: Content, *, goes_on: bool = False) -> dict[str, Any]:
    models = [each for each in kinds(content) if isinstance(each, type)]
    described: dict[str, Any] = {}
    if models:
        schemas = [_reference(each) for each in models]
        described[_JSON] = {
            "schema": schemas[0] if len(models) == 1 else {"anyOf": schemas},
            "examples": {
                each.__name__: {
                    "$ref": _EXAMPLES.format(
                        name=f"{each.__name__}{_GOES_ON if goes_on and each in UNFINISHED else ''}"
                    )
                }
                for each in models
            },
        }
    for each in kinds(content):
        if isinstance(each, str):
            described[each] = _raw(each)
    return described


def _raw(media_type: str) -> Mapping[str, Any]:
    """Describe bytes: those of a form have parts, of the others nothing more is to be said."""
    if media_type.startswith("multipart/"):
        return {"schema": _FORM}
    schema = {"schema": {"type": "string", "description": _STREAM}}
    described = schema if media_type == streams.MEDIA_TYPE else {}
    return {**described, **({"example": TEXTS[media_type]} if media_type in TEXTS else {})}


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": SCHEMAS.format(model=model.__name__)}


def _status(cls: type[DeployerError]) -> HTTPStatus:
    return STATUSES[cls.kind]


def _phrase(status: HTTPStatus) -> str:
    return _PHRASES.get(status, status.phrase)
