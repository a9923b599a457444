"""supervisord from outside: the only module that knows its XML-RPC, faults and states.

Two ways behind one interface: `PluginSupervisord` speaks to our plugin, which touches one program
at a time; `StockSupervisord` gets by with what any supervisord offers, where each change reads all
configs again. Both can be used from any thread, and no call lasts longer than its timeout.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Protocol

from supervisor.xmlrpc import Faults

from deployer.errors import SupervisordRefusedError
from deployer.model import Act, Desired, Process, RestartPolicy, State
from deployer.supervisor_rpc import Rpc, SupervisordStoppingError

_DO_NOT_WAIT: Final = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of supervisord at one moment.

    Attributes:
        is_running: False while supervisord shuts down or restarts: what happens to processes then
            is nobody's intent.
        processes: What is known of every program, by its name; empty while a supervisord without
            our plugin is not running.
        sockets: Host and port of each listening socket that it holds for programs to take over.
    """

    is_running: bool
    processes: Mapping[str, Process]
    sockets: frozenset[tuple[str, int]] = frozenset()


class Supervisord(Protocol):
    """What the service asks of supervisord. Nothing here waits for a process to change its state.

    Every method raises `SupervisordUnreachableError` when there is no answer in time, or when
    supervisord is shutting down, and `SupervisordRefusedError` when it says no.

    Attributes:
        limits_restarts: Whether programs are restarted as their policies say. Else whatever dies
            later than a second after its start is started again, for ever.
        holds_sockets: Whether it can hold a socket for programs to take over.
    """

    limits_restarts: ClassVar[bool]
    holds_sockets: ClassVar[bool]

    def ping(self) -> None:
        """Make sure that supervisord answers and takes orders."""

    def apply(self, program: str, restarts: RestartPolicy) -> None:
        """Make supervisord know a program as its config in conf.d says, touching no other.

        A program that runs under the same config goes on running, under the new restart policy.
        Nothing is started.

        Raises:
            SupervisordRefusedError: The config is broken, or has changed while the program runs.
        """

    def follow(self, program: str, restarts: RestartPolicy) -> None:
        """Have a program that is known follow a restart policy from now on.

        Raises:
            SupervisordRefusedError: It is unknown.
        """

    def remove(self, program: str) -> None:
        """Make supervisord forget a program that is not running; one that it never knew is fine."""

    def start(self, program: str, restarts: RestartPolicy | None = None) -> Process:
        """Start a program and forget how often it died; one that runs already is fine.

        Args:
            program: Which program.
            restarts: If given, it is made known first, as by `apply`.

        Returns:
            How it is then.

        Raises:
            SupervisordRefusedError: It is unknown, cannot be executed, or is still stopping.
        """

    def stop(self, program: str, *, for_successor: bool = False) -> None:
        """Send SIGTERM to a program's process group, and SIGKILL once its time is up.

        It stays stopped. One that does not run or is unknown is fine.

        Args:
            program: Which program.
            for_successor: Another one is to accept from its held socket next. Connections that
                come from now on are kept for that one, and SIGTERM follows up to 0.2 s later.
        """

    def kill(self, program: str) -> None:
        """Send SIGKILL to a program's process group at once; otherwise like `stop`."""

    def hold(self, host: str, port: int) -> None:
        """Listen at an address for programs that take the socket over; it may be held already.

        A program whose config says so gets it as descriptor 3. Held without one that runs or soon
        will, it is closed after 5 to 10 s.

        Args:
            host: A numeric address.
            port: A TCP port.

        Raises:
            SupervisordRefusedError: It cannot be had, mostly because another process listens there;
                or supervisord holds no sockets.
        """

    def let_go(self, host: str, port: int) -> None:
        """Close a held socket unless a program uses it; one that is not held is fine."""

    def find(self, program: str) -> Process | None:
        """Give what is known of a program; None when it is unknown."""

    def states(self) -> dict[str, Process]:
        """Give what is known of every program, by its name."""

    def takes_orders(self) -> bool:
        """Tell whether it is neither shutting down nor restarting."""

    def snapshot(self) -> Snapshot:
        """Give the same together with whether supervisord is shutting down; answers even then."""


def connect(
    url: str,
    username: str = "",
    password: str = "",
    *,
    has_plugin: bool = True,
    timeout_seconds: float = 10.0,
) -> Supervisord:
    """Choose the way to a supervisord; nothing is sent yet.

    Args:
        url: ``unix:///path/of/supervisor.sock`` or ``http://host:port``.
        username: As in its configuration; empty: none is asked for.
        password: Goes with it.
        has_plugin: Whether it has loaded `deployer.supervisor_plugin`.
        timeout_seconds: For each call.
    """
    rpc = Rpc(url, username, password, timeout_seconds)
    return PluginSupervisord(rpc) if has_plugin else StockSupervisord(rpc)


