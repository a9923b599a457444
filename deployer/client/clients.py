"""The client: one method an operation of the REST API."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from urllib.parse import quote

from deployer.client import deploys, follows
from deployer.client.answers import Answer, unreadable
from deployer.client.archives import open_archive
from deployer.client.keys import AuditEntry, Key
from deployer.client.nouns import (
    Agent,
    Connection,
    Deployed,
    Deployment,
    Event,
    Health,
    Logs,
    Package,
    Plan,
    Ports,
    Release,
    Secret,
    Step,
    Why,
)
from deployer.client.sessions import Session
from deployer.errors import (
    AgentUnknownError,
    PackageUnknownError,
    SecretUnknownError,
    WaitTimeoutError,
)
from deployer.model import AGENT_NAME
from deployer.secret_references import SECRET_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

_Noun = TypeVar("_Noun", bound=Answer)

OnProgress = Callable[[Step], None]

DEPLOY_SECONDS: Final = 900.0
ACT_SECONDS: Final = 60.0
_LONGEST_ACT_SECONDS: Final = 120  # the server holds no request longer
_PAGE: Final = 100
_EVENTS: Final = 1000


class Client:
    """One deployment server, as seen by those who use it.

    Every method asks the server once, or as often as its sentence says, and raises what the
    server raised: the classes of `deployer.errors`, and ServerUnreachableError when there is no
    answer. Not for several threads at once; a client is cheap, make one for each.
    """

    def __init__(self, url: str, token: str | None = None, timeout_seconds: float = 30) -> None:
        """Prepare a client; nothing is sent yet.

        Args:
            url: Such as ``http://127.0.0.1:8080``.
            token: What STATE/token holds on the server; None for a server without tokens.
            timeout_seconds: For one answer, beyond the time that a method says it waits.
        """
        self._session = Session(url, token, timeout_seconds=timeout_seconds)

    @property
    def url(self) -> str:
        """The server's address."""
        return self._session.url

    def __enter__(self) -> Self:
        """Use the client until the block ends."""
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go of the connections."""
        self.close()

    def twin(self) -> Self:
        """Make another client of the same server, for another thread."""
        twin = type(self).__new__(type(self))
        twin._session = self._session.twin()  # noqa: SLF001 - our own
        return twin

    def close(self) -> None:
        """Let go of the connections."""
        self._session.close()

    # The server ----------------------------------------------------------------------------------

    def health(self) -> Health:
        """Ask whether the server is there; needs no token."""
        return Health.read(self._get("/health"))

    def server(self) -> Mapping[str, Any]:
        """Ask for capacity, limits and isolation level, as the server's document."""
        return self._get("/v1/server")

    def ports(self) -> Ports:
        """Ask for the agents' range: the ports that they hold, and those that others do."""
        return Ports.read(self._get("/v1/ports"))

    def events(self, *, agent: str | None = None, after: int = 0) -> list[Event]:
        """List what happened, the oldest first.

        Args:
            agent: Only what concerns this agent.
            after: The id of the last event that is known.
        """
        found: list[Event] = []
        while True:
            last = found[-1].id if found else after
            page = self._get("/v1/events", {"agent": agent, "limit": _EVENTS, "after": last})
            found += map(Event.read, _items(page, "events"))
            if len(page["events"]) < _EVENTS:
                return found

    def follow_events(
        self, *, agent: str | None = None, after: int | None = None
    ) -> Iterator[Event]:
        """Give each event as it happens, until the caller stops asking; none is lost.

        Args:
            agent: Only what concerns this agent.
            after: The id of the last event that is known; None: from now on.
        """
        return follows.events(self._session, {"agent": agent}, after)

    # Packages and deployments --------------------------------------------------------------------

    def has_package(self, checksum: str) -> bool:
        """Ask whether the server holds a package, by its MD5 or SHA-256."""
        try:
            # GET, as an answer to HEAD has no body to tell an unknown package from a wrong address.
            self._get(f"/v1/packages/{quote(checksum, safe='')}")
        except PackageUnknownError:
            return False
        return True

    def upload(
        self, package: Path | str | bytes, *, on_progress: OnProgress | None = None
    ) -> Package:
        """Send a package without deploying it.

        Args:
            package: A ZIP file, a directory to be packed, or a ZIP's bytes.
            on_progress: Is told of the step ``upload``, at each percent.
        """
        return deploys.upload(self._session, open_archive(package), on_progress)

    def add_signature(self, package: Path | str) -> Package:
        """Send the signature that lies beside a ZIP, for a package that the server has already.

        Raises:
            SignatureMissingError: There is none.
            SignatureInvalidError: The server does not trust it.
            NoTrustedKeysError: The server trusts nobody's.
            PackageUnknownError: The server does not have the package.
        """
        return deploys.add_signature(self._session, open_archive(package))

    def deploy(
        self,
        package: Path | str | bytes,
        *,
        strategy: str | None = None,
        force: bool = False,
        start: bool = True,
        wait_seconds: float = DEPLOY_SECONDS,
        on_progress: OnProgress | None = None,
    ) -> Deployed:
        """Put a package live and wait until it serves, in as many requests as it takes.

        Args:
            package: A ZIP file, a directory to be packed, or a ZIP's bytes.
            strategy: rehearse, replace or parallel; None: what the manifest says.
            force: Make a new release even when this very package is the current one.
            start: False: install and make current, but do not start.
            wait_seconds: For the whole deployment.
            on_progress: Is told of each change of a step, the upload's percents among them.

        Raises:
            WaitTimeoutError: It is not over after wait_seconds; it goes on.
            DeployerError: Why it failed, with cause, hint and evidence, by the server's own
                class; `deployment_of` gives the deployment with its steps.
        """
        options = {"strategy": strategy, "force": force, "start": start}
        options = {name: value for name, value in options.items() if value is not None}
        archive = open_archive(package)
        return deploys.deploy(self._session, archive, options, wait_seconds, on_progress)

    def plan(
        self,
        name: str,
        package: Path | str | bytes,
        strategy: str | None = None,
        *,
        on_progress: OnProgress | None = None,
    ) -> Plan:
        """Ask what deploying a package would do; it is uploaded if need be, and nothing is changed.

        Args:
            name: The agent that it is meant for.
            package: A ZIP file, a directory to be packed, or a ZIP's bytes.
            strategy: rehearse, replace or parallel; None: what the manifest says.
            on_progress: Is told of the step ``upload``, at each percent.
        """
        options = {} if strategy is None else {"strategy": strategy}
        path, archive = _agent_path(name, "plan"), open_archive(package)
        reply = deploys.name_package(
            self._session, path, archive, options, on_progress, hold_seconds=_LONGEST_ACT_SECONDS
        )
        return Plan.read(reply.document)

    def deployments(self, *, agent: str | None = None, limit: int = _PAGE) -> list[Deployment]:
        """List deployments, at most limit of them."""
        return self._list(Deployment, "/v1/deployments", "deployments", limit=limit, agent=agent)

    def deployment(self, deployment_id: str) -> Deployment:
        """Look at one deployment as it is now."""
        return Deployment.read(self._get(_deployment_path(deployment_id)))

    def follow_deployment(
        self,
        deployment_id: str,
        *,
        wait_seconds: float = DEPLOY_SECONDS,
        on_progress: OnProgress | None = None,
    ) -> Deployment:
        """Wait until a deployment is over, whether well or not.

        Raises:
            WaitTimeoutError: It is not over after wait_seconds; it goes on.
        """
        deployment = self.deployment(deployment_id)
        return deploys.follow(self._session, deployment, wait_seconds, on_progress)

    def cancel_deployment(self, deployment_id: str) -> Deployment:
        """Ask a deployment to end before it is activated."""
        return Deployment.read(self._post(f"{_deployment_path(deployment_id)}/cancel"))

    # Agents --------------------------------------------------------------------------------------

    def agents(self) -> list[Agent]:
        """List all agents."""
        return self._list(Agent, "/v1/agents", "agents")

    def agent(self, name: str) -> Agent:
        """Look at one agent."""
        return Agent.read(self._get(_agent_path(name)))

    def wait(
        self, name: str, *, status: str = "running", timeout_seconds: float = ACT_SECONDS
    ) -> Agent:
        """Wait until an agent has a status.

        Raises:
            WaitTimeoutError: It has another one after timeout_seconds.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            left = deadline - time.monotonic()
            hold = max(1, min(deploys.LONGEST_HOLD_SECONDS, int(left)))
            params = {"status": status, "timeout": hold}
            try:
                return Agent.read(self._get(_agent_path(name, "wait"), params, hold))
            except WaitTimeoutError:
                if left <= deploys.LONGEST_HOLD_SECONDS:
                    raise

    def start(self, name: str, *, wait_seconds: float = ACT_SECONDS) -> Connection:
        """Start an agent's current release and wait until it is healthy."""
        return self._act(name, "start", wait_seconds)

    def stop(self, name: str, *, wait_seconds: float = ACT_SECONDS) -> Connection:
        """Stop an agent and wait until its process is gone."""
        return self._act(name, "stop", wait_seconds)

    def restart(self, name: str, *, wait_seconds: float = ACT_SECONDS) -> Connection:
        """Stop an agent, start it again, and wait until it is healthy."""
        return self._act(name, "restart", wait_seconds)

    def kill(self, name: str, *, wait_seconds: float = ACT_SECONDS) -> Connection:
        """End an agent's process at once, whatever else is under way."""
        return self._act(name, "kill", wait_seconds)

    def remove(self, name: str, *, keep_data: bool = False) -> None:
        """Stop an agent and delete all of it, but for its data when that is to be kept."""
        params = {"keep_data": "true" if keep_data else "false"}
        self._session.call("DELETE", _agent_path(name), params=params, hold_seconds=ACT_SECONDS)

    def why(self, name: str) -> Why:
        """Ask why an agent is as it is."""
        return Why.read(self._get(_agent_path(name, "why")))

    def logs(
        self,
        name: str,
        *,
        stream: str = "stdout",
        tail: int = _PAGE,
        after: str | None = None,
        wait_seconds: float = 0,
    ) -> Logs:
        """Read the last lines of a log, or those that were written after some.

        Args:
            name: The agent's.
            stream: stdout, stderr or install.
            tail: How many lines.
            after: The `next` of former ones; then all that one release has written since.
            wait_seconds: How long to wait for such, at most 20.
        """
        hold = max(0, min(deploys.LONGEST_HOLD_SECONDS, int(wait_seconds)))
        params = {"stream": stream, "tail": tail, "after": after, "wait": hold}
        return Logs.read(self._get(_agent_path(name, "logs"), params, hold))

    def follow_logs(
        self,
        name: str,
        *,
        stream: str = "stdout",
        tail: int = _PAGE,
        on_note: Callable[[str], None] | None = None,
    ) -> Iterator[str]:
        """Give the last lines of a log and then each new one, from release to release.

        No line is lost and none comes twice, whatever restarts, also the server. Ends when the
        agent is removed, or when the caller stops asking.

        Args:
            name: The agent's.
            stream: stdout, stderr or install.
            tail: How many lines to begin with.
            on_note: Is told in words when another release goes on, and where lines may be missing.
        """
        params = {"stream": stream, "tail": tail}
        for part in follows.logs(self._session, _agent_path(name, "logs"), params):
            if part.note and on_note is not None:
                on_note(part.note)
            yield from part.lines

    # Releases ------------------------------------------------------------------------------------

    def releases(self, name: str) -> list[Release]:
        """List an agent's releases."""
        return self._list(Release, _agent_path(name, "releases"), "releases")

    def rollback(
        self,
        name: str,
        *,
        to: int | None = None,
        wait_seconds: float = DEPLOY_SECONDS,
        on_progress: OnProgress | None = None,
    ) -> Deployed:
        """Put an earlier release live again and wait until it serves.

        Args:
            name: The agent's.
            to: The release's number; None: the one before the current.
            wait_seconds: For the whole deployment.
            on_progress: Is told of each change of a step.

        Raises:
            WaitTimeoutError: It is not over after wait_seconds; it goes on.
            DeployerError: Why it failed, as `deploy` raises it.
        """
        media = {} if to is None else {"to": to}
        reply = self._session.call("POST", _agent_path(name, "rollback"), media=media)
        deployment = Deployment.read(reply.document)
        return deploys.outcome(deploys.follow(self._session, deployment, wait_seconds, on_progress))

    def delete_release(self, name: str, number: int) -> None:
        """Discard a release that is neither current nor needed to go back."""
        self._session.call("DELETE", f"{_agent_path(name, 'releases')}/{int(number)}")

    # Keys and the audit --------------------------------------------------------------------------

    def create_key(
        self,
        name: str,
        *,
        scope: str = "read",
        agents: Sequence[str] = ("*",),
        expires_in_days: float | None = None,
    ) -> Key:
        """Make an API key; its text is in the answer, this once.

        Args:
            name: What it is for.
            scope: read, operate, deploy or admin; each includes those before it.
            agents: Patterns of the agents for which that holds.
            expires_in_days: How long it lasts; None: until it is revoked.

        Raises:
            ScopeMissingError: It takes an admin key to make one.
        """
        media: dict[str, Any] = {"name": name, "scope": scope, "agents": list(agents)}
        if expires_in_days is not None:
            media["expires_in_days"] = expires_in_days
        return Key.read(self._session.call("POST", "/v1/keys", media=media).document)

    def keys(self) -> list[Key]:
        """List API keys, without their texts."""
        return [Key.read(each) for each in _items(self._get("/v1/keys"), "keys")]

    def revoke_key(self, key_id: str) -> None:
        """Let nobody in with a key from now on.

        Raises:
            KeyUnknownError: There is none of this id.
        """
        self._session.call("DELETE", f"/v1/keys/{quote(key_id, safe='')}")

    def audit(
        self, *, agent: str | None = None, who: str | None = None, limit: int = _PAGE
    ) -> list[AuditEntry]:
        """List who did what, the newest first, at most limit entries.

        Args:
            agent: Only what concerns this agent.
            who: Only what they did, such as ``key:ID``.
            limit: How many.
        """
        return self._list(AuditEntry, "/v1/audit", "entries", limit=limit, agent=agent, who=who)

    # Secrets -------------------------------------------------------------------------------------

    def secrets(self) -> list[Secret]:
        """List secrets by name; nobody can read their values."""
        return self._list(Secret, "/v1/secrets", "secrets")

    def set_secret(self, name: str, value: str, *, agents: Sequence[str] | None = None) -> Secret:
        """Set a secret, new or not; agents get it at their next start.

        Args:
            name: What manifests call it, in ``${secret:NAME}``.
            value: Its value.
            agents: Patterns of the agents that may use it; None: all.
        """
        media: dict[str, Any] = {"value": value}
        if agents is not None:
            media["agents"] = list(agents)
        return Secret.read(self._session.call("PUT", _secret_path(name), media=media).document)

    def remove_secret(self, name: str) -> None:
        """Remove a secret; agents that refer to it do not start without it."""
        self._session.call("DELETE", _secret_path(name))

    # How -----------------------------------------------------------------------------------------

    def _get(
        self, path: str, params: Mapping[str, Any] | None = None, hold_seconds: float = 0
    ) -> Mapping[str, Any]:
        return self._session.call("GET", path, params=params, hold_seconds=hold_seconds).document

    def _post(self, path: str) -> Mapping[str, Any]:
        return self._session.call("POST", path).document

    def _act(self, name: str, act: str, wait_seconds: float) -> Connection:
        hold = max(0, min(_LONGEST_ACT_SECONDS, int(wait_seconds)))
        reply = self._session.call(
            "POST", _agent_path(name, act), params={"wait": hold}, hold_seconds=hold
        )
        return Connection.read(reply.document)

    def _list(
        self, noun: type[_Noun], path: str, member: str, *, limit: int | None = None, **params: Any
    ) -> list[_Noun]:
        """Read a list page by page, until its end or limit."""
        found: list[_Noun] = []
        cursor = None
        while limit is None or len(found) < limit:
            size = _PAGE if limit is None else min(_PAGE, limit - len(found))
            page = self._get(path, {**params, "limit": size, "cursor": cursor})
            found += map(noun.read, _items(page, member))
            cursor = page.get("next")
            if cursor is None:
                break
        return found


def _items(page: Mapping[str, Any], member: str) -> list[Any]:
    items = page.get(member)
    if not isinstance(items, list):
        raise unreadable(f"list of {member}", f"it holds {', '.join(page) or 'nothing'}")
    return items


def _agent_path(name: str, *below: str) -> str:
    """Make an agent's path; a name like ``..`` would name another one."""
    if not AGENT_NAME.fullmatch(name):
        raise AgentUnknownError(
            f"cannot find agent {name!r}: no agent can have this name",
            cause=f"{name!r} is no agent's name",
        )
    return "/".join(("/v1/agents", name, *below))


def _secret_path(name: str) -> str:
    if not SECRET_NAME.fullmatch(name):
        raise SecretUnknownError(
            f"cannot use {name!r} as the name of a secret: it must begin with a letter and have at"
            " most 63 letters, digits, '.', '_' or '-'",
            cause="no secret can have this name",
        )
    return f"/v1/secrets/{name}"


def _deployment_path(deployment_id: str) -> str:
    return f"/v1/deployments/{quote(deployment_id, safe='')}"
