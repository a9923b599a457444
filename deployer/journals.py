"""The steps of one deployment, written down while they happen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from deployer.errors import DeployerError, DeploymentCanceledError
from deployer.model import Deployment, Outcome
from deployer.store import Store

StepMaker = Callable[[str], AbstractContextManager["StepNote"]]
"""Opens a step of this name around a block."""


class StepNote:
    """What a step says of itself; shown beside its name."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        self.message = ""


@contextmanager
def unrecorded_step(_name: str) -> Iterator[StepNote]:
    """Run a block as a step that nobody writes down."""
    yield StepNote()


class Journal:
    """Writes the steps of one deployment as rows, so that clients can watch."""

    def __init__(self, store: Store, deployment: Deployment, canceled: Callable[[], bool]) -> None:
        """Write for deployment, and end it before its next step once canceled() says so."""
        self._store = store
        self._deployment = deployment
        self.canceled = canceled

    @contextmanager
    def step(self, name: str) -> Iterator[StepNote]:
        """Run a block as a step.

        Raises:
            DeploymentCanceledError: Somebody asked the deployment to end.
        """
        if self.canceled():
            raise DeploymentCanceledError(
                f"cannot go on with {name}: the deployment was canceled", cause="canceled"
            )
        note = StepNote()
        position = self._store.deployments.begin_step(self._deployment, name)
        try:
            yield note
        except DeployerError as error:
            self._end(position, Outcome.FAILED, error.cause or error.detail)
            raise
        except BaseException as error:
            self._end(position, Outcome.FAILED, f"{type(error).__name__}: {error}")
            raise
        self._end(position, Outcome.DONE, note.message)

    def _end(self, position: int, outcome: Outcome, message: str) -> None:
        self._store.deployments.end_step(self._deployment, position, outcome, message)
