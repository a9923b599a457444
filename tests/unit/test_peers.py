"""Who is at the other end of a connection, asked of the real kernel about real sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deployer import peers
from deployer.peers import Peer, Peers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

UID = 70_123
HOLD = "input()"
PLACES = [
    pytest.param("127.0.0.1", "127.0.0.1", id="IPv4"),
    pytest.param("::1", "::1", id="IPv6"),
    pytest.param("::", "127.0.0.1", id="IPv4 to an IPv6 socket"),
    pytest.param("::", "::ffff:127.0.0.1", id="IPv4 by an IPv6 socket"),
]


@pytest.fixture(params=["_ask", "_read_tables"])
def find(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Peers:
    """Peers that have only one way to find out."""
    if request.param == "_read_tables":
        monkeypatch.setattr(peers, "_ask", peers._read_tables)
    return Peers()


@contextmanager
def listening(host: str) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        if host == "::":
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, 0))
        listener.listen()
        yield listener


@contextmanager
def connected(listener: socket.socket, host: str, uid: int, then: str = HOLD) -> Iterator[None]:
    """Have another process, of that user, connect and then do something."""
    code = f"""
import os, socket, struct
os.setgroups([]) if os.geteuid() == 0 else None
os.setresuid({uid}, {uid}, {uid})
connection = socket.create_connection(({host!r}, {listener.getsockname()[1]}))
connection.sendall(b"x")
{then}
"""
    command = ["/usr/bin/python3", "-I", "-S", "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        if then != HOLD:
            process.wait(10)
        try:
            yield
        finally:
            process.communicate(b"\n", timeout=10)


@needs_root
@pytest.mark.parametrize(("bound", "called"), PLACES)
def test_a_process_of_another_user_is_told_by_its_user(
    find: Peers, bound: str, called: str
) -> None:
    with listening(bound) as listener, connected(listener, called, UID):
        connection, address = listener.accept()
        with connection:
            peer = find.find(connection, address)

    assert peer == Peer(uid=UID)


@needs_root
@pytest.mark.parametrize(
    "then",
    [
        pytest.param("connection.close()", id="closes"),
        pytest.param(
            "connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))\n"
            "connection.close()",
            id="resets",
        ),
    ],
)
def test_one_that_wrote_and_left_before_it_was_accepted_may_be_anybody(
    find: Peers, then: str
) -> None:
    with listening("127.0.0.1") as listener, connected(listener, "127.0.0.1", UID, then):
        connection, address = listener.accept()
        with connection:
            peer = find.find(connection, address)

    assert peer == Peer(has_left=True)
    assert peer.may_be_of(range(UID, UID + 1))


def test_a_socket_that_listens_where_another_machine_calls_from_is_not_the_caller(
    find: Peers,
) -> None:
    with (
        listening("127.0.0.1") as listener,
        listening("127.0.0.1") as stranger,
        socket.create_connection(listener.getsockname()),
    ):
        connection, _ = listener.accept()
        with connection:
            peer = find.find(connection, stranger.getsockname())

    assert peer == Peer()


def test_a_process_at_a_unix_socket_is_told_by_its_user(short_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_path / "s"))
        listener.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(short_path / "s"))
            connection, _ = listener.accept()
            with connection:
                peer = Peers().find(connection, ("localhost", None))

    assert peer == Peer(uid=os.geteuid())


def refuse(_near: object, _far: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_where_the_kernel_refuses_to_be_asked_its_table_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers, "_ask", refuse)

    assert Peers().can_tell


def test_where_there_is_no_table_either_nobody_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_ask", "_read_tables"):
        monkeypatch.setattr(peers, name, refuse)

    assert not Peers().can_tell


def test_users_of_agents_are_a_range_and_a_stranger_is_none_of_them() -> None:
    uids = range(70_000, 100_000)

    told = [each.may_be_of(uids) for each in (Peer(70_000), Peer(0), Peer(), Peer(has_left=True))]

    assert told == [True, False, False, True]
    assert not Peer(70_000).may_be_of(None)
