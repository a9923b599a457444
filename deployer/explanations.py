"""Why an agent is as it is: what it answers, why it died, or why its last deployment failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from deployer.byte_sizes import size_text
from deployer.disks import free_bytes
from deployer.logs import tail
from deployer.model import Deployment, DeploymentStatus, Release, State
from deployer.parts import Parts
from deployer.run_logs import EVIDENCE_LINES
from deployer.runs import Runs
from deployer.statuses import AgentView

_DEAD: Final = frozenset({State.FATAL, State.BACKOFF, State.EXITED})
_BAD_ENDS: Final = frozenset(
    {DeploymentStatus.FAILED, DeploymentStatus.ROLLED_BACK, DeploymentStatus.ABANDONED}
)
_NO_ROOM_BYTES: Final = 1024 * 1024
_LOOK: Final = "read its log, mend the package and push it again, or roll back"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why something is as it is.

    Attributes:
        cause: In words; empty when nothing is known to be wrong.
        hint: What to do; may be empty.
        evidence: Lines that show it, oldest first.
        deployment: The deployment that failed of this cause; None: what runs is at fault itself.
    """

    cause: str = ""
    hint: str = ""
    evidence: tuple[str, ...] = ()
    deployment: str | None = None


class Explanations:
    """Explains the agents of one server."""

    def __init__(self, parts: Parts, runs: Runs) -> None:
        """Look through the parts of one server."""
        self._state = parts.state
        self._store = parts.store
        self._secrets = parts.secrets
        self._runs = runs

    def of_agent(self, view: AgentView) -> Explanation:
        """Say why an agent is not as it should be; without evidence, and empty when all is well."""
        reading, process, release = view.reading, view.process, view.release
        if view.agent.quarantine:
            hint = "deploy the package again with force, or roll back"
            return Explanation(view.agent.quarantine, hint)
        is_answering_badly = reading is not None and not reading.answer.healthy
        if view.is_alive and is_answering_badly and reading is not None and release is not None:
            cause = self._runs.diagnoses.of_answer(
                release, reading.answer, reading.pid, view.port or 0
            )
            return Explanation(cause.text, cause.hint)
        if view.is_alive and view.breach:
            hint = "let it delete what it does not need, or raise [resources] disk_limit"
            return Explanation(view.breach, f"{hint} in agent.toml")
        if view.agent.last_error:
            return Explanation(view.agent.last_error, view.agent.last_hint or _LOOK)
        if process is not None and process.state in _DEAD:
            return Explanation(process.message or f"supervisord says {process.state}", _LOOK)
        return Explanation()

    def why(self, name: str, view: AgentView | None) -> Explanation:
        """Say why an agent is as it is; of one that is well, why its last deployment failed if so.

        Args:
            name: Of the agent.
            view: What is known of it; None: there is none of this name.

        Returns:
            The explanation, with its evidence.
        """
        found = Explanation() if view is None else self.of_agent(view)
        if found.cause:
            evidence = () if view is None or view.release is None else self._evidence(view.release)
            return Explanation(found.cause, found.hint, evidence)
        latest = next(iter(self._store.deployments.before(None, limit=1, agent=name)), None)
        left = free_bytes(self._state.root)
        if latest is not None and not latest.status.is_over and left < _NO_ROOM_BYTES:
            return Explanation(
                f"deployment {latest.id} cannot go on: the disk of {self._state.root} has"
                f" {size_text(left)} left",
                "free space there: the deployment is undone as soon as that can be written down",
                deployment=latest.id,
            )
        if latest is None or latest.status not in _BAD_ENDS or latest.failure is None:
            return found
        failure = latest.failure
        cause = f"deployment {latest.id} failed{_step(latest)}: {failure.detail}{_serving(view)}"
        return Explanation(cause, failure.hint, failure.evidence, latest.id)

    def _evidence(self, release: Release) -> tuple[str, ...]:
        program = release.program
        logs = self._state.stdout_log(program), self._state.stderr_log(program)
        lines = [line for log in logs for line in tail(log, EVIDENCE_LINES)]
        return tuple(self._secrets.redact(release, lines[-EVIDENCE_LINES:]))


def _step(deployment: Deployment) -> str:
    return f" in {deployment.steps[-1].name}" if deployment.steps else ""


def _serving(view: AgentView | None) -> str:
    if view is None or view.release is None or not view.is_alive:
        return ""
    return f"; release {view.release.number} serves on"
