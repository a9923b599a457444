"""Where everything lies below the state directory: paths, and nothing that reads or writes."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MARKER: Final = "ATOLL_DEPLOYER_STATE"
"""The variable that every process of ours carries, with the path of its state directory."""

PROGRAM: Final = "ATOLL_AGENT_PROGRAM"
"""The variable that every process of an agent carries, with the name of its program."""


def default_state_dir() -> Path:
    """Choose where the state lies when nobody says: below the home, or ``/var/lib`` as root."""
    if os.geteuid() == 0:
        return Path("/var/lib/atoll-deployer")
    return Path("~/.atoll-deployer").expanduser().resolve()


@dataclass(frozen=True, slots=True)
class StateDir:
    """The layout of one server's state directory.

    Attributes:
        root: An absolute path without symlinks, so that what is written into program configs and
            compared with ``/proc`` later is the same text.
    """

    root: Path

    @property
    def database(self) -> Path:
        """The SQLite file that holds agents, releases, leases, deployments and events."""
        return self.root / "state.db"

    @property
    def database_copy(self) -> Path:
        """The database as it was after the last deployment."""
        return self.root / "state.db.copy"

    @property
    def supervisord_conf(self) -> Path:
        """The configuration that supervisord and supervisorctl read."""
        return self.root / "supervisord.conf"

    @property
    def settings(self) -> Path:
        """The resolved settings, 0600, read again by the API process."""
        return self.root / "settings.json"

    @property
    def token(self) -> Path:
        """The token that clients show, 0600, made at first start."""
        return self.root / "token"

    @property
    def secrets_key(self) -> Path:
        """What agents' secrets are encrypted with, 0600, made when the first one is set."""
        return self.root / "secrets.key"

    @property
    def conf_d(self) -> Path:
        """One program config a release."""
        return self.root / "conf.d"

    @property
    def quarantine(self) -> Path:
        """Where program configs go that do not parse."""
        return self.root / "conf.d" / "quarantine"

    @property
    def policies(self) -> Path:
        """Launch policies, 0600, one a program."""
        return self.root / "policies"

    @property
    def run(self) -> Path:
        """Sockets, pid file and lock; 0700."""
        return self.root / "run"

    @property
    def supervisor_socket(self) -> Path:
        """supervisord's XML-RPC and web UI; 0700."""
        return self.run / "supervisor.sock"

    @property
    def events_socket(self) -> Path:
        """The API's datagram socket that the supervisord plugin pushes states to."""
        return self.run / "events.sock"

    @property
    def lock(self) -> Path:
        """Held with flock by the one server of this state directory."""
        return self.run / "lock"

    @property
    def group_roots(self) -> Path:
        """Names the control groups of this server, a directory a line."""
        return self.run / "groups"

    @property
    def logs(self) -> Path:
        """Flat and server-owned: were an agent able to write here, a symlink would let it append.

        to any file as supervisord's user.
        """
        return self.root / "logs"

    @property
    def packages(self) -> Path:
        """Uploaded ZIPs by their SHA-256."""
        return self.root / "packages"

    @property
    def cache(self) -> Path:
        """The installer's cache."""
        return self.root / "cache"

    @property
    def environments(self) -> Path:
        """Environments that releases share, each named after what it was made from."""
        return self.root / "environments"

    @property
    def builds(self) -> Path:
        """Where source is built, one build at a time."""
        return self.root / "builds"

    @property
    def pythons(self) -> Path:
        """Interpreters that the installer fetched: every agent must reach its own."""
        return self.root / "pythons"

    @property
    def tmp(self) -> Path:
        """Spooled uploads and half-done work; emptied at start."""
        return self.root / "tmp"

    @property
    def agents(self) -> Path:
        """One directory an agent."""
        return self.root / "agents"

    def agent(self, name: str) -> Path:
        """Everything of one agent."""
        return self.agents / name

    def agent_data(self, name: str) -> Path:
        """What the agent keeps across releases; its HOME."""
        return self.agent(name) / "data"

    def agent_tmp(self, name: str) -> Path:
        """The agent's TMPDIR."""
        return self.agent(name) / "tmp"

    def agent_run(self, name: str) -> Path:
        """Sockets and the like of the agent itself."""
        return self.agent(name) / "run"

    def release(self, agent: str, number: int) -> Path:
        """One release: code, venv and its lock."""
        return self.agent(agent) / "releases" / str(number)

    def code(self, agent: str, number: int) -> Path:
        """The unpacked package; the agent's working directory."""
        return self.release(agent, number) / "code"

    def venv(self, agent: str, number: int) -> Path:
        """The release's virtual environment, or a link to the one that it shares with others."""
        return self.release(agent, number) / "venv"

    def rehearsal(self, agent: str, number: int) -> Path:
        """What a release finds in place of the agent's own directories while it rehearses."""
        return self.release(agent, number) / "rehearsal"

    def requirements_lock(self, agent: str, number: int) -> Path:
        """The dependencies as they were resolved, with hashes."""
        return self.release(agent, number) / "requirements.lock"

    def program_config(self, program: str) -> Path:
        """The one file in conf.d that holds this program and nothing else."""
        return self.conf_d / f"{program}.conf"

    def policy(self, program: str) -> Path:
        """What the launcher does before it becomes the agent."""
        return self.policies / program

    def stdout_log(self, program: str) -> Path:
        """What the program printed, rotated by supervisord."""
        return self.logs / f"{program}.stdout.log"

    def stderr_log(self, program: str) -> Path:
        """What the program printed to standard error, rotated by supervisord."""
        return self.logs / f"{program}.stderr.log"

    def logs_of(self, agent: str, number: int | None = None) -> list[Path]:
        """List the logs that are there of a release, also rotated ones; None: of all releases.

        The name of another agent may begin with this one's, two dashes and a number.
        """
        which = r"\d+" if number is None else str(number)
        name = re.compile(rf"{re.escape(agent)}--{which}\.(?:stdout|stderr|install)\.log(?:\.\d+)?")
        return [path for path in self.logs.glob(f"{agent}--*") if name.fullmatch(path.name)]

    def install_log(self, agent: str, number: int) -> Path:
        """What the installer said while this release was made."""
        return self.logs / f"{agent}--{number}.install.log"

    def checksum_file(self, agent: str) -> Path:
        """The MD5 of the current release's package, as ATOLL keeps it beside the agent."""
        return self.agent(agent) / f"{agent}.md5"
