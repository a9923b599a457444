"""What a caller may do: the scope that each operation asks for, and the agents it concerns.

An agent that a request names is judged by its name alone, before anybody looks whether it is there:
403 tells nothing about what there is. What is reached by a number or a checksum and belongs to
somebody else's agent is as if it were not there, and lists leave it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import falcon

from deployer import log_fields
from deployer.api.operations import Operation
from deployer.errors import AgentForbiddenError, ScopeMissingError
from deployer.keys import Caller, Scope

Table = Mapping[tuple[str, str], Operation]
"""What stands beside each responder, by method and address."""

_AGENT: Final = "agent"
"""The parameter of an address that names an agent."""


def caller_of(req: falcon.Request) -> Caller:
    """Give whom the gate let in."""
    caller: Caller = req.context.caller
    return caller


def require_scope(req: falcon.Request, scope: Scope) -> None:
    """Let a request go on only if its caller has a scope.

    Raises:
        ScopeMissingError: They have less.
    """
    caller = caller_of(req)
    if not caller.scope.includes(scope):
        raise ScopeMissingError(
            f"cannot do {req.method} {req.path}: it needs the scope {scope},"
            f" and {caller.who} has {caller.scope}",
            cause=f"needs the scope {scope}",
            hint="ask whoever has an admin key for one with that scope",
        )


def require_act(req: falcon.Request, scope: Scope) -> None:
    """Let a request that turns out to act go on only if its caller has a scope, and note it.

    Raises:
        ScopeMissingError: They have less.
    """
    req.context.is_act = True
    require_scope(req, scope)


def require_agent(req: falcon.Request, agent: str) -> None:
    """Let a request go on only if the agent it names is its caller's to see, and note it.

    Raises:
        AgentForbiddenError: It is not.
    """
    req.context.agent = agent
    log_fields.note(agent=agent[:80])
    caller = caller_of(req)
    if not caller.sees(agent):
        raise AgentForbiddenError(
            f"cannot do {req.method} {req.path[:200]} with {agent[:80]!r}: {caller.who} is for"
            f" {', '.join(caller.agents)} only",
            cause="not an agent of this key's",
            hint="ask whoever has an admin key for one for this agent",
        )


def judge(req: falcon.Request, table: Table, params: Mapping[str, Any]) -> None:
    """Let a request go on only if its caller may do what it asks for.

    What the table does not know is none of ours: falcon's own answers to OPTIONS, and that a method
    is not allowed.

    Raises:
        ScopeMissingError: They may not do this at all.
        AgentForbiddenError: They may, but not with this agent, or only with some agents.
    """
    method = "GET" if req.method == "HEAD" else req.method
    described = table.get((method, req.uri_template or ""))
    if described is None or described.scope is None:
        return
    require_scope(req, described.scope)
    if _AGENT in params:
        require_agent(req, params[_AGENT])
    elif not described.is_filtered and not caller_of(req).sees_all:
        raise AgentForbiddenError(
            f"cannot do {req.method} {req.path}: it concerns every agent, and"
            f" {caller_of(req).who} is for {', '.join(caller_of(req).agents)} only",
            cause="concerns every agent",
            hint="ask whoever has an admin key for one for every agent",
        )
