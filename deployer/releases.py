"""Release directories and the archives they were unpacked from: made, found, deleted."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Final

from deployer import faults, seals
from deployer.errors import DeployerError
from deployer.manifest import Manifest
from deployer.model import Release, ReleaseStatus
from deployer.state_dir import StateDir
from deployer.trees import delete_tree

_log: Final = logging.getLogger(__name__)

_RECORD: Final = "release.json"


class ReleaseFiles:
    """What packages and releases occupy on disk.

    An agent's directory can be entered by that agent and nobody else; releases are ours and only
    read by the agent; ``data``, ``tmp`` and ``run`` are the agent's.
    """

    def __init__(self, state: StateDir) -> None:
        """Work below one state directory."""
        self._state = state

    def archives(self) -> Iterator[Path]:
        """List the ZIPs of packages; each is named after its SHA-256."""
        yield from sorted(self._state.packages.glob("*.zip"))

    def delete_archive(self, sha256: str) -> None:
        """Delete the ZIP of a package, and the signature that lies beside it."""
        for path in self._state.packages.glob(f"{sha256}.zip*"):
            path.unlink(missing_ok=True)
        faults.reach("releases.delete_archive")

    def archive(self, sha256: str) -> Path:
        """Say where the ZIP of a package lies."""
        return self._state.packages / f"{sha256}.zip"

    def keep_archive(self, received: Path, sha256: str) -> Path:
        """Move a received ZIP to where packages lie; the same bytes are stored once."""
        archive = self.archive(sha256)
        kept = received.replace(archive)
        faults.reach("releases.keep_archive")
        return kept

    def environment(self, release: Release) -> Path:
        """Say where a release's environment lies, which it may share with other releases.

        What runs there is started by this name, and told no other: it may be gone.
        """
        venv = self._state.venv(release.agent, release.number)
        try:
            return venv.readlink()
        except OSError:  # its own, or none
            return venv

    def shared_environments(self) -> set[Path]:
        """List the environments that any release on the disk shares, whatever the rows say."""
        links = self._state.agents.glob("*/releases/*/venv")
        return {link.readlink() for link in links if link.is_symlink()}

    def prepare(self, agent: str, number: int) -> Path:
        """Make the directory of a new release, empty; what a crash left there goes first."""
        release = self._state.release(agent, number)
        if release.exists():
            delete_tree(release)
        # Closed to all others; whom it is opened to is said when it is started.
        self._state.agent(agent).mkdir(mode=0o750, exist_ok=True)
        release.mkdir(mode=0o755, parents=True)
        faults.reach("releases.prepare")
        return release

    def write_record(self, release: Release) -> None:
        """Write a release's row beside its code, to be read should the database be lost."""
        path = self._record(release.agent, release.number)
        document = {**asdict(release), "created_at": release.created_at.isoformat()}
        fresh = path.with_name(f"{path.name}.new")
        fresh.write_text(json.dumps(document), encoding="utf-8")
        fresh.replace(path)
        faults.reach("releases.write_record")

    def recorded(self) -> Iterator[Release]:
        """Read every release that wrote a record; those that never became whole have none."""
        for path in sorted(self._state.agents.glob(f"*/releases/*/{_RECORD}")):
            try:
                document = json.loads(path.read_text(encoding="utf-8"))
                yield Release(
                    **{
                        **document,
                        "status": ReleaseStatus(document["status"]),
                        "created_at": datetime.fromisoformat(document["created_at"]),
                    }
                )
            except (OSError, ValueError, TypeError, KeyError) as error:
                _log.warning("cannot read %s: %s", path, error)

    def _record(self, agent: str, number: int) -> Path:
        return self._state.release(agent, number) / _RECORD

    def find_damage(self, release: Release) -> str:
        """Say what a release lacks to be started; empty when nothing is missing.

        Args:
            release: An installed one.
        """
        code = self._state.code(release.agent, release.number)
        python = self._state.venv(release.agent, release.number) / "bin" / "python"
        kind, _, value = release.entry_point.partition(" ")
        if not code.is_dir():
            return f"its code is missing: {code}"
        if kind == "script" and not (code / value).is_file():
            return f"its entry point is missing: {code / value}"
        if not python.is_file():  # a link to an interpreter that is gone counts as well
            return f"its Python is missing: {python}"
        try:
            Manifest.from_json(release.manifest)
        except DeployerError as error:
            return f"its manifest in state.db is damaged: {error.detail}"
        return ""

    def seal(self, release: Release, environment: Mapping[str, str] | None = None) -> None:
        """Keep with a release that was just installed what it is now, for `find_breach`.

        Args:
            release: What was installed.
            environment: The seal of the environment that it shares.
        """
        seals.write_seal(self._state.release(release.agent, release.number), environment)

    def find_breach(self, release: Release, *, anew: bool = False) -> str:
        """Say why a release is not what was installed any more; empty when it is, to the byte.

        Args:
            release: Any release.
            anew: Read every file again, also those that look as they did when last read.
        """
        if release.status is ReleaseStatus.INSTALLING:
            return "it is not installed yet"
        whole = self._state.release(release.agent, release.number)
        return self.find_damage(release) or seals.find_breach(whole, anew=anew)

    def locks(self, releases: Iterable[Release]) -> list[Path]:
        """List the locks of releases, in their order: equal needs reuse the first that fits."""
        return [self._state.requirements_lock(each.agent, each.number) for each in releases]

    def delete(self, agent: str, number: int) -> None:
        """Delete a release's directory and its logs."""
        delete_tree(self._state.release(agent, number))
        for log in self._state.logs_of(agent, number):
            log.unlink(missing_ok=True)
        faults.reach("releases.delete")

    def write_checksum(self, agent: str, md5: str) -> None:
        """Write ATOLL's NAME.md5 for the current release."""
        path = self._state.checksum_file(agent)
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(f"{md5}\n", encoding="ascii")
        fresh.replace(path)
        faults.reach("releases.write_checksum")

    def read_checksum(self, agent: str) -> str:
        """Read ATOLL's NAME.md5; empty when there is none."""
        try:
            return self._state.checksum_file(agent).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return ""

    def delete_agent(self, agent: str) -> None:
        """Delete everything of an agent, but its data when that is marked to stay.

        It is also when a later deployment of the same name fails; `claim_data` ends that.
        """
        directory = self._state.agent(agent)
        kept = self._kept(agent)
        if not kept.exists():
            delete_tree(directory)
        else:
            for path in directory.iterdir():
                if path not in {self._state.agent_data(agent), kept}:
                    delete_tree(path)
        faults.reach("releases.delete_agent")
        for log in self._state.logs_of(agent):
            log.unlink(missing_ok=True)
        faults.reach("releases.delete_logs")

    def keep_data(self, agent: str) -> None:
        """Mark an agent's data to stay when the agent goes."""
        if self._state.agent_data(agent).exists():
            self._kept(agent).touch()
            faults.reach("releases.keep_data")

    def claim_data(self, agent: str) -> None:
        """Let a live agent own data that was kept from before: it goes with the agent again."""
        if self._kept(agent).exists():
            self._kept(agent).unlink()
            faults.reach("releases.claim_data")

    def _kept(self, agent: str) -> Path:
        return self._state.agent(agent) / "data-kept"