class PluginSupervisord:
    """The way to a supervisord with our plugin: one program at a time, in milliseconds."""

    limits_restarts: ClassVar = True
    holds_sockets: ClassVar = True

    def __init__(self, rpc: Rpc) -> None:
        """Call through rpc."""
        self._rpc = rpc

    def ping(self) -> None:
        """See `Supervisord.ping`."""
        self._rpc.call("reach supervisord", "agents.ping")

    def apply(self, program: str, restarts: RestartPolicy) -> None:
        """See `Supervisord.apply`."""
        numbers = json.dumps(asdict(restarts))
        self._rpc.call(f"apply the config of {program}", "agents.apply", program, numbers)

    def follow(self, program: str, restarts: RestartPolicy) -> None:
        """See `Supervisord.follow`."""
        numbers = json.dumps(asdict(restarts))
        self._rpc.call(f"have {program} restarted", "agents.follow", program, numbers)

    def remove(self, program: str) -> None:
        """See `Supervisord.remove`."""
        self._rpc.call(f"remove {program}", "agents.remove", program)

    def start(self, program: str, restarts: RestartPolicy | None = None) -> Process:
        """See `Supervisord.start`."""
        numbers = "" if restarts is None else json.dumps(asdict(restarts))
        answer = self._rpc.call(f"start {program}", "agents.start", program, numbers)
        return process_from_document(json.loads(answer))

    def stop(self, program: str, *, for_successor: bool = False) -> None:
        """See `Supervisord.stop`."""
        self._rpc.call(f"stop {program}", "agents.stop", program, for_successor)

    def kill(self, program: str) -> None:
        """See `Supervisord.kill`."""
        self._rpc.call(f"kill {program}", "agents.kill", program)

    def hold(self, host: str, port: int) -> None:
        """See `Supervisord.hold`."""
        self._rpc.call(f"hold port {port}", "agents.hold", host, port)

    def let_go(self, host: str, port: int) -> None:
        """See `Supervisord.let_go`."""
        self._rpc.call(f"let go of port {port}", "agents.let_go", host, port)

    def find(self, program: str) -> Process | None:
        """See `Supervisord.find`."""
        act = f"read the state of {program}"
        document = json.loads(self._rpc.call(act, "agents.state", program))
        return None if document is None else process_from_document(document)

    def states(self) -> dict[str, Process]:
        """See `Supervisord.states`."""
        return dict(self.snapshot().processes)

    def takes_orders(self) -> bool:
        """See `Supervisord.takes_orders`."""
        return _takes_orders(self)

    def snapshot(self) -> Snapshot:
        """See `Supervisord.snapshot`."""
        document = json.loads(self._rpc.call("read the states", "agents.states"))
        processes = map(process_from_document, document["processes"])
        return Snapshot(
            is_running=document["mood"] == "RUNNING",
            processes={process.program: process for process in processes},
            sockets=frozenset((host, port) for host, port in document["sockets"]),
        )


