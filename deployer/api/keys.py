"""API keys: made, listed, revoked."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Final

import falcon
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from deployer import local_keys
from deployer.agent_patterns import EVERY_AGENT, AgentPattern
from deployer.api import documents, inputs, problem_sets
from deployer.api.answers import write
from deployer.api.idempotency import keep_answer
from deployer.api.operations import PAGE, operation
from deployer.api.permissions import caller_of
from deployer.api.services import Services
from deployer.errors import ForbiddenError, KeyUnknownError, Problem, RequestInvalidError
from deployer.keys import Caller, Key, Scope, digest_of, id_of, new_text
from deployer.store import now

_LONGEST_DAYS: Final = 3650

KeyName = Annotated[
    str, StringConstraints(min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f]+$")
]


class KeyRequest(BaseModel):
    """A key to be made.

    Attributes:
        name: What it is for.
        scope: How much its holder may do.
        agents: Names of agents for which that holds; ``*`` and ``?`` stand for any characters.
        expires_at: From when on it is none any more.
        expires_in_days: The same, from now on; at most one of the two.
    """

    model_config = ConfigDict(extra="forbid")

    name: KeyName
    scope: Scope
    agents: Annotated[tuple[AgentPattern, ...], Field(min_length=1, max_length=100)] = EVERY_AGENT
    expires_at: AwareDatetime | None = None
    expires_in_days: Annotated[float, Field(gt=0, le=_LONGEST_DAYS)] | None = None


class Keys:
    """All keys, at ``/v1/keys``."""

    def __init__(self, services: Services) -> None:
        """Keep keys in services' store."""
        self._store = services.parts.store
        self._rows = services.parts.store.keys

    @operation("List keys", {HTTPStatus.OK: documents.KeyList}, scope=Scope.ADMIN, query=PAGE)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List them, the oldest first; nobody can read their texts any more."""
        limit, after = inputs.page_limit(req), req.get_param("cursor") or ""
        found = [each for each in self._rows.all() if _place(each) > after]
        page, more = inputs.cut_page(found, limit, _place)
        items = [documents.key(each) for each in page]
        write(resp, documents.KeyList(keys=items, count=len(items), next=more))

    @operation(
        "Make a key",
        {HTTPStatus.CREATED: documents.NewKey},
        scope=Scope.ADMIN,
        problems=problem_sets.JSON_BODY,
        body=KeyRequest,
        is_repeatable=True,
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Make one and give its text, this once."""
        text = new_text()
        key = _key(inputs.json_body(req, KeyRequest), text)
        _refuse_more_than_ones_own(caller_of(req), key)
        req.context.target = f"{key.id} {key.name}: {key.scope} for {', '.join(key.agents)}"
        resp.status = HTTPStatus.CREATED
        resp.location = f"/v1/keys/{key.id}"
        resp.set_header("Cache-Control", "no-store")
        write(resp, documents.new_key(key, text))
        with self._store.transaction():  # nobody could read the text of one that is made alone
            self._rows.add(key)
            keep_answer(req, resp)


class OneKey:
    """A key, at ``/v1/keys/{key_id}``."""

    def __init__(self, services: Services) -> None:
        """Read and revoke through services' store."""
        self._state = services.parts.state
        self._store = services.parts.store

    @operation(
        "Show a key",
        {HTTPStatus.OK: documents.Key},
        scope=Scope.ADMIN,
        problems=(KeyUnknownError,),
    )
    def on_get(self, _req: falcon.Request, resp: falcon.Response, key_id: str) -> None:
        """Show what is known of it."""
        write(resp, documents.key(self._store.keys.get(key_id)))

    @operation(
        "Revoke a key",
        {HTTPStatus.NO_CONTENT: None},
        scope=Scope.ADMIN,
        problems=(KeyUnknownError,),
    )
    def on_delete(self, req: falcon.Request, resp: falcon.Response, key_id: str) -> None:
        """Let nobody in with it from now on, and end its sessions.

        The local key is one that leaked, then: another takes its place in the file.
        """
        key = self._store.keys.get(key_id)
        req.context.target = f"{key.id} {key.name}"
        if key.is_local:
            local_keys.renew(self._state, self._store)
        else:
            self._store.keys.remove(key.id)
        resp.status = HTTPStatus.NO_CONTENT


def _place(key: Key) -> str:
    """Say where a key stands among all, as a cursor that sorts by age."""
    return f"{key.created_at.timestamp():020.6f}-{key.id}"


def _key(wanted: KeyRequest, text: str) -> Key:
    """Make the noun for a request.

    Raises:
        RequestInvalidError: What it asks for makes no sense; every problem is listed.
    """
    moment = now()
    expires_at = wanted.expires_at
    if wanted.expires_in_days is not None:
        expires_at = moment + timedelta(days=wanted.expires_in_days)
    problems: list[Problem] = []
    if wanted.scope is Scope.ADMIN and "*" not in wanted.agents:
        why = "must hold `*` for the scope admin: who makes keys can make one for any agent"
        problems.append(Problem("agents", why))
    if wanted.expires_at is not None and wanted.expires_in_days is not None:
        problems.append(
            Problem("expires_in_days", "means the same as expires_at: send one of them")
        )
    if expires_at is not None and expires_at <= moment:
        problems.append(Problem("expires_at", f"must lie ahead, not at {expires_at.isoformat()}"))
    if problems:
        raise RequestInvalidError(
            f"cannot make a key: {problems[0]}", cause=str(problems[0]), problems=problems
        )
    return Key(
        id=id_of(text),
        name=wanted.name,
        scope=wanted.scope,
        agents=wanted.agents,
        digest=digest_of(text),
        created_at=moment,
        expires_at=expires_at,
    )


def _refuse_more_than_ones_own(caller: Caller, key: Key) -> None:
    """Refuse a key that may more than its maker: one that outlives them.

    More than admin, which making keys needs, there is not, and that holds for every agent.

    Raises:
        ForbiddenError: It would.
    """
    if caller.expires_at is not None and (
        key.expires_at is None or key.expires_at > caller.expires_at
    ):
        raise ForbiddenError(
            f"cannot make a key that outlives {caller.who}, which ends at"
            f" {caller.expires_at.isoformat()}",
            cause="the key would outlive its maker",
            hint="name an earlier end, or use a key that does not end",
        )
