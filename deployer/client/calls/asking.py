"""What all calls are made of: a session, pages of lists, and paths that lead nowhere else."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

from deployer.client.answers import Answer, unreadable
from deployer.errors import (
    AgentUnknownError,
    DeployerError,
    Kind,
    SecretUnknownError,
    WaitTimeoutError,
)
from deployer.secret_references import SECRET_NAME
from deployer.vocabulary import AGENT_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deployer.client.sessions import Session

_Noun = TypeVar("_Noun", bound=Answer)

DEPLOY_SECONDS: Final = 900.0
ACT_SECONDS: Final = 60.0
LONGEST_HOLD_SECONDS: Final = 120
"""The server holds no request longer."""

REMOVAL_SECONDS: Final = 180.0
"""The server itself waits 120 s for whoever is at work on the agent, and stops it after that."""

PAGE: Final = 100
_ACCEPTED: Final = 202
_POLL_SECONDS: Final = 0.5


class Asking:
    """Asks one server."""

    _session: Session

    def _get(
        self, path: str, params: Mapping[str, Any] | None = None, hold_seconds: float = 0
    ) -> Mapping[str, Any]:
        return self._session.call("GET", path, params=params, hold_seconds=hold_seconds).document

    def _act(
        self,
        path: str,
        *,
        media: Any = None,
        wait_seconds: float | None = None,
        key: str | None = None,
    ) -> Mapping[str, Any]:
        """Have something done once, however often the request has to be sent.

        Args:
            path: Of what is done.
            media: An object to send as JSON.
            wait_seconds: How long the server may hold the request; None: as long as it likes, or
                not at all where it holds none.
            key: The Idempotency-Key; None: a new one.
        """
        hold = max(0, min(LONGEST_HOLD_SECONDS, int(wait_seconds or 0)))
        reply = self._session.call(
            "POST",
            path,
            params=None if wait_seconds is None else {"wait": hold},
            media=media,
            hold_seconds=hold,
            idempotency_key=key or new_key(),
        )
        return reply.document

    def _remove(
        self, path: str, what: str, wait_seconds: float, params: Mapping[str, Any] | None = None
    ) -> None:
        """Delete something, and wait until it is gone.

        Args:
            path: Of what is deleted; 404 there says that it is gone.
            what: The same in words.
            wait_seconds: How long to wait.
            params: Of the query.

        Raises:
            WaitTimeoutError: It is still there after wait_seconds.
        """
        deadline = time.monotonic() + wait_seconds
        hold = max(0, min(int(ACT_SECONDS), int(wait_seconds)))
        query = {**(params or {}), "wait": hold}
        reply = self._session.call("DELETE", path, params=query, hold_seconds=hold)
        if reply.status != _ACCEPTED:
            return
        while self._is_there(path):
            left = deadline - time.monotonic()
            if left <= 0:
                raise WaitTimeoutError(
                    f"cannot say that {what} is removed: after {wait_seconds:g} s it is still"
                    " there",
                    cause=f"{what} is still there after {wait_seconds:g} s",
                    hint="the removal goes on, unless somebody else is at work on the agent: look"
                    " again, or ask again",
                )
            time.sleep(min(_POLL_SECONDS, left))

    def _is_there(self, path: str) -> bool:
        try:
            self._get(path)
        except DeployerError as error:
            if error.kind is Kind.UNKNOWN:
                return False
            raise
        return True

    def _list(
        self, noun: type[_Noun], path: str, member: str, *, limit: int | None = None, **params: Any
    ) -> list[_Noun]:
        """Read a list page by page, until its end or limit."""
        found: list[_Noun] = []
        cursor = None
        while limit is None or len(found) < limit:
            size = PAGE if limit is None else min(PAGE, limit - len(found))
            page = self._get(path, {**params, "limit": size, "cursor": cursor})
            found += map(noun.read, items(page, member))
            cursor = page.get("next")
            if cursor is None:
                break
        return found


def new_key() -> str:
    """Make an Idempotency-Key, which names one thing to be done."""
    return str(uuid.uuid4())


def items(page: Mapping[str, Any], member: str) -> list[Any]:
    """Give the items of a page.

    Raises:
        ServerUnreachableError: It is none.
    """
    found = page.get(member)
    if not isinstance(found, list):
        raise unreadable(f"list of {member}", f"it holds {', '.join(page) or 'nothing'}")
    return found


def path_of(*parts: str) -> str:
    """Make a path out of parts, of which none leads out of its place."""
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def agent_path(name: str, *below: str) -> str:
    """Make an agent's path; a name like ``..`` would name another one.

    Raises:
        AgentUnknownError: No agent can have this name.
    """
    if not AGENT_NAME.fullmatch(name):
        raise AgentUnknownError(
            f"cannot find agent {name!r}: no agent can have this name",
            cause=f"{name!r} is no agent's name",
        )
    return path_of("agents", name, *below)


def secret_path(name: str) -> str:
    """Make a secret's path.

    Raises:
        SecretUnknownError: No secret can have this name.
    """
    if not SECRET_NAME.fullmatch(name):
        raise SecretUnknownError(
            f"cannot use {name!r} as the name of a secret: it must begin with a letter and have at"
            " most 63 letters, digits, '.', '_' or '-'",
            cause="no secret can have this name",
        )
    return path_of("secrets", name)
