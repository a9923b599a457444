"""Secrets: set, listed by name, removed; what was set is never told again."""

from __future__ import annotations

import unicodedata
from http import HTTPStatus
from typing import Annotated, Final

import falcon
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from deployer.agent_patterns import EVERY_AGENT, AgentPattern
from deployer.api import documents, inputs, problem_sets
from deployer.api.answers import write
from deployer.api.operations import PAGE, operation
from deployer.api.services import Services
from deployer.errors import (
    Problem,
    RequestInvalidError,
    SecretsKeyError,
    SecretUnknownError,
)
from deployer.keys import Scope
from deployer.secret_references import SECRET_NAME

_LARGEST_BYTES: Final = 64 * 1024
_KEPT_CONTROLS: Final = frozenset("\t\n\r")


def _value(text: str) -> str:
    if len(text.encode()) > _LARGEST_BYTES:
        raise ValueError(f"must have at most {_LARGEST_BYTES} bytes: an environment takes no more")
    if any(unicodedata.category(each) == "Cc" and each not in _KEPT_CONTROLS for each in text):
        raise ValueError("must be text without control characters: send binary data as base64")
    return text


class SecretRequest(BaseModel):
    """What a secret is to be.

    Attributes:
        value: Any text; an agent gets it in a variable.
        agents: Patterns of the agents that may use it.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    value: Annotated[str, AfterValidator(_value), Field(min_length=1, repr=False)]
    agents: Annotated[tuple[AgentPattern, ...], Field(min_length=1, max_length=100)] = EVERY_AGENT


class Secrets:
    """All secrets, at ``/v1/secrets``."""

    def __init__(self, services: Services) -> None:
        """List secrets through services."""
        self._secrets = services.parts.secrets

    @operation(
        "List secrets, without their values",
        {HTTPStatus.OK: documents.SecretList},
        scope=Scope.DEPLOY,
        query=PAGE,
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List them by name, a page at a time."""
        limit, after = inputs.page_limit(req), req.get_param("cursor") or ""
        found = [each for each in self._secrets.all() if each.name > after]
        page, more = inputs.cut_page(found, limit, lambda each: each.name)
        items = [documents.secret(each) for each in page]
        write(resp, documents.SecretList(secrets=items, count=len(items), next=more))


class OneSecret:
    """A secret, at ``/v1/secrets/{secret}``: written, and never read."""

    def __init__(self, services: Services) -> None:
        """Set and remove through services."""
        self._secrets = services.parts.secrets

    @operation(
        "Set a secret",
        {HTTPStatus.CREATED: documents.Secret, HTTPStatus.OK: documents.Secret},
        scope=Scope.ADMIN,
        problems=(*problem_sets.JSON_BODY, SecretsKeyError),
        body=SecretRequest,
    )
    def on_put(self, req: falcon.Request, resp: falcon.Response, secret: str) -> None:
        """Set it: 201 when it is new, 200 when it was there; agents get it at their next start."""
        req.context.target = secret
        if not SECRET_NAME.fullmatch(secret):
            problem = Problem(
                "name",
                "must begin with a letter and have at most 63 letters, digits, '.', '_' or '-'",
            )
            raise RequestInvalidError(
                f"cannot set a secret: its {problem}", cause=str(problem), problems=(problem,)
            )
        asked = inputs.json_body(req, SecretRequest)
        kept, is_new = self._secrets.put(secret, asked.value, asked.agents)
        resp.status = HTTPStatus.CREATED if is_new else HTTPStatus.OK
        write(resp, documents.secret(kept))

    @operation(
        "Remove a secret",
        {HTTPStatus.NO_CONTENT: None},
        scope=Scope.ADMIN,
        problems=(SecretUnknownError,),
    )
    def on_delete(self, req: falcon.Request, resp: falcon.Response, secret: str) -> None:
        """Forget it; agents that run keep it until they end."""
        req.context.target = secret
        self._secrets.remove(secret)
        resp.status = HTTPStatus.NO_CONTENT
