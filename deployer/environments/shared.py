"""Environments that releases share: made once of one lock, and only ever read after that.

Each lies in a directory named after all that it was made from. It is made in place, for scripts and
``pyvenv.cfg`` carry its path, and counts once a file says that it is whole; that file is its seal
as well, held against what is there whenever a release is to share it. One that was changed is left
to whom it serves, and its successor lies beside it under the next number.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from deployer import faults, seals
from deployer.environments.interpreters import Interpreter
from deployer.environments.locks import Inputs, Pin
from deployer.errors import DeploymentCanceledError, InstallError
from deployer.trees import delete_tree

SEAL: Final = ".whole.json"

_FORM: Final = 1  # raised when this version makes environments otherwise than the one before
_KEY_DIGITS: Final = 40  # 160 bits; more would only lengthen the first line of every script
_LOOK_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class SharedEnvironment:
    """An environment that is whole, and as it was made.

    Attributes:
        path: Where it lies, for good.
        packages: Name and version of all that is installed, sorted by name.
        seal: What it was when it was made, for `deployer.seals`.
    """

    path: Path
    packages: tuple[tuple[str, str], ...]
    seal: Mapping[str, str]


class SharedEnvironments:
    """The environments below one directory; safe to use from several threads at once.

    Nothing is counted: who wants to remove one says which are in use, and finds that out while it
    is held.
    """

    def __init__(self, root: Path) -> None:
        """Keep environments below root, which everybody may pass through and only we write."""
        self._root = root
        self._held: set[str] = set()
        self._changed = threading.Condition()

    @contextmanager
    def hold(
        self,
        key: str,
        *,
        deadline: float,
        canceled: Callable[[], bool] = lambda: False,
    ) -> Iterator[None]:
        """Be the one who makes, takes or removes environments of a key.

        Args:
            key: From `key_of`.
            deadline: By the monotonic clock.
            canceled: Asked ten times a second; True ends the wait.

        Raises:
            InstallError: Somebody else was at it all the time.
            DeploymentCanceledError: canceled said so.
        """
        with self._changed:
            while key in self._held:
                if canceled():
                    raise DeploymentCanceledError(
                        "cannot install the dependencies: canceled", cause="canceled"
                    )
                if time.monotonic() >= deadline:
                    raise InstallError(
                        "cannot install the dependencies: another deployment was installing the"
                        " very same all the time",
                        cause="the same environment is being made by another deployment",
                    )
                self._changed.wait(_LOOK_SECONDS)
            self._held.add(key)
        try:
            yield
        finally:
            with self._changed:
                self._held.discard(key)
                self._changed.notify_all()

    def find(self, key: str) -> SharedEnvironment | None:
        """Find an environment that is whole and unchanged."""
        for path in self._of(key):
            environment = _read(path)
            if environment is not None and not seals.find_difference(path, environment.seal):
                return environment
        return None

    def choose_path(self, key: str) -> Path:
        """Say where to make an environment; whoever holds the key may."""
        taken = self._of(key)
        number = 1
        while (path := self._root / f"{key}-{number}") in taken:
            number += 1
        return path

    @staticmethod
    def finish(path: Path, packages: tuple[tuple[str, str], ...]) -> SharedEnvironment:
        """Say that an environment is whole, in a file that comes last and is there after a crash.

        Args:
            path: Where it was made.
            packages: What is installed.
        """
        (path / ".lock").unlink(missing_ok=True)  # uv's own, which everybody might write
        environment = SharedEnvironment(path, packages, seals.seal_environment(path))
        document = {"packages": packages, "seal": environment.seal}
        fresh = path / f"{SEAL}.new"
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(document, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.chmod(0o644)
        fresh.replace(path / SEAL)
        faults.reach("environments.finish")
        return environment

    def all(self) -> tuple[Path, ...]:
        """List every environment, whole or not."""
        if not self._root.is_dir():
            return ()
        return tuple(sorted(self._root.iterdir()))

    def remove(
        self, path: Path, is_used: Callable[[], bool], before: Callable[[], object] = lambda: None
    ) -> bool:
        """Remove an environment, unless somebody needs it or is at work on one of its key.

        Args:
            path: One of `all`.
            is_used: Asked once nobody can begin to share it any more.
            before: Called just before it goes.

        Returns:
            Whether it is gone.
        """
        key = path.name.rpartition("-")[0]
        try:
            with self.hold(key, deadline=time.monotonic()):
                if is_used():
                    return False
                before()
                (path / SEAL).unlink(missing_ok=True)  # half of it must never be taken for whole
                faults.reach("environments.unseal")
                delete_tree(path)
                faults.reach("environments.remove")
                return True
        except InstallError:
            return False

    @staticmethod
    def is_whole(path: Path) -> bool:
        """Tell whether an environment was finished."""
        return (path / SEAL).is_file()

    def _of(self, key: str) -> tuple[Path, ...]:
        return tuple(path for path in self.all() if path.name.rpartition("-")[0] == key)


def key_of(
    pins: tuple[Pin, ...], inputs: Inputs, python: Interpreter, installer: str
) -> str | None:
    """Name all that decides what an environment is.

    Args:
        pins: What is installed.
        inputs: What it was resolved from: where files come from decides which of those that a pin
            allows is taken.
        python: What it is made with.
        installer: Which one, in which version.

    Returns:
        Hexadecimal digits; None where a pin allows any file, so that nothing can be told.
    """
    if any(not pin.hashes for pin in pins):
        return None
    status = python.path.stat()
    document = {
        "form": _FORM,
        "pins": [(pin.requirement, pin.hashes) for pin in pins],
        "sources": asdict(replace(inputs, requirements=())),
        "python": {name: str(value) for name, value in asdict(python).items()},
        # An interpreter that was replaced under its own name is another one.
        "executable": [status.st_size, status.st_mtime_ns],
        "machine": os.uname().machine,
        "installer": installer,
    }
    text = json.dumps(document, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


def _read(path: Path) -> SharedEnvironment | None:
    """Read what an environment was when it was finished; None when it was not, or is no use."""
    try:
        document = json.loads((path / SEAL).read_text(encoding="utf-8"))
        packages = tuple((str(name), str(version)) for name, version in document["packages"])
        seal = {str(name): str(digest) for name, digest in document["seal"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not (path / "bin" / "python").is_file():  # a link to an interpreter that is gone as well
        return None
    return SharedEnvironment(path, packages, seal)
