"""What a process may use, cut down by the process itself before it is an agent.

Standard library only, and little of it: the launcher pays for it at every start. Joining control
groups needs the rights of supervisord, so all of this comes before they are given up.
"""

from __future__ import annotations

import os
import resource
import sys

from deployer.kernel import SandboxError

_OOM_SCORE = b"/proc/self/oom_score_adj"
_NUMBERS = {b"open_files", b"data_bytes", b"processes", b"nice", b"oom_score"}


class ResourceLimits:
    """The part of a launch policy that is about this; every path is bytes, exactly as it came.

    It reads what `deployer.launch_policies.ResourceLimits` wrote, without importing that.

    Attributes:
        groups: Directories of control groups, each to be followed by a dot and our pid, with the
            files in it and what is written there.
        open_files: Descriptors of each process.
        data_bytes: Memory that each process may write; None: any.
        processes: Of our user; None: any.
        cpus: The CPUs to run on; empty: all.
        nice: Added to our nice value.
        oom_score: The least score by which the kernel ends us when memory is short.
    """

    def __init__(self) -> None:
        """Start with the defaults, to be filled line by line."""
        self.groups: list[tuple[bytes, list[tuple[bytes, bytes]]]] = []
        self.open_files = 4096
        self.data_bytes: int | None = None
        self.processes: int | None = None
        self.cpus: set[int] = set()
        self.nice = 0
        self.oom_score = 0

    def read_line(self, key: bytes, text: bytes) -> bool:
        """Take one line of a launch policy.

        Returns:
            False when it is not about this.

        Raises:
            ValueError: It is, and cannot be read.
        """
        if key in _NUMBERS:
            setattr(self, key.decode(), int(text))
        elif key == b"cpus":
            self.cpus = set(map(int, text.split(b",")))
        elif key == b"group":
            self.groups.append((text, []))
        elif key == b"group_setting":
            if not self.groups:
                raise ValueError("no group before it")
            file, _, value = text.partition(b"=")
            self.groups[-1][1].append((file, value))
        else:
            return False
        return True


def join_groups(limits: ResourceLimits) -> None:
    """Make the control groups of this run, set their limits, and join them.

    Each run has groups of its own, named after its pid: what they count is its own, and whatever it
    leaves behind is found in them. The server removes them afterwards.

    Raises:
        SandboxError: A group cannot be had, or does not take a limit.
    """
    for directory, settings in limits.groups:
        group = b"%s.%d" % (directory, os.getpid())
        try:
            os.mkdir(group, 0o755)  # noqa: PTH102 - pathlib costs more than all the rest
        except FileExistsError:
            pass  # of a run before us under the same pid
        except OSError as error:
            raise _error("make the control group", group, error) from error
        for file, value in settings:
            _write(b"%s/%s" % (group, file), value)
        _join(group)


def limit_resources(limits: ResourceLimits) -> None:
    """Set what the kernel limits for each process, soft and hard, and leave no core dumps.

    Raises:
        SandboxError: The kernel does not take a limit.
    """
    _limit(resource.RLIMIT_NOFILE, limits.open_files)
    _limit(resource.RLIMIT_CORE, 0)
    if limits.data_bytes is not None:
        _limit(resource.RLIMIT_DATA, limits.data_bytes)
    if limits.processes is not None:
        _limit(resource.RLIMIT_NPROC, limits.processes)
    if limits.nice:
        os.nice(limits.nice)
    if sys.platform != "linux":
        return
    if limits.cpus:
        try:
            os.sched_setaffinity(0, limits.cpus)
        except OSError as error:
            raise _error("run on CPUs", repr(sorted(limits.cpus)).encode(), error) from error
    # Lowering it needs a privilege; if our parent has raised it already, the higher value stays.
    with open(_OOM_SCORE, "rb") as file:  # noqa: PTH123 - pathlib costs more than all the rest
        score = int(file.read())
    if score < limits.oom_score:
        _write(_OOM_SCORE, b"%d" % limits.oom_score)


def _join(group: bytes) -> None:
    """Move this process, which has one thread, into a control group.

    Where the kernel takes single threads (version 1), one that moves itself waits for nobody; for a
    process that moves all forks of the machine are held up, some 5 ms.
    """
    thread = b"%s/tasks" % group
    if os.path.exists(thread):  # noqa: PTH110 - pathlib costs more than all the rest
        _write(thread, b"0")
    else:
        _write(b"%s/cgroup.procs" % group, b"%d" % os.getpid())


def _limit(kind: int, limit: int) -> None:
    _, hard = resource.getrlimit(kind)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(kind, (limit, limit))


def _write(path: bytes, content: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY)
        try:
            os.write(descriptor, content)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _error(f"write {content.decode()} to", path, error) from error


def _error(act: str, what: bytes, error: OSError) -> SandboxError:
    return SandboxError(f"cannot {act} {os.fsdecode(what)}: {error.strerror}")
