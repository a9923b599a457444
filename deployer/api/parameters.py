"""What addresses, queries and headers carry, by name: one name means one thing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from deployer.api import streams
from deployer.api.documents import LogStream
from deployer.api.idempotency import HEADER as IDEMPOTENCY_HEADER
from deployer.api.operations import Operation, kinds
from deployer.api.packages import FORM
from deployer.api.routes import Route
from deployer.api.signatures import HEADER as SIGNATURE_HEADER
from deployer.model import AGENT_NAME, Strategy
from deployer.secret_references import SECRET_NAME
from deployer.statuses import AgentStatus

Schema = Mapping[str, Any]

_IN_PATH: Final = re.compile(r"\{([a-z_]+)(?::[a-z]+)?(?:\([^)]*\))?\}")
_TEXT: Final = {"type": "string"}
_SECONDS: Final = {"type": "number", "minimum": 0, "maximum": 120}
_BOOLEAN: Final = {"type": "boolean"}
_IDEMPOTENCY_KEY: Final = {"type": "string", "minLength": 1, "maxLength": 255}
_AGENT: Final = {"type": "string", "pattern": f"^{AGENT_NAME.pattern}$"}

_PATH: Final[Mapping[str, tuple[str, Schema]]] = {
    "agent": ("The agent's name", _AGENT),
    "number": ("The release's number", {"type": "integer", "minimum": 0}),
    "secret": (
        "What manifests call it",
        {"type": "string", "pattern": f"^{SECRET_NAME.pattern}$"},
    ),
    "checksum": ("The package's MD5 or SHA-256", _TEXT),
    "deployment_id": ("As the answer to POST /v1/deployments names it", _TEXT),
    "key_id": ("As GET /v1/keys lists it", _TEXT),
    "name": ("As a page refers to it", _TEXT),
    "path": ("What comes after it", _TEXT),
}
_QUERY: Final[Mapping[str, Schema]] = {
    "wait": _SECONDS,
    "timeout": _SECONDS,
    "follow": _BOOLEAN,
    "force": _BOOLEAN,
    "start": _BOOLEAN,
    "keep_data": _BOOLEAN,
    "limit": {"type": "integer", "minimum": 1},
    "tail": {"type": "integer", "minimum": 0},
    "strategy": {"type": "string", "enum": list(Strategy)},
    "status": {"type": "string", "enum": list(AgentStatus)},
    "stream": {"type": "string", "enum": list(LogStream)},
    "agent": _AGENT,
}


def plain_path(path: str) -> str:
    """Write an address without falcon's converters."""
    return _IN_PATH.sub(r"{\1}", path)


def parameters(route: Route, described: Operation) -> Iterator[Schema]:
    """Describe what an operation is told beside its body."""
    for name in _IN_PATH.findall(route.path):
        text, schema = _PATH[name]
        # ATOLL's own addresses take any text for a name, and say in their own words what is none.
        schema = _TEXT if name == "agent" and route.tag == "atoll" else schema
        yield {"required": True, **_parameter("path", name, text, schema)}
    for name, text in described.query.items():
        yield _parameter("query", name, text, _QUERY.get(name, _TEXT))
    if "wait" in described.query:
        yield _parameter("header", "Prefer", "`wait=N`, in place of the query's", _TEXT)
    if any(streams.MEDIA_TYPE in kinds(content) for content in described.answers.values()):
        text = "The `id` of the last event that arrived: a stream goes on after it"
        yield _parameter("header", streams.LAST_EVENT_ID, text, _TEXT)
    if described.is_repeatable:
        text = (
            "Chosen anew for each thing to be done, such as a random UUID: whoever sends the same"
            " request with it again, within 24 hours, has it done once, and gets the first answer"
        )
        yield _parameter("header", IDEMPOTENCY_HEADER, text, _IDEMPOTENCY_KEY)
    if FORM in kinds(described.body):
        text = "The .minisig file in base64, where the body is the ZIP itself"
        yield _parameter("header", SIGNATURE_HEADER, text, _TEXT)


def _parameter(place: str, name: str, text: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": place, "description": text, "schema": schema}
