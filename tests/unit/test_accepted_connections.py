"""What a process has accepted and not read: asked of the kernel, on real connections."""

from __future__ import annotations

import socket
import sys

import pytest

from deployer.supervisor_plugin.connections import accepted

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux by sock_diag(7)")


@pytest.mark.parametrize(
    ("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)]
)
def test_only_what_was_accepted_counts(host: str, family: socket.AddressFamily) -> None:
    with socket.create_server((host, 0), family=family) as listener:
        address = (host, listener.getsockname()[1])
        clients = [socket.create_connection(address, timeout=10) for _ in range(20)]
        assert accepted(address) == {}
        servers = [listener.accept()[0] for _ in clients]
        try:
            assert set(accepted(address).values()) == {0}
            assert len(accepted(address)) == len(servers)
            clients[7].sendall(b"GET")
            servers[7].recv(3, socket.MSG_PEEK)  # once it has arrived
            assert sum(accepted(address).values()) == 3
            servers[7].recv(3)
            assert not any(accepted(address).values())
            clients[9].sendall(b"GET")
            clients[9].shutdown(socket.SHUT_WR)  # half closed, and to be read all the same
            servers[9].recv(3, socket.MSG_PEEK)
            assert any(accepted(address).values())
            assert accepted((host, 1)) == {}
        finally:
            for each in [*clients, *servers]:
                each.close()


def test_nothing_is_told_of_what_is_no_address() -> None:
    assert accepted(("localhost", 80)) == {}
