"""The steps of one deployment, written down while they happen."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

from deployer import log_fields
from deployer.errors import DeployerError, DeploymentCanceledError
from deployer.instruments import Instruments
from deployer.model import Deployment, Outcome
from deployer.store import Store


class StepNote:
    """What a step says of itself; shown beside its name."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        self.message = ""


class Watcher(Protocol):
    """Whoever follows what a sequence does, and may want it to end."""

    def step(self, name: str) -> AbstractContextManager[StepNote]:
        """Run a block as a step of this name."""

    def canceled(self) -> bool:
        """Tell that nobody wants it any more."""


class Nobody:
    """A watcher that looks away."""

    @contextmanager
    def step(self, _name: str) -> Iterator[StepNote]:
        """Run a block, and write nothing down."""
        yield StepNote()

    def canceled(self) -> bool:
        """Never want anything to end."""
        return False


NOBODY: Final = Nobody()
_log: Final = logging.getLogger(__name__)


class Journal:
    """Writes the steps of one deployment as rows, so that clients can watch."""

    def __init__(
        self,
        store: Store,
        instruments: Instruments,
        deployment: Deployment,
        canceled: Callable[[], bool],
    ) -> None:
        """Write for deployment, and end it before its next step once canceled() says so."""
        self._store = store
        self._instruments = instruments
        self._deployment = deployment
        self.canceled = canceled

    @contextmanager
    def step(self, name: str, *, is_cancelable: bool = True) -> Iterator[StepNote]:
        """Run a block as a step.

        Args:
            name: Of the step.
            is_cancelable: False: it is too late to end the deployment before this step.

        Raises:
            DeploymentCanceledError: Somebody asked the deployment to end.
        """
        if is_cancelable and self.canceled():
            raise DeploymentCanceledError(
                f"cannot go on with {name}: the deployment was canceled", cause="canceled"
            )
        note = StepNote()
        began = time.monotonic()
        position = self._store.deployments.begin_step(self._deployment, name)
        outcome, message = Outcome.FAILED, ""
        try:
            yield note
            outcome, message = Outcome.DONE, note.message
        except DeployerError as error:
            message = error.cause or error.detail
            raise
        except BaseException as error:
            message = f"{type(error).__name__}: {error}"
            raise
        finally:
            self._store.deployments.end_step(self._deployment, position, outcome, message)
            self._tell(name, outcome, message, time.monotonic() - began)

    def _tell(self, step: str, outcome: Outcome, message: str, seconds: float) -> None:
        self._instruments.count_step(step, seconds)
        level = logging.WARNING if outcome is Outcome.FAILED else logging.INFO
        fields = {"step": step, "outcome": str(outcome), "seconds": round(seconds, 6)}
        words = f"step {step} {outcome}{': ' if message else ''}{message}"
        _log.log(level, "%s", words, extra={log_fields.EXTRA: fields})
