"""Who an agent is to the operating system: its user, its directories, and what it can reach."""

from __future__ import annotations

import logging
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from deployer import faults
from deployer.disks import telling_when_full
from deployer.errors import IsolationTooLowError, NoFreeUidError, StartError
from deployer.event_kinds import EventKind
from deployer.isolation import Quarters, choose_uid
from deployer.launch_policies import Sandbox
from deployer.launches import Place, read_manifest
from deployer.leftovers import end_processes_of, has_processes
from deployer.model import Release, agent_of_program
from deployer.parts import Parts
from deployer.trees import change_owner

_log: Final = logging.getLogger(__name__)

_UID_TRIES: Final = 100


class Identities:
    """Gives agents their own users, where that can be, and what belongs to those."""

    def __init__(self, parts: Parts) -> None:
        """Work with the parts of one server."""
        self._state = parts.state
        self._store = parts.store
        self._files = parts.files
        self._processes = parts.processes
        self._isolation = parts.isolation
        self._required = parts.settings.isolation.require

    def furnish(self, release: Release, place: Place) -> Sandbox:
        """Make what a release finds where it runs, and say what it can reach.

        Whatever an older version, or a server at another level, has left is put right.

        Raises:
            IsolationTooLowError: Agents cannot be kept apart as well here as the settings require.
            NoFreeUidError: Every uid for agents is taken.
            StartError: Something in the agent's directory is not what it must be.
        """
        isolation = self._isolation
        # `serve` refuses before that; but supervisord starts the API again without it, and what the
        # kernel allows may have changed meanwhile.
        if self._required is not None and not isolation.level.is_at_least(self._required):
            raise IsolationTooLowError(
                f"cannot start {release.agent}: agents are kept apart at level {isolation.level}"
                f" here, and isolation.require is {self._required}",
                cause=f"isolation level {isolation.level} is below {self._required}",
                hint="GET /v1/server says what is missing",
            )
        uid = self._uid_of(release.agent)
        directory = self._state.agent(release.agent)
        whole = self._state.release(release.agent, release.number)
        owner = os.geteuid() if uid is None else uid
        try:
            with telling_when_full(directory):
                self._open_to(directory, os.getegid() if uid is None else uid)
                for each in (whole.parent, whole, place.tmp.parent):
                    _make(each, mode=0o755)
                    if each != directory:
                        each.chmod(0o755)
                for each in (place.data, place.tmp, place.run):
                    _hand_over(each, owner)
                faults.reach("identities.furnish")
        except OSError as error:
            raise StartError(
                f"cannot start {release.agent}: {error.filename or directory}:"
                f" {error.strerror or error}",
                cause=f"cannot prepare its directories: {error.strerror or error}",
                hint="data, tmp and run must be directories on this machine, and no symlinks",
            ) from error
        venv = self._files.environment(release)
        return isolation.sandbox(
            Quarters(
                directory=directory,
                fixed=(self._state.code(release.agent, release.number), venv),
                writable=(place.data, place.tmp, place.run),
                python=Path(os.path.realpath(venv / "bin" / "python")),
                shared_bytes=read_manifest(release.manifest).resources.memory_limit,
            ),
            uid,
        )

    def end_escaped(self, agent: str) -> None:
        """End what got away from its process group, once no program of the agent runs."""
        uid = self._store.uids.find(agent)
        if uid is None or any(self._alive_programs(agent)):
            return
        if ended := end_processes_of(uid, self._state.root):
            self._store.events.add(
                EventKind.PROCESS_ESCAPED,
                agent,
                f"{len(ended)} processes of {agent} had left its process group, and were ended:"
                f" pid {', '.join(map(str, ended[:10]))}",
            )

    def free(self, agent: str) -> None:
        """Let the uid of an agent be given to others, once nothing is left that belongs to it."""
        uid = self._store.uids.find(agent)
        if uid is not None and not self._state.agent(agent).exists():
            end_processes_of(uid, self._state.root)
            self._store.uids.remove(agent)

    def tidy(self) -> None:
        """Free uids of agents that are gone, and end what escaped while no server looked."""
        known = {agent.name for agent in self._store.agents.all()}
        for agent in self._store.uids.all():
            if agent in known:
                self.end_escaped(agent)
            else:
                self.free(agent)

    def _alive_programs(self, agent: str) -> Iterator[str]:
        prefix = f"{agent}--"
        for program, process in self._processes.all().items():
            if program.startswith(prefix) and process.state.is_alive:
                named = agent_of_program(program)
                if named is not None and named[0] == agent:
                    yield program

    def _uid_of(self, agent: str) -> int | None:
        """Give the user of an agent, a new one if it has none; None: it runs as the server."""
        uids = self._isolation.agent_uids
        if uids is None:
            return None
        uid = self._store.uids.find(agent)
        if uid is not None and uid in uids:
            return uid
        if uid is not None:
            self._store.uids.remove(agent)  # of a range that is not to be had any more
        # Servers on one machine do not know of each other; each begins somewhere else.
        start = zlib.crc32(os.fsencode(self._state.root))
        for _ in range(_UID_TRIES):
            taken = {*self._store.uids.all().values(), *self._owners(but=agent)}
            uid = choose_uid(uids, taken, given=start + self._store.uids.given())
            if uid is None:
                break
            if has_processes(uid):  # another server's, or something else is wrong
                start += 1
            elif self._store.uids.add(agent, uid):
                return uid
        raise NoFreeUidError(
            f"cannot start {agent}: every uid of {uids[0]}-{uids[-1]} is taken",
            cause="no free uid",
            hint="remove agents, with their data",
        )

    def _owners(self, *, but: str) -> Iterator[int]:
        """Give those who own data below the state directory, whatever the rows say."""
        for directory in os.scandir(self._state.agents):
            if directory.name != but:
                for name in ("data", "tmp", "run"):
                    with suppress(OSError):
                        yield os.lstat(f"{directory.path}/{name}").st_uid

    @staticmethod
    def _open_to(directory: Path, group: int) -> None:
        """Let an agent, and no other, through to its own directory."""
        status = directory.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(20, "is no directory", str(directory))
        if (status.st_uid, status.st_gid) != (os.geteuid(), group):
            os.chown(directory, os.geteuid(), group, follow_symlinks=False)
        directory.chmod(0o750)


def _make(directory: Path, *, mode: int) -> None:
    """Make a directory, unless it is there."""
    try:
        directory.mkdir(mode=mode)
    except FileExistsError:
        return
    faults.reach("identities.make")


def _hand_over(directory: Path, uid: int) -> None:
    """Make a directory that belongs to a user, with all that is in it."""
    _make(directory, mode=0o700)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(20, "is no directory", str(directory))
    if status.st_uid != uid:
        left = change_owner(directory, uid)
        if left:
            _log.warning(
                "%s: %d files with more than one name keep their owner, such as %r",
                directory,
                len(left),
                left[0],
            )
    if stat.S_IMODE(status.st_mode) != 0o700:  # noqa: PLR2004 - as it stands above
        directory.chmod(0o700)
