"""A server that lives for one selftest: in a directory and on ports that nobody else uses."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

import requests

from deployer.leftovers import end_leftovers, end_processes_of, find_leftovers
from deployer.limits.groups import remove_leftover_groups
from deployer.ports import can_bind
from deployer.settings.sources import PREFIX
from deployer.state_dir import StateDir
from deployer.store import Store

_AGENTS: Final = 4
_FIRST_PORTS: Final = range(20_000, 32_000)
_READY_SECONDS: Final = 2.0
_END_SECONDS: Final = 5.0
_SAID_BYTES: Final = 500
_LONGEST_PLACE: Final = 50


class TemporaryServer:
    """One server, as `serve` starts it, and everything that is to be cleared away after.

    Attributes:
        root: A directory of its own.
        state: Its state directory.
        url: Where its API listens.
    """

    def __init__(self) -> None:
        """Choose a place and ports; nothing runs before `start`."""
        place = tempfile.gettempdir()
        if len(place) > _LONGEST_PLACE:  # the path of a Unix socket has 107 bytes
            place = "/tmp"  # noqa: S108 - mkdtemp makes a directory that nobody else can make
        self.root = Path(tempfile.mkdtemp(prefix="atoll-selftest-", dir=place)).resolve()
        self.root.chmod(0o711)  # agents under uids of their own must pass through
        self.state = StateDir(self.root / "state")
        self._port = _free_ports(1 + _AGENTS)
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._output = self.root / "output"

    def start(self) -> None:
        """Start it; it is not ready yet."""
        variables = {
            name: value for name, value in os.environ.items() if not name.startswith(PREFIX)
        }
        options = {
            "--state-dir": self.state.root,
            "--host": "127.0.0.1",
            "--api-port": self._port,
            "--agent-base-port": self._port + 1,
            "--max-agents": _AGENTS,
        }
        words = [str(word) for pair in options.items() for word in pair]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - ourselves
                [sys.executable, "-m", "deployer.cli", "serve", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=variables,
                cwd=self.root,
                start_new_session=True,  # Ctrl-C is for us, who then end it
            )

    def is_ready(self) -> bool:
        """Ask whether it takes work."""
        with suppress(requests.RequestException):
            return requests.get(f"{self.url}/readyz", timeout=_READY_SECONDS).ok
        return False

    def token(self) -> str:
        """Read its token."""
        return self.state.token.read_text(encoding="utf-8").strip()

    def said(self) -> str:
        """Give the end of what it printed and logged."""
        texts = []
        for path in (self._output, self.state.logs / "deployer.log"):
            with suppress(OSError):
                texts.append(path.read_text(encoding="utf-8", errors="replace")[-_SAID_BYTES:])
        return " ".join(" ".join(texts).split()) or "nothing"

    def stop(self, seconds: float) -> None:
        """End it as an operator does.

        Raises:
            OSError: It, or something that it started, lives on.
        """
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise OSError(f"the server did not end within {seconds:.0f} s") from None
        if left := find_leftovers(self.state.root):
            pids = ", ".join(str(process.pid) for process in left)
            raise OSError(f"processes of it live on: pid {pids}")

    def clear_away(self) -> None:
        """End whatever still runs, and delete everything."""
        if self._process is not None and self._process.poll() is None:
            with suppress(OSError):
                self.stop(_END_SECONDS)
            self._process.kill()
            self._process.wait(_END_SECONDS)
        end_leftovers(self.state.root)
        if self.state.database.exists():
            store = Store(self.state.database)
            for uid in store.uids.all().values():
                end_processes_of(uid, self.state.root)
            store.close()
        if self.state.run.is_dir():
            remove_leftover_groups(self.state)
        shutil.rmtree(self.root, ignore_errors=True)


def _free_ports(count: int) -> int:
    """Choose so many free ports in a row; whoever starts at the same time begins elsewhere."""
    starts = range(_FIRST_PORTS.start, _FIRST_PORTS.stop, count)
    offset = random.randrange(len(starts))  # noqa: S311 - no secret
    for number in range(len(starts)):
        first = starts[(offset + number) % len(starts)]
        if all(map(can_bind, range(first, first + count))):
            return first
    raise OSError(f"no {count} free ports in a row within {_FIRST_PORTS}")
