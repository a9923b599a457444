"""Why this server ended a run, for whoever is asked later what it died of."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a run was ended.

    Attributes:
        pid: Its main process.
        code: A stable word, such as ``memory-limit``.
        text: A few words without a full stop.
        hint: What to do about it.
    """

    pid: int
    code: str
    text: str
    hint: str


class Verdicts:
    """The latest verdict on each program."""

    def __init__(self) -> None:
        """Begin with none."""
        self._verdicts: dict[str, Verdict] = {}
        self._lock = threading.Lock()

    def record(self, program: str, verdict: Verdict) -> None:
        """Keep a verdict, in the place of the one before."""
        with self._lock:
            self._verdicts[program] = verdict

    def of(self, program: str, pid: int | None) -> Verdict | None:
        """Give the verdict on a run.

        Args:
            program: Whose run.
            pid: Its main process; None: whichever the latest verdict was on.
        """
        verdict = self._verdicts.get(program)
        return verdict if verdict is not None and pid in {None, verdict.pid} else None

    def forget(self, program: str) -> None:
        """Forget a program that is started anew."""
        with self._lock:
            self._verdicts.pop(program, None)
