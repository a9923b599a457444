"""What is known again after the database was lost: read off the releases that lie on the disk."""

from __future__ import annotations

import logging
from typing import Final

from deployer import packages
from deployer.errors import DeployerError, NoSpaceError
from deployer.event_kinds import EventKind
from deployer.model import Desired, Process, Release, ReleaseStatus
from deployer.parts import Parts
from deployer.requirements import Rules
from deployer.store import now
from deployer.store.copies import forget_loss

_log: Final = logging.getLogger(__name__)

_TAKEN_BEFORE: Final = Rules(allow_direct_urls=True)  # whatever the settings allow by now


class Salvage:
    """Writes rows for what is there and has none: packages, agents, releases, leases.

    A restored copy may be older than the disk, a new database knows nothing at all; both are
    brought up to date the same way. Processes are not touched.
    """

    def __init__(self, parts: Parts) -> None:
        """Work with the parts of one server."""
        self._parts = parts
        self._store = parts.store
        self._files = parts.files

    def run(self, why: str) -> None:
        """Write what is missing; as long as that has not succeeded, the next start does it again.

        Args:
            why: What happened to the database; for the timeline.
        """
        self._store.events.go_on_behind_lost()
        self._store.events.add(EventKind.SERVER_SALVAGED, "", why)
        unread = [
            archive.name
            for archive in self._parts.state.packages.glob("*.zip")
            if not self._salvage_package(archive.stem)
        ]
        for release in self._files.recorded():
            try:
                self._salvage_release(release)
            except DeployerError as error:
                _log.warning("cannot salvage %s: %s", release.program, error.detail)
        for agent in self._store.agents.all():
            self._salvage_run(agent.name)
        if not unread:  # else they would be deleted as unknown
            forget_loss(self._parts.state.database)

    def _salvage_package(self, sha256: str) -> bool:
        """Write a package's row; False: it may be that this can be done another time."""
        if self._store.packages.find(sha256) is not None:
            return True
        archive = self._files.archive(sha256)
        try:
            with archive.open("rb") as stream:
                received = packages.receive(
                    stream, self._parts.state.tmp, max_bytes=archive.stat().st_size
                )
            received.path.unlink()
            inspected = packages.inspect(
                archive, self._parts.settings.limits, has_runtime=True, rules=_TAKEN_BEFORE
            )
        except (OSError, NoSpaceError) as error:
            _log.warning("cannot salvage package %s yet: %s", sha256, error)
            return False
        except DeployerError as error:
            _log.warning("cannot salvage package %s: %s", sha256, error.detail)
            return True
        if received.sha256 == sha256:
            self._store.packages.add(packages.package_of(received, inspected, received_at=now()))
        return True

    def _salvage_release(self, release: Release) -> None:
        self._store.agents.add(release.agent)
        self._store.releases.restore(release)

    def _salvage_run(self, name: str) -> None:
        """Find out which release is current, and whether it runs and where."""
        agent = self._store.agents.get(name)
        md5 = self._files.read_checksum(name)
        releases = self._store.releases.of_agent(name)
        matching = [each for each in releases if each.md5 == md5]
        alive = [each for each in releases if self._is_alive(each)]
        current = next(iter([*alive, *matching, *releases]), None)
        # A copy that is older than its removal names an agent of which nothing is left.
        is_gone = not alive and not any(
            self._parts.state.release(name, each.number).exists() for each in releases
        )
        if current is None or is_gone:
            self._store.agents.remove(name)
            return
        known = {each.number for each in releases}
        if agent.current not in known or alive:
            others = [each for each in releases if each.number != current.number]
            good = [each for each in others if each.status is ReleaseStatus.PROVEN]
            previous = next(iter([*good, *others]), None)
            self._store.agents.activate(
                name, current.number, previous.number if previous is not None else None
            )
        if alive:
            self._store.agents.set_desired(name, Desired.RUNNING)
            port = self._parts.programs.port_of(current.program)
            if port is not None:
                self._store.agents.set_port(name, port)
                if self._store.leases.of_program(current.program) is None:
                    self._store.leases.add(port, name, current.program)

    def _is_alive(self, release: Release) -> bool:
        process: Process | None = self._parts.processes.get(release.program)
        return process is not None and process.state.is_alive
