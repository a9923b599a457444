"""Connections: who made them, how long they may wait, and which thread answers."""

from __future__ import annotations

import contextlib
import copy
import socket
import sys
import threading
import time
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Final

from waitress.channel import HTTPChannel
from waitress.task import WSGITask

from deployer.api.connections import (
    AHEAD_BYTES,
    BODY_SECONDS,
    HEAD_SECONDS,
    SILENT_SECONDS,
    STUCK_SECONDS,
    Places,
    affordable,
    queued_bytes,
)
from deployer.api.prompt_looks import PromptLooks
from deployer.api.proxies import IS_AGENT, Environ
from deployer.api.throttles import site_of
from deployer.api.unparsed import Bouncer, Parser, RefusalTask
from deployer.instruments import Instruments
from deployer.isolation import uid_range
from deployer.peers import Peers

_LINGER_SECONDS: Final = 5.0
_ACCEPTED_AT_ONCE: Final = 32


class Task(WSGITask):
    """A request on its way to the application, which gets to know whether an agent sends it."""

    channel: Channel

    def get_environment(self) -> Environ:
        """Make the WSGI environment."""
        return {**super().get_environment(), IS_AGENT: self.channel.is_agent}


class Channel(HTTPChannel):
    """A connection that reads on for a while after a refusal, and throws away what it reads.

    Closed at once, the client would get a reset in the middle of its body, and never the answer.

    What is sent behind a request waits here, unread, until the answer to that has been taken:
    `requests` never holds a second one, as the thread that comes to it would wait for the client.

    Attributes:
        bouncer: Judges large bodies.
        peers: Tells who connects.
        agent_uids: Whose calls are agents'.
        places: Those of all connections.
        owner: Who made this one: a user of this machine, or an address of another.
        is_agent: Whether this is one of theirs; asked once, before they can have left.
        prompt_looks: Tells what is answered by the thread that reads.
        whole_adj: Settings by which nothing is sent before an answer is whole.
    """

    bouncer: Bouncer
    peers: Peers
    agent_uids: range | None
    places: Places
    prompt_looks: PromptLooks
    task_class = Task
    whole_adj: Any
    _is_refused = False
    _is_prompt = False
    _ahead = b""
    _stuck_since: float | None = None
    _queued_bytes = 0
    _ends_at: float | None = None

    def __init__(self, server: Any, sock: Any, addr: Any, adj: Any, map: Any = None) -> None:  # noqa: A002 - waitress' own name
        """Take a connection from addr."""
        peer = self.peers.find(sock, addr)
        self.owner: Hashable = site_of(str(addr[0])) if peer.uid is None else peer.uid
        self.is_agent = peer.may_be_of(self.agent_uids)
        self._waits_since = self._began_at = self._heard_at = time.monotonic()
        self._has_asked = False
        maker = partial(
            Parser, address=str(addr[0]), is_agent=self.is_agent, judge=self.bouncer.judge
        )
        self.parser_class = maker  # type: ignore[assignment]  # it is only ever called
        super().__init__(server, sock, addr, adj, map=map)
        self.places.add(self)

    @property
    def waits_since(self) -> float | None:
        """Since when no whole request has come; None: one is answered, or large and let in.

        While an answer waits for its client: since when that takes nothing.
        """
        if self._wants_room():
            return self._stuck_since
        return None if self.requests or self._is_admitted else self._waits_since

    @property
    def _is_admitted(self) -> bool:
        """Whether a body is coming that may be large."""
        return self.request is not None and getattr(self.request, "is_admitted", False)

    def give_up(self) -> None:
        """Close at the next turn of the loop, also when the client takes nothing.

        That is not until the socket takes bytes, unless it is shut down.
        """
        self.will_close = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]  # the stubs miss it

    def handle_close(self) -> None:
        """Close, and leave the place to others."""
        self.places.remove(self)
        super().handle_close()

    def received(self, data: bytes) -> bool:
        """Take bytes, or throw them away."""
        if self._is_refused:
            return False
        self._heard_at = time.monotonic()
        if self.requests or self._ahead:
            self._ahead += data
            if len(self._ahead) > AHEAD_BYTES:
                self.give_up()
            return True
        if self.request is None:
            self._began_at = self._heard_at
        taken: bool = super().received(data)
        self._is_refused = any(request.error for request in self.requests)
        if self._is_prompt:
            self._is_prompt = False
            self._answer()
        return taken

    def take_up(self) -> None:
        """Note that a whole request has come, and what was sent behind it."""
        self._has_asked, self._waits_since = True, time.monotonic()
        self._ahead = self.requests[0].rest  # type: ignore[attr-defined]  # they are our Parsers

    def _is_next_due(self) -> bool:
        """Tell whether what was sent behind a request is to be read now."""
        is_busy = self.requests or self.total_outbufs_len  # in this order: its thread writes first
        is_over = self.will_close or self.close_when_flushed or self._is_refused
        return bool(self._ahead) and not (is_busy or is_over)

    def _wants_room(self) -> bool:
        """Tell whether it cannot go on until the client takes something."""
        return bool(self.total_outbufs_len or self._is_next_due())

    def is_prompt(self) -> bool:
        """Tell whether the next request is answered by the thread that has read it, and note it.

        Asked where waitress would hand it to another thread, by the one that reads only.
        """
        is_alone = not (self._ahead or self.total_outbufs_len)
        self._is_prompt = is_alone and self.prompt_looks.judge(self.requests[0])
        return self._is_prompt

    def _answer(self) -> None:
        """Answer here and now, in one piece; what is not taken at once is sent later."""
        usual = self.adj
        self.adj = self.whole_adj
        try:
            self.service()
        finally:
            self.adj = usual
        if self.total_outbufs_len:
            self._flush_exception(self._flush_some)  # type: ignore[attr-defined]  # the stubs miss both

    def readable(self) -> bool:
        """Tell whether bytes are wanted; asked in each turn of the loop, so it ends waits, too."""
        if self.requests:
            self._has_asked, self._waits_since = True, time.monotonic()
        if self.will_close or self._is_late() or self._is_stuck():
            self.give_up()
        return bool((self._is_refused and not self.will_close) or super().readable())

    def _is_late(self) -> bool:
        """Tell whether a request that has begun, or the first one, takes too long to come."""
        if self.requests or self._wants_room():
            return False
        if self._is_admitted:
            return time.monotonic() - self._heard_at > SILENT_SECONDS
        if self._has_asked and self.request is None:
            return False  # between requests waitress' own time counts
        has_head = self.request is not None and self.request.headers_finished
        seconds = BODY_SECONDS if has_head else HEAD_SECONDS
        began_at = self._began_at if self._has_asked else self._waits_since
        return time.monotonic() - began_at > seconds

    def _is_stuck(self) -> bool:
        """Tell whether the client takes nothing of its answer for too long."""
        if not self._wants_room():
            self._stuck_since = None
            return False
        before, self._queued_bytes = self._queued_bytes, queued_bytes(self.socket)  # type: ignore[arg-type]  # it is open
        if self._stuck_since is None or self._queued_bytes < before:
            self._stuck_since = time.monotonic()
        since = self._stuck_since  # another thread may just have sent something
        return since is not None and time.monotonic() - since > STUCK_SECONDS

    def send(self, data: bytes, do_close: bool = True) -> int:  # noqa: FBT001, FBT002 - waitress' own
        """Send what the client takes, and note that it took some; give how many bytes."""
        sent: int = super().send(data, do_close)
        if sent:
            self._stuck_since = None
        return sent

    def writable(self) -> bool:
        """Tell whether there is something to send, or room for the next answer."""
        return bool(super().writable() or self._is_next_due())

    def handle_read(self) -> None:
        """Read, but not for ever from somebody who was refused."""
        if self._ends_at is not None and time.monotonic() > self._ends_at:
            self.handle_close()
        else:
            super().handle_read()

    def handle_write(self) -> None:
        """Write, or take up what was sent ahead.

        After a refusal say that this was all, and wait for the client to close.
        """
        if self._is_next_due():
            data, self._ahead = self._ahead, b""
            self.received(data)
            return
        if not (self._is_refused and self.close_when_flushed) or self.will_close:
            super().handle_write()
            return
        if self.total_outbufs_len:
            self._flush_exception(self._flush_some)  # type: ignore[attr-defined]  # the stubs miss both
        if not self.total_outbufs_len:
            self.close_when_flushed = False
            self._ends_at = time.monotonic() + _LINGER_SECONDS
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)  # type: ignore[union-attr]  # as above


