"""Why a release died, or does not count as healthy: what is behind it, and what to do."""

from __future__ import annotations

from pathlib import Path
from signal import SIGKILL

from deployer import causes, ports
from deployer.byte_sizes import size_text
from deployer.causes import Cause, Circumstances
from deployer.disks import free_bytes
from deployer.environments.interpreters import version_of_venv
from deployer.launches import health_check_of, manifest_of
from deployer.model import Answer, Release
from deployer.parts import Parts
from deployer.reaches import explain_refusal
from deployer.sockets import Sockets


class Diagnoses:
    """Puts together what is known of a release's end: its log, its exit, its limits, its port."""

    def __init__(self, parts: Parts, sockets: Sockets) -> None:
        """Work with the parts of one server."""
        self._parts = parts
        self._sockets = sockets

    def of_death(self, release: Release, port: int, lines: list[str], *, pid: int | None) -> Cause:
        """Say why a release's process died.

        Args:
            release: What ran.
            port: Where it was to listen.
            lines: The last that it wrote.
            pid: Of the process; None when it never had one that we saw.
        """
        verdict = self._parts.verdicts.of(release.program, pid)
        if verdict is not None:
            return Cause(verdict.text, verdict.hint, verdict.code)
        process = self._parts.processes.get(release.program)
        memory_limit = self._parts.limiter.allow(manifest_of(release)).memory_bytes
        was_killed = process is not None and process.signal == SIGKILL
        if (
            was_killed
            and memory_limit is not None
            and self._parts.limiter.oom_kills(release.program, pid)
        ):
            return causes.explain_memory_limit(memory_limit)
        if process is not None and (
            spawn := causes.explain_spawn(process.message, self._parts.state.logs)
        ):
            return spawn
        cause = causes.explain_death(
            None if process is None else process.exit_code,
            None if process is None else process.signal,
            lines,
            (),
            self._circumstances(release, port, memory_limit),
        )
        if cause.code == "address-in-use" and self._sockets.is_given_to(release):
            return causes.explain_ignored_socket(port)
        return cause

    def of_answer(self, release: Release, answer: Answer, pid: int, port: int) -> Cause:
        """Say why a release that lives does not count as healthy.

        Args:
            release: What was asked.
            answer: What came of it.
            pid: Its main process.
            port: Where it was asked.
        """
        return causes.explain_unhealthy(
            answer,
            listening=self.ports_of(release, pid),
            port=port,
            path=health_check_of(release, self._parts.settings).path,
        )

    def ports_of(self, release: Release, pid: int) -> set[int]:
        """Find the ports that a release listens on, without those of others of its agent that run.

        Where only its user can be told, theirs would count as its own.

        Args:
            release: What runs.
            pid: Its main process.
        """
        processes = self._parts.processes.all()
        others = {
            lease.port
            for lease in self._parts.store.leases.all()
            if lease.agent == release.agent
            and lease.program != release.program
            and (other := processes.get(lease.program)) is not None
            and other.state.is_alive
        }
        return ports.listening_ports(pid) - others

    def _circumstances(
        self, release: Release, port: int, memory_limit: int | None
    ) -> Circumstances:
        def refusal_of(path: Path, is_missing: bool) -> Cause | None:  # noqa: FBT001 - as it is called
            return explain_refusal(self._parts, release, path, is_missing=is_missing)

        def room() -> str:
            left = size_text(free_bytes(self._parts.state.root))
            return f"the disk of {self._parts.state.root} has {left} left"

        return Circumstances(
            port=port,
            holder_of=ports.describe_holder,
            memory_limit=memory_limit,
            python=version_of_venv(self._parts.files.environment(release)),
            refusal_of=refusal_of,
            room=room,
        )
