"""What each agent uses: one pass over /proc for the whole machine, and who belongs to whom.

The fields are those of /proc/PID/stat in proc(5).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from deployer.state_dir import MARKER, PROGRAM

_HISTORY: Final = 60
_PARTIAL_LOOKS: Final = 4
"""So many looks in a row pass strangers over."""

_KERNEL_THREADS: Final = 2
"""The parent of all of them."""

_PROGRAM: Final = f"{PROGRAM}=".encode()
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """What all processes of one run use together.

    Attributes:
        pid: The run's main process.
        cpus: CPU seconds a second since the look before; None at the first look.
        cpu_seconds: CPU seconds so far; never fewer than before.
        memory_bytes: Resident; what processes share is counted for each of them.
        processes: How many there are.
        pids: How many there are with their threads, as limits count them.
        members: The processes, each with its start in clock ticks, so that a reused number is not
            taken for it.
        measured_at: When.
    """

    pid: int
    cpus: float | None
    cpu_seconds: float
    memory_bytes: int
    processes: int
    pids: int
    members: tuple[tuple[int, int], ...]
    measured_at: datetime


class Sample(NamedTuple):
    """What is kept of a usage for a minute; of hundreds of agents all of it would be megabytes.

    Attributes:
        cpus: As in `Usage`.
        memory_bytes: The same.
    """

    cpus: float | None
    memory_bytes: int


@dataclass(slots=True)
class _Process:
    """One line of the process table, as far as it matters here."""

    pid: int
    parent: int
    group: int
    session: int
    ticks: int
    threads: int
    started: int
    memory_bytes: int


@dataclass(slots=True)
class _Sum:
    pid: int
    ticks: int = 0
    memory_bytes: int = 0
    threads: int = 0
    members: list[tuple[int, int]] = field(default_factory=list)


class Usages:
    """The latest usage of each program, and samples of the last minute.

    A process belongs to the run whose main process it is, or is a descendant of, or shares process
    group or session with, or whose variables it carries, if it is of the same user; and it does so
    for life, also when its parent ends and it makes a session of its own. What control groups list
    belongs in any case.
    """

    def __init__(
        self,
        state_root: Path,
        *,
        read_table: Callable[[Container[int]], Iterable[bytes]] | None = None,
        read_variables: Callable[[int], bytes | None] | None = None,
        read_user: Callable[[int], int | None] | None = None,
    ) -> None:
        """Begin with nothing known.

        Args:
            state_root: Of the server whose agents are measured.
            read_table: Gives the contents of every /proc/PID/stat, but for some numbers; by
                default the kernel's.
            read_variables: Gives those of /proc/PID/environ, None if it is closed; the same.
            read_user: Gives the uid of a process; the same.
        """
        self._marker = f"{MARKER}={state_root}".encode(errors="surrogateescape")
        self._read_table = read_table or _read_stats
        self._read_variables = read_variables or _read_environ
        self._read_user = read_user or _read_user
        self._strangers: dict[int, int] = {}  # when each started
        self._mains: dict[str, int] = {}
        self._partial_looks = 0
        self._usages: dict[str, Usage] = {}
        self._history: dict[str, deque[Sample]] = {}
        self._owners: dict[tuple[int, int], tuple[str, int]] = {}
        self._ticks: dict[str, tuple[int, int, float]] = {}
        self._lines: dict[bytes, _Process] = {}

    def measure(
        self, mains: Mapping[str, int], grouped: Mapping[str, Collection[int]] | None = None
    ) -> dict[str, Usage]:
        """Look at the processes of the machine once; meant for one thread.

        Who belongs to no agent never will, unless a run is new or a group lists it: such strangers,
        most of a machine, are looked at again only every fifth time, for numbers are given anew.

        Args:
            mains: The main process of each program that runs.
            grouped: Processes that are known to belong to a program, as control groups list them.

        Returns:
            The usage of each program whose main process lives.
        """
        if grouped or mains != self._mains or self._partial_looks == _PARTIAL_LOOKS:
            known, self._mains, self._partial_looks = {}, dict(mains), 0
        else:
            known, self._partial_looks = self._strangers, self._partial_looks + 1
        # most processes have done nothing since the last look: their lines need no parsing
        parsed = {line: self._lines.get(line) or _parse(line) for line in self._read_table(known)}
        table = {each.pid: each for each in parsed.values()}
        moment = time.monotonic()
        owners = self._find_owners(table, mains, grouped or {})
        self._strangers = {
            **known,
            **{pid: each.started for pid, each in table.items() if pid not in owners},
        }
        self._lines = {line: each for line, each in parsed.items() if each.pid in owners}
        sums: dict[str, _Sum] = {}
        self._owners = {}
        for pid, program in owners.items():
            process = table[pid]
            each = sums.setdefault(program, _Sum(mains[program]))
            each.ticks += process.ticks
            each.memory_bytes += process.memory_bytes
            each.threads += process.threads
            each.members.append((pid, process.started))
            self._owners[pid, process.started] = program, mains[program]
        measured_at = datetime.now(UTC)
        usages = {
            program: self._usage(program, each, moment, measured_at)
            for program, each in sums.items()
            if mains[program] in table
        }
        self._usages = usages
        self._ticks = {program: (each.pid, each.ticks, moment) for program, each in sums.items()}
        for gone in self._history.keys() - usages.keys():
            del self._history[gone]
        for program, usage in usages.items():
            samples = self._history.setdefault(program, deque(maxlen=_HISTORY))
            samples.append(Sample(usage.cpus, usage.memory_bytes))
        return usages

    def of(self, program: str) -> Usage | None:
        """Give the latest usage of a program; None while it does not run."""
        return self._usages.get(program)

    def history(self, program: str) -> tuple[Sample, ...]:
        """Give what a program used in the last minute, oldest first."""
        return tuple(self._history.get(program, ()))

    def _find_owners(
        self,
        table: Mapping[int, _Process],
        mains: Mapping[str, int],
        grouped: Mapping[str, Collection[int]],
    ) -> dict[int, str]:
        """Say to which program each process belongs; those that belong to none are left out."""
        owners: dict[int, str] = {}
        by_main = {pid: program for program, pid in mains.items()}
        children: defaultdict[int, list[int]] = defaultdict(list)
        for process in table.values():
            children[process.parent].append(process.pid)
            program = by_main.get(process.pid)
            if program is None:
                former, main = self._owners.get((process.pid, process.started), ("", 0))
                program = former if mains.get(former) == main else None
            if program is None:
                # any process of a session can join any of its groups, whoever it belongs to
                program = next(
                    (
                        by_main[each]
                        for each in (process.group, process.session)
                        if each in by_main and self._is_same_user(process.pid, each)
                    ),
                    None,
                )
            if program is not None:
                owners[process.pid] = program
        for program, pids in grouped.items():
            owners.update((pid, program) for pid in pids if pid in table and program in mains)
        _adopt_descendants(owners, list(owners), children)
        claimed = self._claim_strangers(table, mains, owners)
        _adopt_descendants(owners, claimed, children)
        return owners

    def _claim_strangers(
        self, table: Mapping[int, _Process], mains: Mapping[str, int], owners: dict[int, str]
    ) -> list[int]:
        """Find those that left their run before anybody saw them in it, by their variables."""
        claimed = []
        by_user: dict[int | None, str] | None = None
        for process in table.values():
            is_known = self._strangers.get(process.pid) == process.started
            if process.pid in owners or process.parent == _KERNEL_THREADS or is_known:
                continue
            variables = self._read_variables(process.pid)
            if variables is None:  # root without CAP_SYS_PTRACE goes by users
                by_user = self._by_user(mains) if by_user is None else by_user
                program = by_user.get(self._read_user(process.pid), "")
            else:
                program = self._program_in(variables.split(b"\0"))
            # anybody can write anything into variables: an agent could be ended for another one
            if program in mains and self._is_same_user(process.pid, mains[program]):
                owners[process.pid] = program
                claimed.append(process.pid)
        return claimed

    def _is_same_user(self, pid: int, main: int) -> bool:
        user = self._read_user(pid)
        return user is not None and user == self._read_user(main)

    def _by_user(self, mains: Mapping[str, int]) -> dict[int | None, str]:
        """Find the programs that run alone as a user, who is not our own."""
        programs: defaultdict[int | None, list[str]] = defaultdict(list)
        for program, main in mains.items():
            programs[self._read_user(main)].append(program)
        return {
            user: found[0]
            for user, found in programs.items()
            if user not in {None, os.geteuid()} and len(found) == 1
        }

    def _program_in(self, variables: Collection[bytes]) -> str:
        """Find the program that a process was started for; asked once of each process."""
        if self._marker not in variables:
            return ""
        named = (each for each in variables if each.startswith(_PROGRAM))
        return next(named, _PROGRAM)[len(_PROGRAM) :].decode(errors="replace")

    def _usage(self, program: str, each: _Sum, moment: float, measured_at: datetime) -> Usage:
        before, former = self._ticks.get(program), self._usages.get(program)
        cpus, cpu_seconds = None, each.ticks / _TICKS
        if before is not None and former is not None and before[0] == former.pid == each.pid:
            # what an orphan used is nobody's when it ends, so the sum may fall
            used = max(0, each.ticks - before[1]) / _TICKS
            cpu_seconds = former.cpu_seconds + used
            if moment > before[2]:
                cpus = used / (moment - before[2])
        return Usage(
            pid=each.pid,
            cpus=cpus,
            cpu_seconds=cpu_seconds,
            memory_bytes=each.memory_bytes,
            processes=len(each.members),
            pids=each.threads,
            members=tuple(each.members),
            measured_at=measured_at,
        )


def _adopt_descendants(
    owners: dict[int, str], pids: list[int], children: Mapping[int, list[int]]
) -> None:
    """Give everything below some owned processes to the same owner."""
    while pids:
        pid = pids.pop()
        for child in children.get(pid, ()):
            if child not in owners:
                owners[child] = owners[pid]
                pids.append(child)


def proportional_bytes(members: Iterable[tuple[int, int]]) -> int | None:
    """Add up what processes take of main memory, each page shared among those that map it.

    Asking costs milliseconds for a large process, so it is for those that seem to be over a limit.

    Returns:
        Bytes; None where the kernel does not tell, or not us.
    """
    total, is_known = 0, False
    for pid, _ in members:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup", "rb") as file:  # noqa: PTH123 - as below
            for line in file:
                if line.startswith(b"Pss:"):
                    total += int(line.split()[1]) * 1024
                    is_known = True
    return total if is_known else None


def end_members(members: Iterable[tuple[int, int]]) -> None:
    """End processes by SIGKILL, also those that have left the process group of their run.

    Args:
        members: As in `Usage`; a number that another process has by now is left alone.
    """
    for pid, started in members:
        with contextlib.suppress(OSError):
            if _parse(Path("/proc", str(pid), "stat").read_bytes()).started == started:
                os.kill(pid, signal.SIGKILL)


def _read_stats(known: Container[int]) -> Iterable[bytes]:
    """Read the process table, with as few calls as can be: a busy machine has a thousand lines.

    Args:
        known: Numbers of processes to pass over.
    """
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in os.listdir(proc):  # noqa: PTH208 - pathlib would cost more than all the rest
            if name.isdecimal() and int(name) not in known:
                try:
                    descriptor = os.open(f"{name}/stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
                except OSError:
                    continue  # it has ended
                try:
                    yield os.read(descriptor, 4096)
                except OSError:
                    continue
                finally:
                    os.close(descriptor)
    finally:
        os.close(proc)


def _read_environ(pid: int) -> bytes | None:
    try:
        return Path("/proc", str(pid), "environ").read_bytes()
    except PermissionError:
        return None
    except OSError:
        return b""


def _read_user(pid: int) -> int | None:
    # /proc/PID itself may belong to root: a process can close itself to its own user
    try:
        status = Path("/proc", str(pid), "status").read_bytes()
        return int(status.partition(b"\nUid:")[2].split(None, 1)[0])
    except (OSError, IndexError):
        return None


def _parse(stat: bytes) -> _Process:
    # the name in brackets may hold anything, brackets and spaces included
    name_end = stat.rindex(b")")
    fields = stat[name_end + 2 :].split(None, 22)  # what comes after does not matter here
    return _Process(
        pid=int(stat[: stat.index(b" ")]),
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        ticks=int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14]),
        threads=int(fields[17]),
        started=int(fields[19]),
        memory_bytes=int(fields[21]) * _PAGE_BYTES,
    )
