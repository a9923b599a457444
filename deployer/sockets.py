"""Listening sockets that supervisord holds, for releases that take theirs over.

As long as a socket is held, its port takes connections whether or not a process of the agent lives:
they wait until one accepts them. So whoever looks at such a port sees supervisord, and a connection
tells nothing about the agent.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import cached_property
from typing import Final

from deployer import health, ports
from deployer.errors import StartError, SupervisordRefusedError
from deployer.launches import read_manifest
from deployer.model import Answer, HealthCheck, Release
from deployer.parts import Parts

_LOOK_SECONDS: Final = 0.02


class PortTakenError(StartError):
    """Somebody else has the port after all: another one may do."""


class Sockets:
    """The held sockets of one server's agents, each known by its port."""

    def __init__(self, parts: Parts) -> None:
        """Work with the parts of one server."""
        self._settings = parts.settings
        self._store = parts.store
        self._supervisord = parts.supervisord

    @cached_property
    def host(self) -> str:
        """The numeric address where agents listen: supervisord must not look names up."""
        return ports.numeric(self._settings.bind_address)

    def is_wanted_by(self, release: Release) -> bool:
        """Tell whether a release asks to take its socket over."""
        return read_manifest(release.manifest).deployment.socket == "inherit"

    def is_given_to(self, release: Release) -> bool:
        """Tell whether a release asks for its socket and supervisord can hold one."""
        return self._supervisord.holds_sockets and self.is_wanted_by(release)

    def held_port(self, release: Release) -> int | None:
        """Give the port that an agent's clients know, if its socket is held for a release."""
        agent = self._store.agents.find(release.agent)
        if agent is None or agent.port is None or not self.is_given_to(release):
            return None
        return agent.port if self._is_held(agent.port) else None

    def hold(self, release: Release, port: int) -> str:
        """Have supervisord listen for a release that takes its socket over.

        Returns:
            The numeric host of the socket that is given; empty when the release binds its port.

        Raises:
            PortTakenError: Another process listens there.
        """
        if not self.is_given_to(release):
            return ""
        try:
            self._supervisord.hold(self.host, port)
        except SupervisordRefusedError as error:
            holder = ports.describe_holder(port)
            cause = f"port {port} is held by {holder}" if holder else error.cause
            raise PortTakenError(
                f"cannot start {release.agent}: {cause}: {error.detail}", cause=cause
            ) from error
        return self.host

    def let_go(self, port: int | None) -> None:
        """Close the socket held at a port, if there is one and no process uses it."""
        if port is None or not self._supervisord.holds_sockets:
            return
        if not ports.can_bind(port, host=self.host):  # else nobody listens there
            self._supervisord.let_go(self.host, port)

    def ask(
        self, release: Release, port: int, question: HealthCheck, still_alive: Callable[[], bool]
    ) -> Answer:
        """Ask a release once how it is, and do not wait for the answer of a dead one.

        Its socket would keep the question for the next process.

        Args:
            release: Whom.
            port: Where.
            question: What, and how long to wait.
            still_alive: Tells whether an answer may still come.
        """
        if not self.is_given_to(release):
            return health.check(self._settings.bind_address, port, question)
        future: Future[Answer] = Future()

        def ask() -> None:
            try:
                future.set_result(self._ask(port, question))
            except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                future.set_exception(error)

        threading.Thread(target=ask, name="question", daemon=True).start()
        began = time.monotonic()
        while not wait((future,), timeout=_LOOK_SECONDS).done:
            if not still_alive():
                seconds = time.monotonic() - began
                return Answer(healthy=False, detail="refused", seconds=seconds)
        return future.result()

    def is_ignored_by(self, release: Release, port: int) -> bool:
        """Tell whether a living release was given a socket and leaves clients waiting in it."""
        return self.is_given_to(release) and ports.count_waiting(port) > 0

    def _ask(self, port: int, question: HealthCheck) -> Answer:
        answer = health.check(self._settings.bind_address, port, question)
        if question.path is not None or not answer.healthy:
            return answer
        # Connected is not accepted: look until everybody who waits has been let in.
        deadline = time.monotonic() + question.timeout_seconds
        before = ports.count_waiting(port)
        while before and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
            waiting = ports.count_waiting(port)
            if waiting < before:
                return answer
            before = waiting
        if not before:
            return answer
        seconds = question.timeout_seconds
        return Answer(healthy=False, detail=f"timed out after {seconds:g} s", seconds=seconds)

    def _is_held(self, port: int) -> bool:
        if not self._supervisord.holds_sockets:
            return False
        return (self.host, port) in self._supervisord.snapshot().sockets
