"""TCP ports of this machine: which are free, which one to take, and who holds the others."""

from __future__ import annotations

import errno
import os
import pwd
import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import psutil

from deployer.errors import NoFreePortError
from deployer.tcp_sockets import LISTENING, sockets_at

if TYPE_CHECKING:
    from psutil._ntuples import pconn, sconn

_COMMAND_CHARACTERS: Final = 120
_SHOWN_HOLDERS: Final = 10
_TCP_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTEN: Final = "0A"

_NO_IPV6: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})
"""What binding ``::`` fails with on a machine without IPv6, or with IPv6 turned off."""


class _Listener(NamedTuple):
    """A socket that listens.

    Attributes:
        port: Where.
        uid: Of whoever made it, or was given it.
        waiting: Connections that nobody has accepted yet.
    """

    port: int
    uid: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that listens on a port.

    Attributes:
        pid: None when the process belongs to another user and we may not look.
        name: The program's short name, such as ``nginx``; empty when unknown.
        user: Whose it is, a name or a number; empty when unknown.
        command: Its command line, cut to 120 characters; empty when unknown.
    """

    pid: int | None
    name: str = ""
    user: str = ""
    command: str = ""

    def __str__(self) -> str:
        """Give the words for a cause, such as ``pid 812 nginx``."""
        if self.pid is None:
            return f"a process of user {self.user}" if self.user else "a process of another user"
        return f"pid {self.pid} {self.name}".rstrip()


def can_bind(port: int, *, host: str = "127.0.0.1") -> bool:
    """Tell whether a new listener on this port would get every address it may want.

    Asked are the address itself, every IPv4 address and, where the machine has IPv6, every IPv6
    address: a stranger on any of them would answer some clients in the agent's place. SO_REUSEADDR
    is set, as servers do, or else the TIME_WAIT of an agent that stopped would take its own port
    away for a minute.

    Args:
        port: A TCP port number.
        host: The numeric address that the listener will bind.

    Returns:
        False when somebody listens there, when the port needs rights that we lack, or when host is
        no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return (
        _binds(family, host, port)
        and _binds(socket.AF_INET, "0.0.0.0", port)  # noqa: S104 - asked and closed, never served
        and _binds(socket.AF_INET6, "::", port)
    )


def _binds(family: socket.AddressFamily, address: str, port: int) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # A dual-stack bind would ask for IPv4 once more, and hide which one is taken.
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address, port))
    except OSError as error:
        return address == "::" and error.errno in _NO_IPV6
    return True


def choose_port(
    candidates: Sequence[int],
    leased: Collection[int],
    *,
    preferred: Sequence[int] = (),
    is_free: Callable[[int], bool] = can_bind,
) -> int:
    """Choose a port that no agent has leased and nobody else listens on.

    The choice holds only once the store has recorded the lease: two callers may choose alike, and
    the unique constraint on the lease table lets one of them through.

    Args:
        candidates: TCP port numbers to choose from, in the order to try them.
        leased: Port numbers that agents hold now, running or not.
        preferred: Tried first, as far as they are among candidates: the port an agent had before,
            the one its manifest asks for.
        is_free: Tells whether the machine can bind a port.

    Returns:
        A port number out of candidates.

    Raises:
        NoFreePortError: Every candidate is leased or in use; the figures are in its sentence.
    """
    taken = frozenset(leased)
    wished = [port for port in preferred if port in candidates]
    open_to_us = [port for port in dict.fromkeys((*wished, *candidates)) if port not in taken]
    for port in open_to_us:
        if is_free(port):
            return port
    span = f"{min(candidates)}-{max(candidates)}" if candidates else "an empty range"
    held = len(set(candidates)) - len(open_to_us)
    raise NoFreePortError(
        f"cannot choose a port: of the {len(set(candidates))} ports in {span}, {held} are leased "
        f"to agents and {len(open_to_us)} are in use by other programs; "
        "remove an agent, end those programs, or widen the range in the settings",
        cause=f"no free port in {span}",
        hint="atoll-deployer ports lists the leases and the foreign holders",
        evidence=[
            f"port {port} is held by {describe_holder(port) or 'somebody unknown'}"
            for port in open_to_us[:_SHOWN_HOLDERS]
        ],
    )


def holder_of(port: int) -> Holder | None:
    """Find the process that listens on a port, on any address.

    Takes some 20 ms on a machine with 300 processes, so it is for failures, not for polling.

    Args:
        port: A TCP port number.

    Returns:
        Who listens, with as much as we may see of it; None when nobody does. A socket that
        several processes share is said to be the one's with the lowest pid.
    """
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:  # macOS shows nothing at all to ordinary users
        return None
    pids = [connection.pid for connection in connections if _listening_on(connection) == port]
    if not pids:
        return None
    visible = [pid for pid in pids if pid is not None]
    if visible:
        return _describe(min(visible))
    uid = next((each.uid for each in _listeners() if each.port == port), None)
    return Holder(None, user="" if uid is None else _name_of(uid))


