"""Release directories and the archives they were unpacked from: made, found, deleted."""

from __future__ import annotations

import shutil
from pathlib import Path

from deployer.state_dir import StateDir


class ReleaseFiles:
    """What packages and releases occupy on disk.

    An agent's directory can be entered by anybody but listed by nobody else; releases are ours and
    only read by the agent; ``data``, ``tmp`` and ``run`` are the agent's.
    """

    def __init__(self, state: StateDir) -> None:
        """Work below one state directory."""
        self._state = state

    def archive(self, sha256: str) -> Path:
        """Say where the ZIP of a package lies."""
        return self._state.packages / f"{sha256}.zip"

    def keep_archive(self, received: Path, sha256: str) -> Path:
        """Move a received ZIP to where packages lie; the same bytes are stored once."""
        archive = self.archive(sha256)
        return received.replace(archive)

    def prepare(self, agent: str, number: int) -> Path:
        """Make the directory of a new release, empty; what a crash left there goes first."""
        release = self._state.release(agent, number)
        if release.exists():
            delete_tree(release)
        self._state.agent(agent).mkdir(mode=0o711, exist_ok=True)
        release.mkdir(mode=0o755, parents=True)
        return release

    def delete(self, agent: str, number: int) -> None:
        """Delete a release's directory and its logs."""
        delete_tree(self._state.release(agent, number))
        for log in self._state.logs.glob(f"{agent}--{number}.*"):
            log.unlink(missing_ok=True)

    def write_checksum(self, agent: str, md5: str | None) -> None:
        """Write ATOLL's NAME.md5 for the current release; None removes it."""
        path = self._state.checksum_file(agent)
        if md5 is None:
            path.unlink(missing_ok=True)
            return
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(f"{md5}\n", encoding="ascii")
        fresh.replace(path)

    def delete_agent(self, agent: str, *, keep_data: bool) -> None:
        """Delete everything of an agent, but its data when asked to keep it.

        Data that was kept once is marked so, and stays when a later deployment of the same name
        fails; `claim_data` ends that.
        """
        directory = self._state.agent(agent)
        kept = self._kept(agent)
        if keep_data and self._state.agent_data(agent).exists():
            kept.touch()
        if not kept.exists():
            delete_tree(directory)
        else:
            for path in directory.iterdir():
                if path not in {self._state.agent_data(agent), kept}:
                    delete_tree(path)
        for log in self._state.logs.glob(f"{agent}--*"):
            if log.name.removeprefix(f"{agent}--").split(".")[0].isdecimal():
                log.unlink(missing_ok=True)

    def claim_data(self, agent: str) -> None:
        """Let a live agent own data that was kept from before: it goes with the agent again."""
        self._kept(agent).unlink(missing_ok=True)

    def _kept(self, agent: str) -> Path:
        return self._state.agent(agent) / "data-kept"


def delete_tree(path: Path) -> None:
    """Delete a file or a directory with all below it, if it is there; never follows a symlink."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
