"""All SQL of the service, noun by noun over one SQLite file."""

from __future__ import annotations

import logging
import sqlite3
import threading
from pathlib import Path
from typing import Final

from deployer.store import copies
from deployer.store.agent_secrets import SecretRows
from deployer.store.agents import AgentRows
from deployer.store.audit import AuditRows
from deployer.store.database import Database, now
from deployer.store.deployments import DeploymentRows, Request
from deployer.store.events import EventRows
from deployer.store.idempotency import IdempotencyRows
from deployer.store.keys import KeyRows
from deployer.store.leases import LeaseRows
from deployer.store.packages import PackageRows
from deployer.store.releases import ReleaseRows
from deployer.store.scans import ScanRows
from deployer.store.uids import UidRows

__all__ = ["Request", "Store", "now"]

_log: Final = logging.getLogger(__name__)


class Store:
    """What the server knows, kept across its own death.

    Attributes:
        agents: Names, what is desired of them, and which release is current.
        releases: What was unpacked and installed for them.
        leases: Which program holds which port.
        deployments: Attempts to put a release live, with their steps.
        packages: ZIPs that passed validation.
        scans: What scanners said of releases.
        events: The timeline.
        keys: Who may call, and do what.
        idempotency: What was asked with an Idempotency-Key, and how it was answered.
        audit: What they did.
        secrets: What agents are given, encrypted.
        uids: The users that agents run as.
    """

    def __init__(self, path: Path) -> None:
        """Open the database at path, made when it is not there.

        Raises:
            ServeRefusedError: It cannot be used now, as on a full disk.
        """
        self._path = path
        self._copying = threading.Lock()
        self._uncopied = ""  # why the last copy could not be made
        self._copied = ""  # what the last copy means; nobody knows
        with copies.refusing(path):
            self._database = Database(path)
        self.agents = AgentRows(self._database)
        self.releases = ReleaseRows(self._database)
        self.leases = LeaseRows(self._database)
        self.deployments = DeploymentRows(self._database)
        self.packages = PackageRows(self._database)
        self.scans = ScanRows(self._database)
        self.events = EventRows(self._database)
        self.keys = KeyRows(self._database)
        self.idempotency = IdempotencyRows(self._database)
        self.audit = AuditRows(self._database)
        self.secrets = SecretRows(self._database)
        self.uids = UidRows(self._database)
        self.transaction = self._database.transaction
        self.wait_for_commit = self._database.wait_for_commit

    def keep_copy(self, path: Path) -> bool:
        """Copy everything to a file, to be restored from should the database be damaged.

        A copy that cannot be made is logged, once for each reason in a row, and the former one
        stays: nobody's deployment fails for it.

        Returns:
            Whether the copy was made.
        """
        with self._copying:  # two would write into the same file
            self._copied, meant = "", self._meaning_now()
            try:
                copies.keep_copy(self._path, path)
            except (OSError, sqlite3.Error) as error:
                if str(error) != self._uncopied:
                    _log.exception("cannot keep a copy of %s", self._path)
                self._uncopied = str(error)
                return False
            self._uncopied = ""
            if self._meaning_now() == meant:  # else nobody knows which of them the copy has
                self._copied = meant
            return True

    def _meaning_now(self) -> str:
        try:
            return self.meaning()
        except sqlite3.Error:
            return ""  # which no meaning is

    def has_copied(self, meaning: str) -> bool:
        """Tell whether the last copy, whoever asked for it, says what is meant."""
        return self._copied == meaning

    def meaning(self) -> str:
        """Give all that somebody asked for, and that a restored database must not undo.

        Which agents and releases there are, what is desired of them, and whose keys are taken.
        """
        read = self._database.read
        rows = [
            *read("SELECT name, desired, current, previous FROM agents"),
            *read("SELECT agent, number FROM releases"),
            *read("SELECT id FROM keys"),
        ]
        return repr([tuple(row) for row in rows])

    @property
    def generation(self) -> int:
        """Count of commits so far."""
        return self._database.generation

    def close(self) -> None:
        """Close every connection."""
        self._database.close()
