"""What supervisord cannot do by itself, loaded into it as ``[rpcinterface:agents]``.

supervisord is one thread and one loop. An exception that leaves a callback, a transition or a reap
ends it, and every agent with it: so nothing here lets one out. The loop turns at least once a
second; here it also turns as soon as a child has died and whenever something of ours is due.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from supervisor import events

from deployer.limits.groups import remove_leftover_groups
from deployer.state_dir import MARKER, StateDir
from deployer.supervisor_plugin.attention import Attention
from deployer.supervisor_plugin.forks import launch_in_forks
from deployer.supervisor_plugin.groups import Everything, Groups
from deployer.supervisor_plugin.interfaces import AgentsInterface
from deployer.supervisor_plugin.locks import Lock, LockHeldError
from deployer.supervisor_plugin.pushes import Pushes
from deployer.supervisor_plugin.sockets import HeldSockets
from deployer.supervisor_plugin.throttles import Throttle
from deployer.supervisor_plugin.wakeups import SignalWakeup, wake_when_due, wake_when_more_are_dead

_interfaces: weakref.WeakKeyDictionary[Any, AgentsInterface] = weakref.WeakKeyDictionary()


def make_agents_interface(
    supervisord: Any,
    *,
    conf_d: str,
    events_socket: str = "",
    lock: str = "",
    service: str = "",
    log_bytes_per_second: str = "0",
    log_burst_seconds: str = "0",
) -> AgentsInterface:
    """Make the RPC interface, and supervisord ours; the factory that its configuration names.

    supervisord calls it once for each of its HTTP servers, and all over again after SIGHUP, with
    another Supervisor and everything forgotten.

    Args:
        supervisord: The ``supervisor.supervisord.Supervisor`` that loads us.
        conf_d: The directory of the program configs.
        events_socket: Where to send every change of a state; empty: nowhere.
        lock: A file to hold locked as long as supervisord lives; empty: none.
        service: The program that is the API itself; empty: it is not run by this supervisord.
        log_bytes_per_second: How fast the output of a process is read for good; 0: any.
        log_burst_seconds: For how long twice as fast.

    Raises:
        LockHeldError: Another supervisord runs for the same state directory; ours does not start.
    """
    interface = _interfaces.get(supervisord)
    if interface is None:
        rate, burst = int(log_bytes_per_second), float(log_burst_seconds)

        def throttle(program: str) -> Throttle:
            return Throttle(0 if program == service else rate, burst)

        interface = _install(supervisord, conf_d, events_socket, lock, service, throttle)
        _interfaces[supervisord] = interface
    return interface


def _install(
    supervisord: Any,
    conf_d: str,
    events_socket: str,
    lock: str,
    service: str,
    throttles: Callable[[str], Throttle],
) -> AgentsInterface:
    options = supervisord.options
    held = _hold(options, lock)
    pushes = Pushes(events_socket)
    sockets = HeldSockets()
    attention = Attention(supervisord)
    groups = Groups(
        supervisord,
        conf_d=Path(conf_d),
        service=service,
        push=pushes.send,
        sockets=sockets,
        throttles=throttles,
        attention=attention,
    )
    supervisord.get_process_map = attention.dispatchers
    options.poller.poll = attention.listen(options.poller.poll)
    launch_in_forks(options)
    wakeup = SignalWakeup(options.get_socket_map())
    wake_when_more_are_dead(supervisord, wakeup)
    wake_when_due(options, groups.seconds_until_due)

    def adopt(event: Any) -> None:
        groups.adopt(event.group)

    def stop_everything(_event: Any) -> None:
        pushes.close()  # what happens from now on is nobody's intent
        sockets.close()
        supervisord.stop_groups = [Everything(supervisord)]

    def let_go_of_idle_sockets(_event: Any) -> None:
        sockets.let_go_idle(groups.awaited_addresses())

    def wake_all(_event: Any) -> None:
        attention.wake_all(groups.processes())

    guard = _guard(options.logger)
    events.subscribe(events.ProcessGroupAddedEvent, guard(adopt))
    events.subscribe(events.SupervisorStoppingEvent, guard(stop_everything))
    events.subscribe(events.ProcessGroupAddedEvent, guard(attention.forget_groups))
    events.subscribe(events.ProcessGroupRemovedEvent, guard(attention.forget_groups))
    events.subscribe(events.Tick5Event, guard(let_go_of_idle_sockets))
    events.subscribe(events.Tick5Event, guard(wake_all))
    groups.adopt_all()

    cleanup = options.cleanup

    def clean_up() -> None:
        # before a restart supervisord closes descriptors by number: ours must be gone by then
        wakeup.close()
        pushes.close()
        sockets.close()
        _remove_groups(options.logger)
        held.close()
        cleanup()

    options.cleanup = clean_up
    return AgentsInterface(supervisord, groups, sockets)


def _hold(options: Any, path: str) -> Lock:
    try:
        return Lock(path)
    except LockHeldError as error:
        # supervisord itself would only say that it could not make the interface
        options.logger.critical(str(error))
        sys.stderr.write(f"{error}\n")
        raise


def _remove_groups(logger: Any) -> None:
    """Remove the control groups of our agents, with whatever is left in them: all have ended."""
    root = os.environ.get(MARKER)
    try:
        if root:
            remove_leftover_groups(StateDir(Path(root)))
    except Exception as error:  # noqa: BLE001 - supervisord must get on with its end
        sentence = f"agents: cannot remove their control groups: {error!r}"
        logger.critical(sentence)


def _guard(logger: Any) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    def guard(callback: Callable[[Any], None]) -> Callable[[Any], None]:
        def guarded(event: Any) -> None:
            try:
                callback(event)
            except Exception as error:  # noqa: BLE001 - one that leaves a callback ends supervisord
                sentence = f"agents: {callback.__name__} failed: {error!r}"
                logger.critical(sentence)

        return guarded

    return guard
