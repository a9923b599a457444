"""What the pages show is typed into a real shell, against a real server.

One page is one session, in order, in a home of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import requests

from tests.documents import ROOT, Block, Page, Typed, pages
from tests.free_ports import free_ports, release_ports
from tests.programs import needed
from tests.servers import wait_gone, wait_until
from tests.shells import INTERRUPTED, Ports, Shell, matches

SESSIONS = [page for page in map(Page, pages()) if any(block.is_typed for block in page.blocks())]
AGENTS = 10
PROGRAMS = "/usr/local/bin:/usr/bin:/bin"
"""Not all of PATH: each server would ask each version that pyenv has there, for seconds."""

READY = "http://127.0.0.1:8080/readyz"
READY_SECONDS = 60.0


class Session:
    """A page being followed: its home, its terminals and its server's state."""

    def __init__(self, home: Path, cache: Path, ports: Ports, environ: dict[str, str]) -> None:
        self.home, self._ports = home, ports
        self._environ = environ | {"ATOLL_DEPLOYER_CACHE_DIR": str(cache)}
        self._terminals: dict[str, Shell] = {}

    def follow(self, block: Block) -> None:
        """Do what a block shows."""
        if path := block.marks.get("file"):
            file = self.home / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self._ports.typed(block.text))
        elif block.is_typed:
            name = block.marks.get("terminal", "")
            if name not in self._terminals:
                self._terminals[name] = Shell(self.home, self._environ)
            for typed in block.typed():
                self._type(self._terminals[name], typed, goes_on=bool(name))
                # people wait for such things without being told
                if name and "atoll-deployer serve" in typed.command:
                    wait_until(self._is_ready, READY_SECONDS, "ready")
                elif "supervisorctl shutdown" in typed.command:
                    assert not wait_gone(self.home / ".atoll-deployer", READY_SECONDS)

    def _type(self, shell: Shell, typed: Typed, *, goes_on: bool) -> None:
        command, expected = self._ports.typed(typed.command), typed.expected
        code = 0
        if goes_on and typed.expected:
            printed = shell.begin(command, expected, self._ports)
        elif expected[-1:] == (INTERRUPTED,):
            expected = expected[:-1]
            printed = shell.type_and_interrupt(command, expected, self._ports)
        else:
            printed, code = shell.type(command)
        shown = self._ports.shown(printed)
        as_shown = matches(expected, printed, self._ports)
        assert as_shown, f"line {typed.line}: $ {typed.command}\nprinted {code}:\n{shown}"
        assert code == 0 or expected, f"line {typed.line}: $ {typed.command}\nended with {code}"

    def _is_ready(self) -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(self._ports.typed(READY), timeout=10).ok
        return False

    def close(self) -> None:
        """Press Ctrl-C in every terminal, the last first."""
        with ExitStack() as closing:
            for shell in self._terminals.values():
                closing.callback(shell.close)


@contextmanager
def session(cache: Path) -> Iterator[Session]:
    """A home with the example, free ports, and nothing left in the end."""
    # not below tmp_path, whose name may be too long for a socket's
    with tempfile.TemporaryDirectory(prefix="atoll-docs-") as folder:
        Path(folder).chmod(0o711)
        home = Path(folder).resolve()
        shutil.copytree(ROOT / "examples", home / "examples")
        api = free_ports(AGENTS + 1)
        environ = {
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{PROGRAMS}",
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "COLUMNS": "100",
            "ATOLL_DEPLOYER_API_PORT": str(api),
            "ATOLL_DEPLOYER_AGENT_BASE_PORT": str(api + 1),
            "ATOLL_DEPLOYER_MAX_AGENTS": str(AGENTS),
            "ATOLL_DEPLOYER_STATE_DIR": str(home / ".atoll-deployer"),
            **{k: v for k, v in os.environ.items() if k.startswith(("UV_", "PIP_", "SSL_CERT_"))},
        }
        it = Session(home, cache, Ports(api, api + 1, home), environ)
        try:
            yield it
        finally:
            it.close()
            left = wait_gone(home / ".atoll-deployer")
            for process in left:
                process.kill()
            release_ports(api)
            assert not left, f"left running: {left}"


@pytest.mark.parametrize("page", SESSIONS, ids=lambda page: page.name)
def test_what_a_page_shows_is_what_happens(page: Page, installer_cache: Path) -> None:
    needed("curl")  # all others are bash's, coreutils' and tar's, and grep and sed
    with session(installer_cache) as it:
        for block in page.blocks():
            it.follow(block)
