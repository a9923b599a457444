"""Secrets of agents: set once, kept encrypted, and given to agents as they are launched.

A value leaves this module in three ways: in the variables of a launch policy, as what `redact`
takes out of an agent's own words, and in no other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from deployer import launcher
from deployer.agent_patterns import EVERY_AGENT, is_meant
from deployer.ciphers import Cipher
from deployer.errors import (
    DeployerError,
    Problem,
    ReleaseUnknownError,
    SecretsKeyError,
    SecretUnavailableError,
    SecretUnreadableError,
)
from deployer.event_kinds import EventKind
from deployer.manifest import Manifest
from deployer.model import Release, agent_of_program
from deployer.redactions import Redaction
from deployer.secret_references import expand, recover, secrets_in
from deployer.state_dir import StateDir
from deployer.store import Store, now
from deployer.store.agent_secrets import SecretRow

_FORMER_KEPT: Final = 100
"""How many former values of a secret are hidden: each is decrypted for every page of a log."""


@dataclass(frozen=True, slots=True)
class Secret:
    """What may be known of a secret.

    Attributes:
        name: Unique on this server.
        agents: Patterns of the agents that may use it.
        created_at: When it was first set.
        changed_at: When it was last set.
        problem: Why its value cannot be read; empty when it can.
    """

    name: str
    agents: tuple[str, ...]
    created_at: datetime
    changed_at: datetime
    problem: str


class AgentSecrets:
    """The secrets of one server."""

    def __init__(self, store: Store, state: StateDir) -> None:
        """Keep rows in store, and the key in the state directory."""
        self._store = store
        self._state = state
        self._cipher = Cipher(state.secrets_key, state.tmp)

    def all(self) -> tuple[Secret, ...]:
        """List the secrets, by name."""
        return tuple(self._describe(row) for row in self._store.secrets.all())

    def put(
        self, name: str, value: str, agents: Sequence[str] = EVERY_AGENT
    ) -> tuple[Secret, bool]:
        """Set a secret, new or not; agents that run keep the value that they were started with.

        Args:
            name: Its name.
            value: Its value.
            agents: Patterns of the agents that may use it.

        Returns:
            The secret, and whether it is new.

        Raises:
            SecretsKeyError: The key that the other secrets are encrypted with cannot be used.
        """
        if not self._store.secrets.all():
            # Only then: a new key beside secrets of a lost one would hide that it was lost.
            self._cipher.make_key()
        known = self._store.secrets.find(name)
        moment = now()
        row = SecretRow(
            name=name,
            agents=tuple(agents),
            key_id=self._cipher.key_id(),
            sealed=self._cipher.seal(value, [name, *agents]),
            created_at=moment if known is None else known.created_at,
            changed_at=moment,
        )
        with self._store.transaction():
            self._store.secrets.put(row, keep_former=not self._is_same(known, value, agents))
            kind, what = EventKind.SECRET_CHANGED, "changed"
            if known is None:
                kind, what = EventKind.SECRET_SET, "set"
            self._store.events.add(kind, "", f"secret {name} was {what}")
            self.forget_former()
        self._store.keep_copy(self._state.database_copy)
        return self._describe(row), known is None

    def remove(self, name: str) -> None:
        """Give a secret to nobody any more; agents that run keep it until they end.

        Raises:
            SecretUnknownError: There is none of this name.
        """
        with self._store.transaction():
            self._store.secrets.remove(name)
            self._store.events.add(EventKind.SECRET_REMOVED, "", f"secret {name} was removed")
            self.forget_former()
        self._store.keep_copy(self._state.database_copy)

    def forget_former(self) -> None:
        """Forget what secrets were before, as far as no release can have written it into a log."""
        with self._store.transaction():
            used = {
                name for release in self._store.releases.all() for name in _users(release.manifest)
            }
            for name in self._store.secrets.names_of_former():
                self._store.secrets.forget_former(name, kept=_FORMER_KEPT if name in used else 0)

    def find_problems(self, agent: str, manifest: str) -> tuple[Problem, ...]:
        """Say which of the secrets that a manifest refers to its agent cannot be given, and why.

        Args:
            agent: Whose manifest it is.
            manifest: As JSON text.
        """
        problems: list[Problem] = []
        for name, variables in _users(manifest).items():
            row = self._store.secrets.find(name)
            if row is None:
                message = f"secret {name} is not there: set it with `atoll-deployer secrets set`"
            elif why := self._describe(row).problem:
                message = f"secret {name} cannot be read: {why}"
            elif not is_meant(agent, row.agents):
                message = f"secret {name} is for {', '.join(row.agents)}, not for {agent}"
            else:
                continue
            problems.append(Problem(f"env.{', '.join(variables)}", message))
        return tuple(problems)

    def require(self, agent: str, manifest: str) -> None:
        """Make sure that an agent can be given every secret that its manifest refers to.

        Raises:
            SecretUnavailableError: It cannot; every such secret is named.
        """
        problems = self.find_problems(agent, manifest)
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise SecretUnavailableError(
                f"cannot start {agent}: {problems[0]}{more}",
                cause=problems[0].message + more,
                hint="set what is listed, then try again; nothing was stopped",
                problems=problems,
            )

    def variables_of(self, release: Release) -> dict[str, str]:
        """Give the variables of a release's manifest with the secrets put in.

        Raises:
            SecretUnavailableError: A secret is not to be had; every such is named.
        """
        self.require(release.agent, release.manifest)
        values = self._values(release)
        variables = Manifest.from_json(release.manifest).env
        return {name: expand(text, values) for name, text in variables.items()}

    def has_changed(self, release: Release) -> bool:
        """Tell whether a release that runs was started with other secrets than it would be now."""
        templates = _templates(release.manifest)
        if not templates:
            return False
        running = self._running_variables(release)
        if running is None:
            return False
        values = self._values(release)
        return any(
            not secrets_in(text) <= values.keys() or running.get(name) != expand(text, values)
            for name, text in templates.items()
        )

    def redact(self, release: Release, lines: Sequence[str]) -> list[str]:
        """Take a release's secrets out of what it wrote, so that they may be shown.

        It hides what slipped out, in the forms that Python and JSON give it; an agent that means to
        tell its secrets finds a form that nobody looks for.

        Args:
            release: Who wrote it.
            lines: What it wrote, as `deployer.logs` gives it.
        """
        if not lines or not _templates(release.manifest):
            return list(lines)
        return Redaction(self._known(release)).apply(lines)

    def redact_program(self, program: str, lines: Sequence[str]) -> list[str]:
        """Do the same for what a supervisord program wrote; others than agents' have no secrets."""
        release = self._release_of(program)
        return list(lines) if release is None else self.redact(release, lines)

    def hides(self, program: str) -> bool:
        """Tell whether a supervisord program was given secrets."""
        release = self._release_of(program)
        return release is not None and bool(_templates(release.manifest))

    def find_problem(self) -> str:
        """Say what keeps secrets from being read, without naming any; empty when nothing does."""
        rows = self._store.secrets.all()
        unreadable = [row for row in rows if self._describe(row).problem]
        if not unreadable:
            return ""
        why = self._cipher.find_problem() or "encrypted with another key, or damaged"
        return f"{len(unreadable)} of {len(rows)} cannot be read: {why}"

    def _is_same(self, row: SecretRow | None, value: str, agents: Sequence[str]) -> bool:
        """Tell whether a secret is set to what it is: many do that every hour."""
        if row is None or row.agents != tuple(agents):
            return False
        try:
            return self._open(row) == value
        except (SecretsKeyError, SecretUnreadableError):
            return False

    def _describe(self, row: SecretRow) -> Secret:
        problem = ""
        try:
            self._open(row)
        except (SecretsKeyError, SecretUnreadableError) as error:
            problem = error.cause
        return Secret(row.name, row.agents, row.created_at, row.changed_at, problem)

    def _open(self, row: SecretRow) -> str:
        return self._cipher.open(row.sealed, [row.name, *row.agents], key_id=row.key_id)

    def _values(self, release: Release) -> dict[str, str]:
        """Read the secrets that a release refers to, as far as it may be given them."""
        rows = [self._store.secrets.find(name) for name in _users(release.manifest)]
        return dict(self._readable(release, [row for row in rows if row is not None]))

    def _readable(self, release: Release, rows: Sequence[SecretRow]) -> Iterator[tuple[str, str]]:
        """Read those secrets that a release may be given and that can be read."""
        for row in rows:
            if is_meant(release.agent, row.agents):
                with contextlib.suppress(SecretsKeyError, SecretUnreadableError):
                    yield row.name, self._open(row)

    def _release_of(self, program: str) -> Release | None:
        named = agent_of_program(program)
        if named is None:
            return None
        with contextlib.suppress(ReleaseUnknownError):
            return self._store.releases.get(*named)
        return None

    def _known(self, release: Release) -> Iterator[tuple[str, str]]:
        """Give the secrets that a release may have written down, today's or not.

        Its policy has those that it was started with, also where the database was lost.
        """
        for name in _users(release.manifest):
            yield from self._readable(release, self._store.secrets.former(name))
        yield from self._values(release).items()
        running = self._running_variables(release) or {}
        for name, text in _templates(release.manifest).items():
            yield ", ".join(sorted(secrets_in(text))), recover(text, running.get(name, ""))

    def _running_variables(self, release: Release) -> dict[str, str] | None:
        """Read what a release was last launched with; None when it was not."""
        try:
            policy = launcher.read_policy(self._state.policy(release.program).read_bytes())
        except (OSError, launcher.LaunchError):
            return None
        return {
            name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape")
            for name, value in policy.variables.items()
        }


@lru_cache(maxsize=4096)
def _templates(manifest: str) -> Mapping[str, str]:
    """Give the variables of a manifest that refer to secrets."""
    try:
        variables = Manifest.from_json(manifest).env
    except DeployerError:  # damaged: its agent is in quarantine, and nothing is put in
        return {}
    return {name: text for name, text in variables.items() if secrets_in(text)}


@lru_cache(maxsize=4096)
def _users(manifest: str) -> Mapping[str, tuple[str, ...]]:
    """Give the secrets that a manifest refers to, by name, with the variables that do."""
    users: dict[str, list[str]] = {}
    for variable, text in _templates(manifest).items():
        for name in secrets_in(text):
            users.setdefault(name, []).append(variable)
    return {name: tuple(users[name]) for name in sorted(users)}
