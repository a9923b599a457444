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

from deployer.api.connections import BODY_SECONDS, HEAD_SECONDS, Places, affordable
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
    _ends_at: float | None = None

    def __init__(self, server: Any, sock: Any, addr: Any, adj: Any, map: Any = None) -> None:  # noqa: A002 - waitress' own name
        """Take a connection from addr."""
        peer = self.peers.find(sock, addr)
        self.owner: Hashable = site_of(str(addr[0])) if peer.uid is None else peer.uid
        self.is_agent = peer.may_be_of(self.agent_uids)
        self._waits_since = self._began_at = time.monotonic()
        self._has_asked = False
        maker = partial(
            Parser, address=str(addr[0]), is_agent=self.is_agent, judge=self.bouncer.judge
        )
        self.parser_class = maker  # type: ignore[assignment]  # it is only ever called
        super().__init__(server, sock, addr, adj, map=map)
        self.places.add(self)

    @property
    def waits_since(self) -> float | None:
        """Since when no whole request has come; None: one is answered, or large and let in."""
        is_large = self.request is not None and getattr(self.request, "environ", None) is not None
        return None if self.requests or self.total_outbufs_len or is_large else self._waits_since

    def give_up(self) -> None:
        """Close at the next turn of the loop."""
        self.will_close = True

    def handle_close(self) -> None:
        """Close, and leave the place to others."""
        self.places.remove(self)
        super().handle_close()

    def received(self, data: bytes) -> bool:
        """Take bytes, or throw them away."""
        if self._is_refused:
            return False
        if self.request is None:
            self._began_at = time.monotonic()
        taken: bool = super().received(data)
        self._is_refused = any(request.error for request in self.requests)
        while self._is_prompt:
            self._is_prompt = False
            self._answer()
        return taken

    def is_prompt(self) -> bool:
        """Tell whether the next request is answered by the thread that has read it, and note it.

        Asked where waitress would hand it to another thread, by the one that reads only.
        """
        self._is_prompt = not self.total_outbufs_len and self.prompt_looks.judge(self.requests[0])
        return self._is_prompt

    def _answer(self) -> None:
        """Answer here and now, in one piece; what its client does not take at once is sent later.

        With another request behind it, waitress might wait until it was taken.
        """
        if len(self.requests) > 1:
            _hand_over(self.server, self)
            return
        self._has_asked, self._waits_since = True, time.monotonic()
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
        elif self._is_late():
            self.give_up()
        return bool((self._is_refused and not self.will_close) or super().readable())

    def _is_late(self) -> bool:
        """Tell whether a request that has begun, or the first one, takes too long to come."""
        if self.waits_since is None or (self._has_asked and self.request is None):
            return False  # between requests waitress' own time counts
        has_head = self.request is not None and self.request.headers_finished
        seconds = BODY_SECONDS if has_head else HEAD_SECONDS
        began_at = self._began_at if self._has_asked else self._waits_since
        return time.monotonic() - began_at > seconds

    def handle_read(self) -> None:
        """Read, but not for ever from somebody who was refused."""
        if self._ends_at is not None and time.monotonic() > self._ends_at:
            self.handle_close()
        else:
            super().handle_read()

    def handle_write(self) -> None:
        """Write; after a refusal say that this was all, and wait for the client to close."""
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
    if not (_reads() and channel.is_prompt()):
        _hand_over(server, channel)


def _hand_over(server: Any, channel: Channel) -> None:
    server.task_dispatcher.add_task(channel)


def _wake(server: Any) -> None:
    """Have the thread that reads look at all connections; it will, if it is the one that asks."""
    if not _reads():
        server.trigger.pull_trigger()


def _reads() -> bool:
    return threading.get_ident() == threading.main_thread().ident