def refuse_with_problems(
    listener: Any,
    upload_bytes: int,
    bouncer: Bouncer,
    instruments: Instruments,
    prompt_looks: PromptLooks,
) -> None:
    """Have a listener of waitress's refuse with problem documents, and large bodies early.

    What costs next to nothing it answers without another thread.

    Args:
        listener: What `waitress.server.create_server` made: one server, or, for a host with several
            addresses, what knows them all.
        upload_bytes: The largest package that is taken, for the words.
        bouncer: Judges requests with large bodies.
        instruments: Where refusals count.
        prompt_looks: Tells what is answered by the thread that reads.
    """
    known = {"upload_bytes": upload_bytes, "bouncer": bouncer, "instruments": instruments}
    whole_adj = copy.copy(listener.adj)
    whole_adj.send_bytes = sys.maxsize
    task = type("RefusalTask", (RefusalTask,), known)
    channel = type(
        "Channel",
        (Channel,),
        {
            "error_task_class": task,
            "bouncer": bouncer,
            "peers": Peers(),
            "agent_uids": uid_range(),
            "places": Places(affordable()),
            "prompt_looks": prompt_looks,
            "whole_adj": whole_adj,
        },
    )
    for each in (listener, *getattr(listener, "map", {}).values()):
        if hasattr(each, "channel_class"):
            each.channel_class = channel
            each.handle_accept = partial(_accept_several, each, each.handle_accept)
            each.add_task = partial(_take_up, each)
            each.pull_trigger = partial(_wake, each)


def _accept_several(server: Any, accept_one: Callable[[], None]) -> None:
    """Accept whoever waits: each turn of the loop costs as much as connections are open."""
    for _ in range(_ACCEPTED_AT_ONCE):
        count = len(server.active_channels)
        accept_one()
        if len(server.active_channels) == count:
            return


def _take_up(server: Any, channel: Channel) -> None:
    """Have a request answered: by this thread when it reads and may, else by another one."""
    channel.take_up()
    if not (_reads() and channel.is_prompt()):
        server.task_dispatcher.add_task(channel)


def _wake(server: Any) -> None:
    """Have the thread that reads look at all connections; it will, if it is the one that asks."""
    if not _reads():
        server.trigger.pull_trigger()


def _reads() -> bool:
    return threading.get_ident() == threading.main_thread().ident