def describe_holder(port: int) -> str:
    """Say who listens on a port, with the command that it runs; empty when nobody does.

    Such as ``pid 812 nginx (nginx: master process /usr/sbin/nginx)``.
    """
    holder = holder_of(port)
    if holder is None:
        return ""
    return f"{holder} ({holder.command})" if holder.command else str(holder)


def _describe(pid: int) -> Holder:
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            name, user, command = process.name(), process.username(), process.cmdline()
    except psutil.Error:  # gone, or not ours to look into: its pid is still worth telling
        return Holder(pid)
    return Holder(pid, name, user, " ".join(command)[:_COMMAND_CHARACTERS])


def taken(candidates: Collection[int]) -> set[int]:
    """Find those ports that anybody on this machine listens on, in one look.

    Args:
        candidates: TCP port numbers.
    """
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:  # macOS shows nothing at all to ordinary users
        return {port for port in candidates if not can_bind(port)}
    wanted = frozenset(candidates)
    found = {_listening_on(connection) for connection in connections}
    return {port for port in found if port is not None and port in wanted}


def listening_ports(pid: int) -> set[int]:
    """Find the TCP ports that a process listens on, with all that it started.

    Counted are its descendants, and those of its user in its process group, so that a child which
    outlived a main process is still found. Sockets that came by inheritance count for whoever has
    them open.

    Args:
        pid: The main process, which leads its own process group; it may have ended already.

    Returns:
        Port numbers. Where we may not look into a process (root needs CAP_SYS_PTRACE for those of
        others), it is all that its user listens on; none if that is our own, for too many share it.
    """
    return {port for process in _process_tree(pid) for port in _ports_of(process)}


def listens(pid: int, port: int) -> bool:
    """Tell whether a process, or one that it started, listens on a port.

    The main process is asked first, which takes a fraction of a millisecond, the rest of the tree
    only if it does not.

    Args:
        pid: The main process, which leads its own process group.
        port: A TCP port number.
    """
    try:
        listeners = {
            f"socket:[{each.inode}]"
            for family in (socket.AF_INET, socket.AF_INET6)
            for each in sockets_at(port, family, LISTENING)
        }
        if listeners and _has_open(pid, listeners):
            return True
    except OSError:  # gone, not ours to look into, or no such questions are answered here
        pass
    return port in listening_ports(pid)


def numeric(host: str) -> str:
    """Give the first address that a host name stands for; an address is itself.

    Raises:
        OSError: The name is unknown.
    """
    return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])


def count_waiting(port: int) -> int:
    """Count the connections to a port that nobody has accepted yet.

    Args:
        port: A TCP port number.

    Returns:
        Of all its listeners together, as proc_net_tcp of the Linux kernel's documentation puts
        it; 0 where the system does not say.
    """
    return sum(each.waiting for each in _listeners() if each.port == port)


def _listeners() -> Iterator[_Listener]:
    """Read the kernel's tables, which anybody may; nothing where there are none."""
    for table in _TCP_TABLES:
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state, queues, _, _, uid, _ = line.split(maxsplit=8)
            if state == _LISTEN:
                port, waiting = local.rpartition(":")[2], queues.rpartition(":")[2]
                yield _Listener(int(port, 16), int(uid), int(waiting, 16))


def _has_open(pid: int, names: Collection[str]) -> bool:
    """Tell whether a process has one of these open, as proc_pid_fd(5) names them.

    Raises:
        OSError: It is gone, or we may not look into it.
    """
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            if str(descriptor.readlink()) in names:
                return True
    return False


def _process_tree(pid: int) -> Iterator[psutil.Process]:
    members: set[int] = set()
    user = _user_of(pid)
    for process in sorted(psutil.process_iter(["ppid"]), key=_created_at):
        is_member = process.pid == pid or process.info["ppid"] in members
        # others of the session can join a group; of a process that has ended no user is known
        if is_member or (_group_of(process.pid) == pid and user in {None, _user_of(process.pid)}):
            members.add(process.pid)
            yield process


def _created_at(process: psutil.Process) -> float:
    """Sort parents before their children: pids wrap around, times do not."""
    try:
        return process.create_time()
    except psutil.Error:
        return 0.0


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None


def _user_of(pid: int) -> int | None:
    with suppress(psutil.Error):
        return psutil.Process(pid).uids().real
    return None


def _ports_of(process: psutil.Process) -> set[int]:
    try:
        connections = process.net_connections("tcp")
    except psutil.AccessDenied:
        return _ports_of_user(process)
    except psutil.Error:
        return set()
    found = {_listening_on(connection) for connection in connections}
    return {port for port in found if port is not None}


def _ports_of_user(process: psutil.Process) -> set[int]:
    """Find what the user of a process listens on, who must be another one than ours."""
    try:
        uid = process.uids().effective
    except psutil.Error:
        return set()
    return set() if uid == os.geteuid() else {each.port for each in _listeners() if each.uid == uid}


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _listening_on(connection: sconn | pconn) -> int | None:
    """Give the port of a listener, and None for every other connection."""
    if connection.status != psutil.CONN_LISTEN or not connection.laddr:
        return None
    return connection.laddr.port
