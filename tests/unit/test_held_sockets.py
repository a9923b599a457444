"""Sockets that a successor takes over, on real ones."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator

import pytest

from deployer.supervisor_plugin.sockets import Address, HeldSockets
from tests.free_ports import free_ports

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="diversion is Linux's")


@pytest.fixture
def address() -> Address:
    return ("127.0.0.1", free_ports(1))


@pytest.fixture
def held(address: Address) -> Iterator[HeldSockets]:
    held = HeldSockets()
    held.hold(address)
    yield held
    held.close()


def listener_of(held: HeldSockets, address: Address) -> socket.socket:
    return held._sockets[address].dup()  # as a process has it that inherited it


@pytest.mark.parametrize(
    "owner",
    [
        os.geteuid(),
        pytest.param(
            71234,
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root gives sockets away"),
        ),
    ],
)
def test_connections_go_past_a_socket_whosever_it_is(
    held: HeldSockets, address: Address, owner: int
) -> None:
    with listener_of(held, address) as process:
        os.fchown(process.fileno(), owner, -1)
        assert held.divert(address)
        assert held.is_diverted(address)
        with (
            socket.create_connection(address, timeout=10),
            listener_of(held, address) as successor,
        ):
            process.settimeout(0)
            with pytest.raises(BlockingIOError):
                process.accept()
            successor.accept()[0].close()
    held.renew(address)
    assert not held.is_diverted(address)


def test_who_waits_is_gone_past_only_on_demand(held: HeldSockets, address: Address) -> None:
    with listener_of(held, address) as process, socket.create_connection(address, timeout=10):
        assert held.count_waiting(address) == 1
        assert not held.divert(address)
        assert not held.is_diverted(address)
        assert held.divert(address, past_waiting=True)
        assert held.count_waiting(address) == 1
        process.accept()[0].close()
        assert held.count_waiting(address) == 0
