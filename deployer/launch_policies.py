"""Launch policies as text: what the launcher does before it becomes an agent.

The reader is `deployer.launcher.read_policy`, which works on bytes and knows no encoding: whatever
an author wrote arrives in the agent exactly as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deployer.errors import ProgramConfigError

HEADER: Final = "atoll-launch-policy 1"
"""The first line; a launcher of another format refuses the file."""

_VARIABLE_NAME: Final = re.compile(r"[^=\0]+")


@dataclass(frozen=True, slots=True)
class Cover:
    """A directory that becomes empty and private, on a file system in memory.

    Attributes:
        path: The directory; absolute, without symlinks.
        mode: Of what is there instead.
        size_bytes: How much that takes at most.
    """

    path: Path
    mode: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What a process can reach. The default limits nothing.

    The launcher reads it as a `deployer.sandboxes.Sandbox`, and makes it so.

    Attributes:
        uid: User and group that it becomes; None: it stays the server's.
        has_namespaces: It has mounts and System V IPC of its own; covers and exposed need that.
        covers: None lies below another one.
        exposed: What stays of what is covered, writable as far as its modes allow.
        exposed_read_only: The same, but nobody can write there. Comes after exposed, so that a part
            of that can be made so.
        hides_processes: It sees only processes of its own user in /proc.
        has_landlock: Everything is refused but what the following name, and the leased port.
        readable: Files, or directories with all below them.
        writable: The same.
        unlisted: Writable directories in which it cannot see names.
    """

    uid: int | None = None
    has_namespaces: bool = False
    covers: tuple[Cover, ...] = ()
    exposed: tuple[Path, ...] = ()
    exposed_read_only: tuple[Path, ...] = ()
    hides_processes: bool = False
    has_landlock: bool = False
    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    unlisted: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class RunGroupPlan:
    """A control group that the launcher makes for one run, and joins.

    Attributes:
        directory: What its path begins with; a dot and the pid of the run are added.
        settings: Files in it and what is written there, in this order, before it is joined.
    """

    directory: Path
    settings: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """How a run is held to what it may use.

    The launcher reads it as a `deployer.resource_limits.ResourceLimits`, and makes it so.

    Attributes:
        groups: Control groups; they hold all processes of the run together.
        data_bytes: Of each process (RLIMIT_DATA); None: any.
        processes: Of the run's user (RLIMIT_NPROC); None: any.
        cpus: The CPUs that it may run on; empty: all.
        nice: Added to its nice value.
        oom_score: Added to the score by which the kernel chooses whom to end when the machine is
            out of memory: agents go before the server.
    """

    groups: tuple[RunGroupPlan, ...] = ()
    data_bytes: int | None = None
    processes: int | None = None
    cpus: tuple[int, ...] = ()
    nice: int = 0
    oom_score: int = 500


@dataclass(frozen=True, slots=True)
class LaunchPolicy:
    """Everything that the launcher needs to start one program.

    Attributes:
        program: The supervisord program, ``NAME--N``.
        executable: What is executed; an absolute path.
        arguments: After the executable; any text without NUL.
        directory: The working directory; an absolute path.
        port: The leased TCP port, handed over as PORT and ATOLL_AGENT_PORT.
        variables: The whole environment but for those two: nothing is inherited.
        umask: Of the agent's process.
        open_files: The most descriptors it may hold, soft and hard.
        stop_seconds: Between SIGTERM and SIGKILL at a stop; rounded up to whole seconds.
        resources: How it is held to what it may use.
        inherits_from: The numeric host whose listening socket supervisord hands over as descriptor
            3; empty: the program binds one itself. Like the port it stands in the command.
        sandbox: What it can reach.
    """

    program: str
    executable: Path
    arguments: tuple[str, ...]
    directory: Path
    port: int
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    umask: int = 0o077
    open_files: int = 4096
    stop_seconds: float = 10.0
    resources: ResourceLimits = ResourceLimits()
    inherits_from: str = ""
    sandbox: Sandbox = Sandbox()


def policy_bytes(policy: LaunchPolicy) -> bytes:
    r"""Write a policy as lines of ``key value``, with ``\\``, ``\n`` and ``\r`` escaped.

    The last line is ``end``, so that half a file is never mistaken for a whole one.

    Raises:
        ProgramConfigError: A text holds a NUL, a variable's name holds ``=`` or is empty, or a path
            is not absolute: no process could be started so.
    """
    lines = [HEADER]
    for key, value in _fields(policy):
        if "\0" in value:
            raise ProgramConfigError(
                f"cannot start {policy.program}: its {key} {_shown(key, value)} holds a NUL"
                " character",
                cause=f"NUL character in {key}",
            )
        lines.append(f"{key} {_escape(value)}")
    try:
        # surrogateescape: a path or variable that is no UTF-8 keeps the bytes it came with
        return "\n".join([*lines, "end", ""]).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise ProgramConfigError(
            f"cannot start {policy.program}: {error.object[error.start]!r} in its policy is half a"
            " character and has no bytes",
            cause="half a character in the policy",
        ) from error


def _fields(policy: LaunchPolicy) -> Iterator[tuple[str, str]]:
    for key, path in (("directory", policy.directory), ("executable", policy.executable)):
        if not path.is_absolute():
            raise ProgramConfigError(
                f"cannot start {policy.program}: its {key} {path} is not an absolute path"
            )
    yield "program", policy.program
    yield "directory", str(policy.directory)
    yield "umask", f"{policy.umask:o}"
    yield "open_files", str(policy.open_files)
    yield from _resource_fields(policy.resources)
    yield "executable", str(policy.executable)
    for argument in policy.arguments:
        yield "argument", argument
    for name, value in policy.variables.items():
        if not _VARIABLE_NAME.fullmatch(name):
            raise ProgramConfigError(
                f"cannot start {policy.program}: {name!r} cannot be the name of a variable"
            )
        yield "variable", f"{name}={value}"
    yield from _sandbox_fields(policy.sandbox)


def _sandbox_fields(sandbox: Sandbox) -> Iterator[tuple[str, str]]:
    if sandbox.uid is not None:
        yield "user", str(sandbox.uid)
    for key, is_wanted in (
        ("namespaces", sandbox.has_namespaces),
        ("hide_processes", sandbox.hides_processes),
        ("landlock", sandbox.has_landlock),
    ):
        if is_wanted:
            yield key, ""
    for cover in sandbox.covers:
        yield "cover", f"{cover.mode:o} {cover.size_bytes} {cover.path}"
    for key, paths in (
        ("exposed", sandbox.exposed),
        ("exposed_read_only", sandbox.exposed_read_only),
        ("readable", sandbox.readable),
        ("writable", sandbox.writable),
        ("unlisted", sandbox.unlisted),
    ):
        for path in paths:
            yield key, str(path)


def _resource_fields(resources: ResourceLimits) -> Iterator[tuple[str, str]]:
    for group in resources.groups:
        yield "group", str(group.directory)
        for file, value in group.settings:
            yield "group_setting", f"{file}={value}"
    if resources.data_bytes is not None:
        yield "data_bytes", str(resources.data_bytes)
    if resources.processes is not None:
        yield "processes", str(resources.processes)
    if resources.cpus:
        yield "cpus", ",".join(map(str, resources.cpus))
    if resources.nice:
        yield "nice", str(resources.nice)
    yield "oom_score", str(resources.oom_score)


def _shown(key: str, value: str) -> str:
    """Show a value in a sentence; of a variable its name only, for the rest may be secret."""
    return value.partition("=")[0] if key == "variable" else repr(value)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
