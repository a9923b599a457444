from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from deployer.errors import NoFreePortError
from deployer.ports import (
    Holder,
    can_bind,
    choose_port,
    count_waiting,
    holder_of,
    listening_ports,
    listens,
    numeric,
)

has_ipv6 = socket.has_ipv6 and os.path.exists("/proc/net/if_inet6")  # noqa: PTH110 - no path of ours

LISTEN_IN_CHILD = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
if "fork" in sys.argv and os.fork() == 0:
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()
    os._exit(0)
if "fork" in sys.argv:
    listener.close()
    if "die" in sys.argv:
        os._exit(0)
    os.wait()
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def port_of(server: socket.socket) -> int:
    port: int = server.getsockname()[1]
    return port


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return port_of(server)


def start_listener(*words: str) -> subprocess.Popen[str]:
    """Start a process that listens until its standard input ends; it says on which port."""
    return subprocess.Popen(
        [sys.executable, "-c", LISTEN_IN_CHILD, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def said_port(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def finish(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=10)


def test_a_port_that_nobody_has_can_be_bound() -> None:
    assert can_bind(unused_port())


def test_a_port_with_a_listener_cannot_be_bound(listener: socket.socket) -> None:
    assert not can_bind(port_of(listener))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "127.0.0.2"])
def test_a_listener_on_another_address_is_noticed(host: str) -> None:
    with socket.create_server((host, 0)) as server:
        assert not can_bind(port_of(server), host="127.0.0.1")


@pytest.mark.skipif(not has_ipv6, reason="this machine has no IPv6")
@pytest.mark.parametrize("host", ["::1", "::"])
def test_a_listener_on_ipv6_alone_is_noticed(host: str) -> None:
    with socket.create_server((host, 0), family=socket.AF_INET6) as server:
        assert not can_bind(port_of(server))


@pytest.mark.skipif(not has_ipv6, reason="this machine has no IPv6")
def test_an_ipv6_address_can_be_asked_for() -> None:
    assert can_bind(unused_port(), host="::1")


def test_a_connection_in_time_wait_does_not_take_the_port_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = port_of(server)
        client = socket.create_connection(("127.0.0.1", port))
        server.accept()[0].close()  # who closes first waits
        with client:
            assert client.recv(1) == b""

    assert can_bind(port)


def test_an_address_of_another_machine_cannot_be_bound() -> None:
    assert not can_bind(unused_port(), host="192.0.2.1")


def test_asking_leaves_the_port_free() -> None:
    port = unused_port()

    assert can_bind(port)
    assert can_bind(port)


def anything(_port: int) -> bool:
    return True


def test_the_lowest_port_is_chosen() -> None:
    assert choose_port(range(8100, 8200), (), is_free=anything) == 8100


def test_leased_ports_are_passed_over() -> None:
    assert choose_port(range(8100, 8200), {8100, 8101}, is_free=anything) == 8102


def test_ports_in_use_are_passed_over() -> None:
    assert choose_port(range(8100, 8200), (), is_free=lambda port: port > 8104) == 8105


def test_a_preferred_port_comes_first() -> None:
    assert choose_port(range(8100, 8200), (), preferred=[8150], is_free=anything) == 8150


def test_the_second_preference_counts_when_the_first_is_leased() -> None:
    chosen = choose_port(range(8100, 8200), {8150}, preferred=[8150, 8160], is_free=anything)

    assert chosen == 8160


def test_a_preference_outside_the_candidates_is_not_granted() -> None:
    assert choose_port(range(8100, 8200), (), preferred=[22, 0], is_free=anything) == 8100


def test_a_leased_port_is_not_even_asked_about() -> None:
    asked: list[int] = []

    def is_free(port: int) -> bool:
        asked.append(port)
        return True

    choose_port(range(8100, 8103), {8100}, preferred=[8100], is_free=is_free)

    assert asked == [8101]


def test_the_error_tells_how_many_are_leased_and_how_many_in_use() -> None:
    with pytest.raises(NoFreePortError, match="of the 3 ports in 8100-8102, 1 are leased") as info:
        choose_port(range(8100, 8103), {8100, 9000}, is_free=lambda _: False)

    assert "2 are in use by other programs" in info.value.detail
    assert info.value.cause == "no free port in 8100-8102"


def test_an_empty_range_has_no_free_port() -> None:
    with pytest.raises(NoFreePortError, match="an empty range"):
        choose_port((), ())


def test_a_real_listener_is_passed_over_by_default(listener: socket.socket) -> None:
    port, other = port_of(listener), unused_port()

    assert choose_port([port, other], ()) == other


def test_the_holder_of_a_port_is_found_with_its_name(listener: socket.socket) -> None:
    holder = holder_of(port_of(listener))

    assert holder is not None
    assert holder.pid == os.getpid()
    assert "py" in holder.name
    assert holder.user
    assert holder.command


def test_nobody_holds_a_port_without_a_listener() -> None:
    assert holder_of(unused_port()) is None


def test_a_client_of_a_port_is_not_its_holder(listener: socket.socket) -> None:
    with (
        socket.create_connection(("127.0.0.1", port_of(listener))) as client,
        closing(listener.accept()[0]),
    ):
        assert holder_of(port_of(client)) is None


def test_a_holder_reads_as_pid_and_name() -> None:
    assert str(Holder(812, "nginx", "www-data", "nginx -g")) == "pid 812 nginx"


def test_a_holder_that_cannot_be_seen_reads_as_such() -> None:
    assert str(Holder(None)) == "a process of another user"
    assert str(Holder(None, user="www-data")) == "a process of user www-data"


def test_the_ports_of_a_process_are_found() -> None:
    with start_listener() as process:
        port = said_port(process)

        assert listening_ports(process.pid) == {port}
        assert listens(process.pid, port)
        finish(process)


def test_the_ports_of_a_child_are_found() -> None:
    with start_listener("fork") as process:
        port = said_port(process)

        assert listening_ports(process.pid) == {port}
        assert listens(process.pid, port)
        finish(process)


def test_the_ports_of_a_child_that_outlived_its_parent_are_found() -> None:
    with start_listener("fork", "die") as process:
        port = said_port(process)
        process.wait(timeout=10)

        assert listening_ports(process.pid) == {port}
        finish(process)


def test_the_ports_of_others_are_not_counted(listener: socket.socket) -> None:
    with start_listener() as process:
        said_port(process)

        assert port_of(listener) not in listening_ports(process.pid)
        assert not listens(process.pid, port_of(listener))
        finish(process)


# Connections that wait ---------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's own table")
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_connections_wait_until_they_are_accepted(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with ExitStack() as clients, socket.socket(family) as listener:
        try:
            listener.bind((address, 0))
        except OSError:
            pytest.skip("no IPv6 here")
        listener.listen()
        port = listener.getsockname()[1]
        assert count_waiting(port) == 0
        for _ in range(3):
            clients.enter_context(socket.create_connection((address, port), timeout=5))
        assert count_waiting(port) == 3
        listener.accept()[0].close()
        assert count_waiting(port) == 2


def test_an_address_is_its_own_number_and_a_name_has_one() -> None:
    assert numeric("::1") == "::1"
    assert numeric("0.0.0.0") == "0.0.0.0"
    assert numeric("localhost") in {"127.0.0.1", "::1"}
