"""Whether a release that was started serves: asked until that is sure, and why it does not."""

from __future__ import annotations

import time
from typing import Final

from deployer import causes, health, ports
from deployer.diagnoses import Diagnoses
from deployer.errors import DeploymentCanceledError, StartError
from deployer.journals import Watcher
from deployer.launches import health_check_of, read_manifest
from deployer.model import Answer, Release, Run
from deployer.parts import Parts
from deployer.processes import is_running
from deployer.run_logs import RunLog
from deployer.sockets import PortTakenError, Sockets
from deployer.store import now

_AFTER_DEATH_SECONDS: Final = 5.0
_DYING_SECONDS: Final = 0.25
_MOST_EXTENSIONS: Final = 6
_SOAK_INTERVAL_SECONDS: Final = 0.25


class Proofs:
    """Asks runs whether they serve, and makes errors of what they do instead."""

    def __init__(self, parts: Parts, sockets: Sockets, diagnoses: Diagnoses) -> None:
        """Work with the parts of one server."""
        self._settings = parts.settings
        self._processes = parts.processes
        self._readings = parts.readings
        self._sockets = sockets
        self._diagnoses = diagnoses

    def prove(self, run: Run, log: RunLog, watcher: Watcher) -> Answer:
        """Ask until the answer is good, and make sure that it was the release who gave it.

        The deadline moves on by half of `start_seconds` while the process still writes into its
        log: it is at work then, on a model to load or a database to migrate.

        Raises:
            StartError: It died, never bound its port, or was not healthy in time.
            PortTakenError: Somebody else answers there.
            DeploymentCanceledError: The watcher said so.
        """

        def still_wanted() -> bool:
            return not watcher.canceled() and self._lives(run)

        question = health_check_of(run.release, self._settings)
        deadline = run.began + question.start_seconds
        for _ in range(2 + _MOST_EXTENSIONS):
            answer = health.wait_until_healthy(
                lambda: self._sockets.ask(run.release, run.port, question, still_wanted),
                still_alive=still_wanted,
                deadline=time.monotonic() + question.start_seconds / 2,
            )
            if answer.healthy or watcher.canceled() or not self._lives(run):
                break
            if not log.has_grown() and time.monotonic() >= deadline:
                break
        self._judge(run, answer, log, watcher)
        is_own = ports.listens(run.pid, run.port)
        if not is_own and (holder := ports.describe_holder(run.port)):
            raise PortTakenError(
                f"cannot start {run.release.agent}: port {run.port} is answered by {holder}",
                cause=f"port {run.port} is held by {holder}",
                evidence=log.read(),
            )
        return answer

    def soak(self, run: Run, log: RunLog, watcher: Watcher) -> None:
        """Watch a release for as long as its manifest wants it healthy before it counts.

        Raises:
            StartError: It died or gave a bad answer.
            DeploymentCanceledError: The watcher said so.
        """
        seconds = read_manifest(run.release.manifest).deployment.min_healthy_seconds
        if not seconds:
            return
        question = health_check_of(run.release, self._settings)
        with watcher.step("soak") as note:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(min(_SOAK_INTERVAL_SECONDS, max(0.0, end - time.monotonic())))
                answer = health.check(self._settings.bind_address, run.port, question)
                self._judge(run, answer, log, watcher)
            note.message = f"healthy for {seconds:g} s"

    def death(self, release: Release, port: int, log: RunLog, *, pid: int | None) -> StartError:
        """Say why a release's process died, as an error to raise.

        Args:
            release: What ran.
            port: Where it was to listen.
            log: Of this run.
            pid: Of the process; None when it never had one that we saw.
        """
        # Its exit code is known once supervisord has reaped it, which may be a moment away.
        self._processes.wait(
            release.program,
            lambda one: one is None or not one.state.is_alive,
            timeout_seconds=_AFTER_DEATH_SECONDS,
        )
        lines = log.read()
        cause = self._diagnoses.of_death(release, port, lines, pid=pid)
        kind = PortTakenError if cause.code == "address-in-use" else StartError
        return kind(
            f"cannot start {release.agent}: {cause.text}",
            cause=cause.short,
            hint=cause.hint,
            evidence=lines,
        )

    def _judge(self, run: Run, answer: Answer, log: RunLog, watcher: Watcher) -> None:
        """Keep a good answer of the process that was asked; raise for anything else."""
        if watcher.canceled():
            raise DeploymentCanceledError(
                f"cannot go on starting {run.release.agent}: the deployment was canceled",
                cause="canceled",
            )
        program = run.release.program
        if not answer.healthy:
            # Who is about to die closes its connections before it is gone.
            self._processes.wait(
                program, lambda _: not self._lives(run), timeout_seconds=_DYING_SECONDS
            )
        process = self._processes.get(program)
        if process is None or not self._lives(run):
            raise self.death(run.release, run.port, log, pid=run.pid)
        if not answer.healthy:
            raise self._unhealthy(run, answer, log)
        self._readings.record(process, answer, checked_at=now())

    def _lives(self, run: Run) -> bool:
        """Tell whether a run goes on, also where supervisord's word comes late or never."""
        process = self._processes.get(run.release.program)
        return (
            process is not None
            and process.pid == run.pid
            and process.state.is_alive
            and is_running(run.pid)
        )

    def _unhealthy(self, run: Run, answer: Answer, log: RunLog) -> StartError:
        if self._sockets.is_ignored_by(run.release, run.port):
            cause = causes.explain_unaccepted(
                run.port, self._diagnoses.ports_of(run.release, run.pid)
            )
        else:
            cause = self._diagnoses.of_answer(run.release, answer, run.pid, run.port)
        seconds = time.monotonic() - run.began
        return StartError(
            f"cannot start {run.release.agent}: not healthy after {seconds:.1f} s: {cause.text}",
            cause=cause.short,
            hint=cause.hint,
            evidence=log.read(),
        )