class StockSupervisord:
    """The way to a supervisord without our plugin, by the calls that every one offers.

    Each `apply` has it read all its configs again, which fails when any of them is broken. How
    often a program is started again is what its config says, and is not told.
    """

    limits_restarts: ClassVar = False
    holds_sockets: ClassVar = False

    def __init__(self, rpc: Rpc) -> None:
        """Call through rpc."""
        self._rpc = rpc

    def ping(self) -> None:
        """See `Supervisord.ping`."""
        self._rpc.call("reach supervisord", "supervisor.getState")

    def apply(self, program: str, restarts: RestartPolicy) -> None:  # noqa: ARG002 - stands in the config
        """See `Supervisord.apply`."""
        act = f"apply the config of {program}"
        [[added, changed, removed]] = self._rpc.call(act, "supervisor.reloadConfig")
        if program in removed:
            raise SupervisordRefusedError(f"cannot {act}: it is no longer in supervisord's conf.d")
        if program in changed:
            self._rpc.call(act, "supervisor.removeProcessGroup", program)
        if program in changed or program in added:
            self._rpc.call(act, "supervisor.addProcessGroup", program, fine=(Faults.ALREADY_ADDED,))
        elif program not in self.states():
            raise SupervisordRefusedError(f"cannot {act}: supervisord does not read its file")

    def follow(self, program: str, restarts: RestartPolicy) -> None:
        """See `Supervisord.follow`; it follows what its config says."""

    def remove(self, program: str) -> None:
        """See `Supervisord.remove`."""
        act = f"remove {program}"
        self._rpc.call(act, "supervisor.removeProcessGroup", program, fine=(Faults.BAD_NAME,))

    def start(self, program: str, restarts: RestartPolicy | None = None) -> Process:
        """See `Supervisord.start`."""
        if restarts is not None:
            self.apply(program, restarts)
        act = f"start {program}"
        info = self._rpc.call(act, "supervisor.getProcessInfo", program)
        if info["statename"] == State.STOPPING:
            # supervisord 4.3.0 would answer True and start nothing
            raise SupervisordRefusedError(f"cannot {act}: it is still stopping")
        self._rpc.call(
            act, "supervisor.startProcess", program, _DO_NOT_WAIT, fine=(Faults.ALREADY_STARTED,)
        )
        return process_from_info(self._rpc.call(act, "supervisor.getProcessInfo", program))

    def stop(self, program: str, *, for_successor: bool = False) -> None:  # noqa: ARG002 - it holds no sockets
        """See `Supervisord.stop`."""
        fine = (Faults.NOT_RUNNING, Faults.BAD_NAME)
        self._rpc.call(
            f"stop {program}", "supervisor.stopProcess", program, _DO_NOT_WAIT, fine=fine
        )

    def kill(self, program: str) -> None:
        """See `Supervisord.kill`; children in its group get SIGTERM only."""
        self.stop(program)  # or it would be started again
        fine = (Faults.NOT_RUNNING, Faults.BAD_NAME)
        self._rpc.call(f"kill {program}", "supervisor.signalProcess", program, "KILL", fine=fine)

    def hold(self, host: str, port: int) -> None:
        """See `Supervisord.hold`."""
        raise SupervisordRefusedError(
            f"cannot hold port {port} on {host}: this supervisord has not loaded our plugin"
        )

    def let_go(self, host: str, port: int) -> None:
        """See `Supervisord.let_go`."""

    def find(self, program: str) -> Process | None:
        """See `Supervisord.find`."""
        act, fine = f"read the state of {program}", (Faults.BAD_NAME,)
        info = self._rpc.call(act, "supervisor.getProcessInfo", program, fine=fine)
        return None if info is None else process_from_info(info)

    def takes_orders(self) -> bool:
        """See `Supervisord.takes_orders`."""
        return _takes_orders(self)

    def states(self) -> dict[str, Process]:
        """See `Supervisord.states`."""
        infos = self._rpc.call("read the states", "supervisor.getAllProcessInfo")
        return {info["name"]: process_from_info(info) for info in infos}

    def snapshot(self) -> Snapshot:
        """See `Supervisord.snapshot`."""
        try:
            return Snapshot(is_running=True, processes=self.states())
        except SupervisordStoppingError:
            return Snapshot(is_running=False, processes={})


def _takes_orders(supervisord: Supervisord) -> bool:
    try:
        supervisord.ping()
    except SupervisordStoppingError:
        return False
    return True


# Processes ---------------------------------------------------------------------------------------


def receive_push(data: bytes) -> Process:
    """Read a datagram that the plugin sent to the events socket when a process changed its state.

    Raises:
        SupervisordRefusedError: It is none; whoever can reach the socket can send anything.
    """
    try:
        return process_from_document(json.loads(data))
    except (ValueError, KeyError, TypeError, OverflowError, OSError) as error:
        raise SupervisordRefusedError(
            f"cannot read {data[:80]!r} as the state of a process: {error}"
        ) from error


def process_from_document(document: Mapping[str, Any]) -> Process:
    """Map what the plugin says of a process, times as seconds since 1970, to our noun."""
    return Process(
        program=document["program"],
        state=State(document["state"]),
        pid=document["pid"],
        started_at=_time(document["started_at"]),
        stopped_at=_time(document["stopped_at"]),
        exit_code=document["exit_code"],
        signal=document["signal"],
        restarts=document["restarts"],
        next_try_at=_time(document["next_try_at"]),
        message=document["message"],
        throttled_at=_time(document.get("throttled_at")),
        last_act=_act(document.get("last_act")),
        told_at=int(document.get("told_at", 0)),
    )


def process_from_info(info: Mapping[str, Any]) -> Process:
    """Map supervisor.getProcessInfo; 0 stands for never, and -1 for an end by any signal."""
    state = State(info["statename"])
    ended = state in {State.EXITED, State.STOPPED} and info["stop"] and info["exitstatus"] >= 0
    return Process(
        program=info["name"],
        state=state,
        pid=info["pid"] or None,
        started_at=_time(info["start"] or None),
        stopped_at=_time(info["stop"] or None),
        exit_code=info["exitstatus"] if ended else None,
        message=info["spawnerr"],
    )


def _act(document: Mapping[str, Any] | None) -> Act | None:
    if document is None:
        return None
    at = datetime.fromtimestamp(document["at"], UTC)
    return Act(Desired(document["desired"]), bool(document["is_operators"]), at)


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
