"""Which processes supervisord's loop looks at: those at which something may be due.

Its loop asks each output of each process in each turn whether it is to be read, and each process
for its next step: with 500 agents a turn took 5 ms, and each line that an agent prints is a turn.
Most processes run, and nothing is due but to read what they say. These rest here: their pipes stay
with the poller, and what comes is read as supervisord itself would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol


class Watched(Protocol):
    """A process of ours, as far as somebody looks at it or only listens.

    Attributes:
        is_resting: Nothing is due but to read what it says.
        dispatchers: Its pipes, each by its descriptor.
        mapped: Its dispatchers, as supervisord has registered them last.
    """

    is_resting: bool
    dispatchers: dict[int, Any]
    mapped: dict[int, Any] | None

    def may_rest(self) -> bool:
        """Tell whether nothing is due but to read what it says."""

    def seconds_until_due(self) -> float | None:
        """Tell when something is due; None: only if something happens."""


class Attention:
    """Who is awake, and who rests; every process of ours is one or the other.

    All are woken every few seconds, so that whatever was missed is late and not lost.
    """

    def __init__(self, supervisord: Any) -> None:
        """Begin with nobody awake; each process wakes as it is made."""
        self._supervisord = supervisord
        self._awake: dict[int, Watched] = {}  # by identity: supervisord compares priorities
        self._listened: dict[int, tuple[Watched, Any]] = {}
        self._foreign: list[Any] | None = None

    @property
    def awake(self) -> Iterable[Watched]:
        """Those who are looked at in each turn."""
        return self._awake.values()

    def wake(self, process: Watched) -> None:
        """Look at a process from now on, in each turn."""
        if process.is_resting:
            process.is_resting = False
            for descriptor in process.dispatchers:
                self._listened.pop(descriptor, None)
        self._awake[id(process)] = process

    def rest(self, process: Watched) -> None:
        """Only listen to a process until it is woken; its pipes must be with the poller."""
        process.is_resting = True
        self._awake.pop(id(process), None)
        for descriptor, dispatcher in process.dispatchers.items():
            self._listened[descriptor] = process, dispatcher

    def wake_all(self, processes: Iterable[Watched]) -> None:
        """Look at all of them, and forget those who are gone."""
        self._listened.clear()
        self._awake.clear()
        for process in processes:
            process.is_resting = False
            self._awake[id(process)] = process

    def forget_groups(self, _event: object = None) -> None:
        """Find out anew which groups are not ours: one was added or removed."""
        self._foreign = None

    def dispatchers(self) -> dict[int, Any]:
        """Give what supervisord is to register with its poller, in the place of all there are."""
        found: dict[int, Any] = {}
        for process in self._awake.values():
            process.mapped = process.dispatchers
            found.update(process.dispatchers)
        if self._foreign is None:
            self._foreign = [
                group
                for group in self._supervisord.process_groups.values()
                if not all(hasattr(each, "is_resting") for each in group.processes.values())
            ]
        for group in self._foreign:
            found.update(group.get_dispatchers())
        return found

    def listen(self, poll: Callable[[float], Any]) -> Callable[[float], Any]:
        """Make a poll that reads from those who rest, and gives supervisord the other events."""

        def poll_and_read(timeout: float) -> Any:
            readable, writable = poll(timeout)
            if self._listened:
                readable = [each for each in readable if not self._read(each)]
            return readable, writable

        return poll_and_read

    def _read(self, descriptor: int) -> bool:
        """Read from a process that rests; False: none does from this descriptor."""
        process, dispatcher = self._listened.get(descriptor, (None, None))
        if process is None or dispatcher is None:
            return False
        try:
            dispatcher.handle_read_event()
            if not dispatcher.readable():
                self._supervisord.options.poller.unregister_readable(descriptor)
        except Exception:  # noqa: BLE001 - as supervisord does with its own
            dispatcher.handle_error()
        if not process.may_rest():
            self.wake(process)
        return True
