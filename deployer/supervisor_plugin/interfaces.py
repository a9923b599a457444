"""The remote procedures, ``agents.NAME`` of supervisord's XML-RPC; none of them waits."""

from __future__ import annotations

import json
from typing import Any

from supervisor.options import BadCommand, NoPermission, NotExecutable, NotFound
from supervisor.states import (
    RUNNING_STATES,
    ProcessStates,
    SupervisorStates,
    getSupervisorStateDescription,
)
from supervisor.xmlrpc import Faults, RPCError

from deployer.model import RestartPolicy
from deployer.supervisor_plugin.groups import Groups
from deployer.supervisor_plugin.processes import AgentProcess
from deployer.supervisor_plugin.sockets import HeldSockets


class AgentsInterface:
    """What the API may ask; every public method here can be called from outside.

    An ``RPCError`` becomes a fault, ``NAME: reason``; any other exception becomes HTTP status 500.
    """

    def __init__(self, supervisord: Any, groups: Groups, sockets: HeldSockets) -> None:
        """Answer for the groups of supervisord, and the sockets held for them."""
        self._supervisord = supervisord
        self._groups = groups
        self._sockets = sockets

    def ping(self) -> bool:
        """Answer True, as long as orders are taken."""
        self._take_orders()
        return True

    def check(self, name: str, text: str) -> bool:
        """Answer True if text would do as the config of program name; a fault says why not."""
        self._groups.parse(name, text)
        return True

    def apply(self, name: str, restarts: str) -> str:
        """Make a program known as its file in conf.d says; nothing is started.

        Args:
            name: The program and its file, without ``.conf``.
            restarts: The fields of `deployer.model.RestartPolicy` as JSON.

        Returns:
            added, replaced, or updated (nothing but the restart policy).
        """
        self._take_orders()
        return self._groups.put(name, _policy(restarts))

    def remove(self, name: str) -> bool:
        """Forget a stopped program; one that is not known is fine."""
        self._take_orders()
        self._groups.remove(name)
        return True

    def follow(self, name: str, restarts: str) -> bool:
        """Have a program follow another restart policy; nothing else of it is looked at.

        Args:
            name: The program.
            restarts: As for `apply`.
        """
        self._take_orders()
        self._process(name).restarts.policy = _policy(restarts)
        return True

    def start(self, name: str, restarts: str = "") -> str:
        """Start a program; one that waits for its next try is started at once.

        Args:
            name: The program.
            restarts: If there are any, it is made known first, as by `apply`.

        Returns:
            What `state` says of it then.
        """
        self._take_orders()
        if restarts:
            self.apply(name, restarts)
        process = self._process(name)
        state = process.get_state()
        if state in {ProcessStates.STARTING, ProcessStates.RUNNING}:
            return json.dumps(process.document())
        if state == ProcessStates.STOPPING:
            raise RPCError(Faults.FAILED, f"{name} is still stopping")
        if state == ProcessStates.UNKNOWN:
            raise RPCError(Faults.FAILED, f"{name} could not be signalled, nobody knows its state")
        try:
            process.get_execv_args()
        except NotFound as error:
            raise RPCError(Faults.NO_FILE, str(error)) from error
        except (BadCommand, NotExecutable, NoPermission, ValueError) as error:
            raise RPCError(Faults.NOT_EXECUTABLE, str(error)) from error
        process.start_for_api()
        return json.dumps(process.document())

    def stop(self, name: str, for_successor: bool = False) -> bool:  # noqa: FBT001, FBT002 - XML-RPC has no names
        """Send the stop signal to a program, and SIGKILL later if it must be.

        Args:
            name: The program.
            for_successor: Another program is to accept from its held socket next: new connections
                are kept for that one before this one is told to end.
        """
        self._take_orders()
        process = self._groups.find(name)
        if process is not None and process.get_state() in RUNNING_STATES:
            self._insist(process.stop_for_successor() if for_successor else process.stop_for_api())
        return True

    def kill(self, name: str) -> bool:
        """Send SIGKILL to a program's process group; it stays stopped."""
        process = self._groups.find(name)
        state = process and process.get_state()
        if process is not None and state in {*RUNNING_STATES, ProcessStates.STOPPING}:
            self._insist(process.kill_now())
        return True

    def hold(self, host: str, port: int) -> bool:
        """Listen at an address for programs that take the socket over; it may be held already.

        Args:
            host: A numeric address.
            port: A TCP port.
        """
        self._take_orders()
        try:
            self._sockets.hold((host, port))
        except (ValueError, TypeError) as error:
            raise RPCError(Faults.BAD_ARGUMENTS, f"no address to listen on: {error}") from error
        except OSError as error:
            reason = f"cannot listen on {host} port {port}: {error}"
            raise RPCError(Faults.FAILED, reason) from error
        return True

    def let_go(self, host: str, port: int) -> bool:
        """Close a held socket, unless a program accepts from it or soon will.

        Returns:
            False when it stays open for that reason.
        """
        is_held = (host, port) in self._sockets
        if is_held and (host, port) in self._groups.awaited_addresses():
            return False
        self._sockets.let_go((host, port))
        return True

    def state(self, name: str) -> str:
        """Say all of one program as JSON, in every mood; null: it is not known."""
        process = self._groups.find(name)
        return json.dumps(process and process.document())

    def states(self) -> str:
        """Say all as JSON: supervisord's mood, our processes, held sockets; in every mood."""
        return json.dumps(
            {
                "mood": getSupervisorStateDescription(self._supervisord.options.mood),
                "processes": [process.document() for process in self._groups.processes()],
                "sockets": self._sockets.addresses(),
            }
        )

    def _take_orders(self) -> None:
        if self._supervisord.options.mood != SupervisorStates.RUNNING:
            raise RPCError(Faults.SHUTDOWN_STATE)

    def _process(self, name: str) -> AgentProcess:
        process = self._groups.find(name)
        if process is None:
            raise RPCError(Faults.BAD_NAME, name)
        return process

    def _insist(self, failure: str | None) -> None:
        if failure is not None:
            raise RPCError(Faults.FAILED, failure)


def _policy(restarts: str) -> RestartPolicy:
    try:
        return RestartPolicy(**json.loads(restarts))
    except (ValueError, TypeError) as error:
        raise RPCError(Faults.BAD_ARGUMENTS, f"no restart policy: {error}") from error
