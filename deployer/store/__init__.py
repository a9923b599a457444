"""All SQL of the service, noun by noun over one SQLite file."""

from __future__ import annotations

from pathlib import Path

from deployer.store.agents import AgentRows
from deployer.store.database import Database, now
from deployer.store.deployments import DeploymentRows, Request
from deployer.store.events import EventRows
from deployer.store.leases import LeaseRows
from deployer.store.packages import PackageRows
from deployer.store.releases import ReleaseRows

__all__ = ["Request", "Store", "now"]


class Store:
    """What the server knows, kept across its own death.

    Attributes:
        agents: Names, what is desired of them, and which release is current.
        releases: What was unpacked and installed for them.
        leases: Which program holds which port.
        deployments: Attempts to put a release live, with their steps.
        packages: ZIPs that passed validation.
        events: The timeline.
    """

    def __init__(self, path: Path) -> None:
        """Open the database at path, made when it is not there."""
        self._database = Database(path)
        self.agents = AgentRows(self._database)
        self.releases = ReleaseRows(self._database)
        self.leases = LeaseRows(self._database)
        self.deployments = DeploymentRows(self._database)
        self.packages = PackageRows(self._database)
        self.events = EventRows(self._database)
        self.transaction = self._database.transaction
        self.wait_for_commit = self._database.wait_for_commit

    @property
    def generation(self) -> int:
        """Count of commits so far."""
        return self._database.generation

    def close(self) -> None:
        """Close every connection."""
        self._database.close()
