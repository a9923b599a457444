"""Bytecode, made in the background once an agent serves: it may not write its own environment."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from deployer.environments.runs import run
from deployer.errors import DeployerError, InstallError, ResolutionError

_log: Final = logging.getLogger(__name__)

_DONE: Final = ".bytecode"
_COMPILE_SECONDS: Final = 600.0
_END_SECONDS: Final = 10.0

_COMPILE: Final = """
import compileall, resource, sys
most = 1024**3  # of memory: a few megabytes of brackets take gigabytes to parse
hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
most = most if hard == resource.RLIM_INFINITY else min(most, hard)
resource.setrlimit(resource.RLIMIT_DATA, (most, most))
sys.exit(not compileall.main())
"""


class Compilations:
    """Compiles one environment, or one release's code, after the other, each once.

    Compiling costs five times the install, and an agent starts without it, only slower: so it is
    done after the release serves, and at idle priority.
    """

    def __init__(self) -> None:
        """Begin with nothing to do, and without a thread."""
        self._waiting: OrderedDict[Path, tuple[Path, tuple[Path, ...]]] = OrderedDict()
        self._current: Path | None = None
        self._canceled = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def begin(self, place: Path, python: Path, folders: Sequence[Path]) -> None:
        """Compile what lies in folders of a place soon, unless that was done before.

        Args:
            place: An environment, or a release; it must be there until `end` or the compilation's
                own end.
            python: The base interpreter that runs it.
            folders: Below it.
        """
        if (place / _DONE).exists():
            return
        with self._changed:
            if place == self._current or place in self._waiting:
                return
            self._waiting[place] = python, tuple(folders)
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="compilations", daemon=True)
                self._thread.start()

    def end(self, place: Path) -> None:
        """Make sure that nothing is written into a place any more: it is to be deleted."""
        with self._changed:
            self._waiting.pop(place, None)
            if self._current != place:
                return
            self._canceled = True
            self._changed.wait_for(lambda: self._current != place, _END_SECONDS)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                place, (python, folders) = self._waiting.popitem(last=False)
                self._current, self._canceled = place, False
            try:
                if compile_bytecode(
                    folders,
                    python,
                    timeout_seconds=_COMPILE_SECONDS,
                    canceled=lambda: self._canceled,
                ):
                    _log.info("compiled %s", place)
                (place / _DONE).touch()
            except (DeployerError, OSError) as error:  # slower starts are all that comes of it
                _log.info("cannot compile %s: %s", place, error)
            except Exception:  # noqa: BLE001 - the others are still to be compiled
                _log.exception("cannot compile %s", place)
            finally:
                with self._changed:
                    self._current = None
                    self._changed.notify_all()


def compile_bytecode(
    folders: tuple[Path, ...],
    python: Path,
    timeout_seconds: float,
    canceled: Callable[[], bool] = lambda: False,
) -> bool:
    """Compile all that lies in folders, at idle priority, without running anything of it.

    The base interpreter does it with ``-I -S``: an environment's own would obey ``.pth`` files.

    Args:
        folders: Where to look, and below.
        python: The base interpreter.
        timeout_seconds: It is killed when this is over.
        canceled: Asked ten times a second; True kills it too.

    Returns:
        Whether every file compiled in time; those that did count all the same.

    Raises:
        NoSpaceError: The disk is full.
        DeploymentCanceledError: canceled said so.
    """
    nice = shutil.which("nice")
    idle = [nice, "-n", "19"] if nice else []
    try:
        run(
            [*idle, str(python), "-I", "-S", "-c", _COMPILE, "-q", *map(str, folders)],
            doing="compile the dependencies",
            cwd=Path("/"),
            variables={"PATH": os.environ.get("PATH", os.defpath)},
            log=Path(os.devnull),
            timeout_seconds=timeout_seconds,
            canceled=canceled,
        )
    except (InstallError, ResolutionError):
        return False
    return True
