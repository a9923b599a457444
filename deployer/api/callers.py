"""Who calls: the holder of a key, a person with a session, a certificate's subject, or anybody."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Final

import falcon

from deployer.api.proxies import IS_AGENT, SUBJECT, UNIX
from deployer.api.throttles import Throttle, site_of
from deployer.certificates import CertificateRule, caller_of
from deployer.errors import (
    AgentCallerError,
    AuthenticationRequiredError,
    KeyUnknownError,
    TooManyAttemptsError,
)
from deployer.keys import Caller, Key, Scope, digest_of
from deployer.store import Store, now

COOKIE: Final = "atoll_session"
PROOF: Final = "X-Session-Proof"
"""The header in which a page of ours shows that it is one."""

SECURE_COOKIE: Final = f"__Host-{COOKIE}"
"""Its name over HTTPS: browsers give such a one to no plain address, and take it from none."""

SESSION_SECONDS: Final = 12 * 3600
_USED_SECONDS: Final = 60.0
_KEY_CONTEXT: Final = b"atoll-deployer session "
_PROOF_CONTEXT: Final = b"atoll-deployer proof "
_log: Final = logging.getLogger(__name__)


class Callers:
    """Tells who sends a request."""

    def __init__(
        self,
        store: Store,
        *,
        asks_for_keys: bool,
        local_text: Callable[[], str],
        certificates: tuple[CertificateRule, ...],
        throttle: Throttle,
    ) -> None:
        """Know the keys in store.

        Args:
            store: Where keys are kept.
            asks_for_keys: False: whoever gets here may do everything.
            local_text: Gives the key in the state directory; sessions are signed with it.
            certificates: What the holders of client certificates may do; the first that fits.
            throttle: Slows wrong keys down.
        """
        self._store = store
        self._asks_for_keys = asks_for_keys
        self._local_text = local_text
        self._certificates = certificates
        self._throttle = throttle
        self._used: dict[str, float] = {}

    @property
    def asks_for_keys(self) -> bool:
        """Whether somebody must be known to get in."""
        return self._asks_for_keys

    def identify(self, req: falcon.Request, *, is_page: bool) -> Caller:
        """Tell who sends a request.

        A key that is shown decides alone: whoever shows a wrong one is not let in for something
        else. A right one is looked at before anything is counted, so nobody is locked out by what
        others try, from the same address or another one.

        Args:
            req: The request, its environment resolved by `deployer.api.proxies`.
            is_page: Whether it is for a page: elsewhere a session lets nobody in without its proof.

        Raises:
            AuthenticationRequiredError: Nothing was shown, or nothing that lets anybody in.
            TooManyAttemptsError: The same, and too often.
            AgentCallerError: An agent asks, without a key of its own.
        """
        if not self._asks_for_keys:
            _refuse_agents(req)
            is_unix = req.remote_addr == UNIX
            return Caller(who="unix" if is_unix else "none", scope=Scope.ADMIN)
        texts = list(_texts(req.get_header("Authorization"), req.get_header("X-API-Key")))
        if texts:
            return self.holder_of(texts, req.remote_addr or "")
        caller = self._of_session(req, needs_proof=not is_page)
        if caller is None and (subject := req.env.get(SUBJECT)):
            caller = caller_of(subject, self._certificates)
        if caller is None:
            raise _refusal("no key was shown")
        return caller

    def recheck(self, req: falcon.Request, *, is_page: bool) -> None:
        """Make sure that who sent a request a while ago would still be let in, as the same.

        Args:
            req: As `identify` saw it.
            is_page: As it was told.

        Raises:
            AuthenticationRequiredError: Their key was revoked or has expired meanwhile.
        """
        if self.identify(req, is_page=is_page) != req.context.caller:
            raise _refusal("what was shown stands for something else by now")

    def holder_of(self, texts: Iterable[str], address: str) -> Caller:
        """Tell who holds a key with one of these texts.

        Args:
            texts: What somebody shows.
            address: Where it comes from.

        Raises:
            AuthenticationRequiredError: None of them is a key's, or it has expired.
            TooManyAttemptsError: The same, and too often from this address.
        """
        for text in texts:
            key = self._store.keys.find(digest_of(text))
            if key is not None:
                if key.expires_at is not None and key.has_expired(now()):
                    raise _refusal(f"the key {key.id} has expired")
                return _holder(key)
        seconds = self._throttle.count(address)
        if seconds:
            error = TooManyAttemptsError(
                f"cannot let you in: wrong keys came from {address} one after another;"
                f" try again in {seconds} s",
                cause="too many wrong keys",
                hint="the right key is let in at once",
            )
            error.retry_after_seconds = seconds
            raise error
        raise _refusal("the key that was shown is none")

    def remembers(self, authorization: str, api_key: str) -> bool:
        """Tell whether who shows these sees all agents, and is let in without any look or write.

        Args:
            authorization: The header of this name; may be empty.
            api_key: The header X-API-Key; the same.
        """
        texts = list(_texts(authorization, api_key))
        key = self._store.keys.remembered(digest_of(texts[0])) if len(texts) == 1 else None
        return (
            key is not None
            and (key.expires_at is None or not key.has_expired(now()))
            and "*" in key.agents
            and self._is_use_noted(key.id, time.monotonic())
        )

    def _is_use_noted(self, key_id: str, moment: float) -> bool:
        last = self._used.get(key_id)
        return last is not None and moment - last < _USED_SECONDS

    def note_use(self, caller: Caller) -> None:
        """Write down that a key is in use, once a minute: a look must not cost a write."""
        kind, _, key_id = caller.who.partition(":")
        moment = time.monotonic()
        if kind != "key" or self._is_use_noted(key_id, moment):
            return
        self._used[key_id] = moment
        try:
            self._store.keys.set_used(key_id)
        except sqlite3.Error:  # a full disk keeps nobody out
            _log.warning("cannot write down that key %s is in use", key_id, exc_info=True)

    def new_session(self, caller: Caller, address: str) -> str:
        """Make the value of a session cookie: whose it is and its end, signed.

        It counts only where it comes from the address that it was made for: an agent that a browser
        on another machine shows it to (cookies ignore ports) cannot use it.

        With the key in the state directory, for who reads the database alone must not be able to
        sign. It ends with its key, whose id is in it and never given again.

        Args:
            caller: The holder of a key.
            address: Where they log in from.
        """
        end = now() + timedelta(seconds=SESSION_SECONDS)
        until = int(min(end, caller.expires_at or end).timestamp())
        key_id = caller.who.removeprefix("key:")
        return f"{key_id}.{until}.{self._sign(key_id, str(until), address)}"

    def proof_of(self, session: str) -> str:
        """Make what must be shown beside a session wherever it is not for a page.

        Browsers show a cookie to every port of a host, so every agent on this machine may get to
        see one. The proof stays in what a browser keeps for this very port.

        Args:
            session: The value of a session cookie.
        """
        return self._digest(_PROOF_CONTEXT + session.encode("utf-8", "replace"))

    def _of_session(self, req: falcon.Request, *, needs_proof: bool) -> Caller | None:
        shown = req.get_header(PROOF) or ""
        for value in req.get_cookie_values(cookie_name(req)) or ():
            if needs_proof and not (shown and _are_equal(shown, self.proof_of(value))):
                continue
            key_id, _, rest = value.partition(".")
            end, _, signature = rest.partition(".")
            ours = self._sign(key_id, end, req.remote_addr or "")
            # Only what we signed is read as a number.
            if _are_equal(signature, ours) and int(end) > time.time():
                _refuse_agents(req)
                with contextlib.suppress(KeyUnknownError):
                    return _holder(self._store.keys.get(key_id))
        return None

    def _sign(self, key_id: str, end: str, address: str) -> str:
        message = f"{key_id} {end} {site_of(address)}"
        return self._digest(_KEY_CONTEXT + message.encode("utf-8", "replace"))

    def _digest(self, message: bytes) -> str:
        return hmac.new(self._local_text().encode(), message, hashlib.sha256).hexdigest()


def cookie_name(req: falcon.Request) -> str:
    """Give the name of the cookie that holds a session."""
    return SECURE_COOKIE if req.scheme == "https" else COOKIE


def _refuse_agents(req: falcon.Request) -> None:
    """Let no agent in without a key of its own: a session that it shows is somebody else's.

    Raises:
        AgentCallerError: The process at the other end is an agent's, or has left too soon to tell.
    """
    if req.env.get(IS_AGENT):
        raise AgentCallerError(
            f"cannot do {req.method} {req.path[:200]}: an agent asks for it, without a key",
            cause="agents need a key",
            hint="give the agent a key as a secret, if it is meant to do this",
        )


def _texts(authorization: str | None, api_key: str | None) -> Iterable[str]:
    """Give what a request shows as a key, in its headers; an address is logged everywhere."""
    scheme, _, credentials = (authorization or "").partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        yield credentials.strip()
    if api_key:
        yield api_key


def _holder(key: Key) -> Caller:
    return Caller(
        who=f"key:{key.id}",
        name=key.name,
        scope=key.scope,
        agents=key.agents,
        expires_at=key.expires_at,
    )


def _refusal(why: str) -> AuthenticationRequiredError:
    return AuthenticationRequiredError(
        f"cannot let you in: {why}",
        cause=why,
        hint="send `Authorization: Bearer KEY`; the first key lies in the state directory's"
        " file `token` on the server's machine, and makes others",
    )


def _are_equal(text: str, secret: str) -> bool:
    """Compare in constant time; as bytes, for compare_digest takes no text beyond ASCII."""
    return hmac.compare_digest(text.encode("utf-8", "replace"), secret.encode())
