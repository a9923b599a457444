"""What only our plugin does, inside a real supervisord."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployer.errors import SupervisordRefusedError, SupervisordUnreachableError
from deployer.model import Desired, RestartPolicy, State
from deployer.supervisor_rpc import Rpc
from deployer.supervisord import receive_push
from tests.supervisord_process import (
    AT_ONCE,
    CRASH,
    IGNORE_TERM,
    NAME,
    SupervisordProcess,
    is_alive,
    is_back_within,
    kill_and_wait,
    put,
    script_policy,
    seconds_until,
    settle,
    start,
)

_TURN_SECONDS = 0.9
"""Stock supervisord notices a death at its next turn, a second later; ours in 0.05 s when idle."""


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[SupervisordProcess]:
    with SupervisordProcess(tmp_path) as process:
        yield process


def test_an_agent_that_is_killed_is_back_before_supervisords_next_turn(
    plugin: SupervisordProcess,
) -> None:
    start(plugin)

    assert is_back_within(plugin, _TURN_SECONDS)
    process = plugin.supervisord.states()[NAME]
    assert (process.signal, process.exit_code) == (9, None)
    assert process.restarts >= 1


def test_a_death_is_noticed_though_nothing_of_it_can_be_read(plugin: SupervisordProcess) -> None:
    start(plugin, "import os, time; os.closerange(0, 3); time.sleep(600)")

    assert is_back_within(plugin, _TURN_SECONDS)


def test_a_crash_loop_stops_after_max_restarts_and_says_so(plugin: SupervisordProcess) -> None:
    put(plugin, CRASH, restarts=RestartPolicy(max_restarts=3, delay_seconds=0.1))
    plugin.supervisord.start(NAME)

    plugin.wait_for(NAME, State.FATAL)

    process = plugin.supervisord.states()[NAME]
    assert (process.exit_code, process.restarts) == (3, 3)
    assert "gave up after 3 restarts: it died 4 times within 60 s" in process.message
    assert "exit status 3" in process.message


def test_a_program_that_runs_follows_another_policy_from_its_next_death_on(
    plugin: SupervisordProcess,
) -> None:
    start(plugin, restarts=RestartPolicy(enabled=False))
    pid = settle(plugin)

    plugin.supervisord.follow(NAME, RestartPolicy(max_restarts=1))
    assert plugin.supervisord.states()[NAME].pid == pid
    kill_and_wait(plugin, pid)

    assert settle(plugin) != pid
    with pytest.raises(SupervisordRefusedError, match="nobody--1"):
        plugin.supervisord.follow("nobody--1", RestartPolicy())


def test_deaths_after_startsecs_count_like_earlier_ones(plugin: SupervisordProcess) -> None:
    late = "import sys, time; time.sleep(1.2); sys.exit(4)"
    put(plugin, late, restarts=RestartPolicy(max_restarts=1, delay_seconds=0.1))
    plugin.supervisord.start(NAME)

    plugin.wait_for(NAME, State.FATAL)

    assert plugin.supervisord.states()[NAME].exit_code == 4


def test_the_next_try_comes_when_it_is_due_and_not_a_turn_later(
    plugin: SupervisordProcess,
) -> None:
    start(plugin, restarts=RestartPolicy(max_restarts=5, delay_seconds=0.3))
    seconds: list[float] = []
    while len(seconds) < 3 and not any(each < 0.3 + _TURN_SECONDS for each in seconds):
        plugin.supervisord.stop(NAME)
        plugin.wait_for(NAME, State.STOPPED)
        plugin.supervisord.start(NAME)
        kill_and_wait(plugin, settle(plugin))  # the first is back at once
        seconds.append(kill_and_wait(plugin, settle(plugin)))

    assert 0.2 < min(seconds) < 0.3 + _TURN_SECONDS


def test_a_program_that_waits_says_when_it_is_tried_again(plugin: SupervisordProcess) -> None:
    put(plugin, CRASH, restarts=RestartPolicy(max_restarts=3, delay_seconds=50))
    plugin.supervisord.start(NAME)

    seconds_until(lambda: plugin.supervisord.states()[NAME].restarts == 1)
    plugin.wait_for(NAME, State.BACKOFF)

    process = plugin.supervisord.states()[NAME]
    assert process.next_try_at is not None
    assert 30 < process.next_try_at.timestamp() - time.time() < 60
    assert process.pid is None


def test_a_program_that_waits_can_be_started_at_once(plugin: SupervisordProcess) -> None:
    put(plugin, CRASH, restarts=RestartPolicy(max_restarts=3, delay_seconds=50))
    plugin.supervisord.start(NAME)
    seconds_until(lambda: plugin.supervisord.states()[NAME].restarts == 1)
    plugin.wait_for(NAME, State.BACKOFF)
    before = plugin.supervisord.states()[NAME].started_at

    plugin.supervisord.start(NAME)

    seconds_until(lambda: plugin.supervisord.states()[NAME].started_at != before)


def test_a_program_that_waits_can_be_stopped(plugin: SupervisordProcess) -> None:
    put(plugin, CRASH, restarts=RestartPolicy(max_restarts=3, delay_seconds=50))
    plugin.supervisord.start(NAME)
    seconds_until(lambda: plugin.supervisord.states()[NAME].restarts == 1)
    plugin.wait_for(NAME, State.BACKOFF)

    plugin.supervisord.stop(NAME)

    assert plugin.state_of(NAME) is State.STOPPED


def test_it_says_who_asked_for_the_last_start_or_stop(plugin: SupervisordProcess) -> None:
    def last() -> tuple[Desired, bool] | None:
        act = plugin.supervisord.states()[NAME].last_act
        return act and (act.desired, act.is_operators)

    put(plugin)
    assert last() is None
    plugin.supervisord.start(NAME)
    pid = settle(plugin)
    assert last() == (Desired.RUNNING, False)
    kill_and_wait(plugin, pid)
    assert last() == (Desired.RUNNING, False)
    plugin.ctl("stop", NAME)
    assert last() == (Desired.STOPPED, True)
    plugin.ctl("start", NAME)
    assert last() == (Desired.RUNNING, True)
    plugin.supervisord.stop(NAME)
    assert last() == (Desired.STOPPED, False)


def test_the_end_of_supervisord_is_nobodys_act(plugin: SupervisordProcess) -> None:
    start(plugin, IGNORE_TERM, stop_seconds=2)
    seconds_until(lambda: "deaf" in plugin.state.stdout_log(NAME).read_text())
    plugin.send(signal.SIGTERM)
    plugin.wait_for(NAME, State.STOPPING)
    act = plugin.supervisord.states()[NAME].last_act
    assert act is not None
    assert (act.desired, act.is_operators) == (Desired.RUNNING, False)


def test_a_deliberate_start_forgets_earlier_deaths(plugin: SupervisordProcess) -> None:
    put(plugin, CRASH, restarts=RestartPolicy(max_restarts=1, delay_seconds=0.1))
    plugin.supervisord.start(NAME)
    plugin.wait_for(NAME, State.FATAL)

    plugin.supervisord.start(NAME)

    plugin.wait_for(NAME, State.FATAL)
    assert "after 1 restarts: it died 2 times" in plugin.supervisord.states()[NAME].message


def test_a_program_without_restarts_stays_dead(plugin: SupervisordProcess) -> None:
    start(plugin, restarts=RestartPolicy(enabled=False))

    os.kill(settle(plugin), signal.SIGKILL)

    plugin.wait_for(NAME, State.EXITED)
    assert "SIGKILL" in plugin.supervisord.states()[NAME].message


def test_new_restart_numbers_reach_a_running_program(plugin: SupervisordProcess) -> None:
    start(plugin)
    pid = settle(plugin)
    put(plugin, restarts=RestartPolicy(enabled=False))

    os.kill(pid, signal.SIGKILL)

    plugin.wait_for(NAME, State.EXITED)


def test_a_stop_in_the_turn_of_the_start_reaches_the_process(plugin: SupervisordProcess) -> None:
    """Its session, and so its group, may not be there yet when supervisord reaches for it."""
    put(plugin)
    url = f"unix://{plugin.state.supervisor_socket}"
    rpc = Rpc(url, plugin.credentials.username, plugin.credentials.password, 30)
    calls: Any = [
        {"methodName": f"supervisor.{name}Process", "params": [NAME, False]}
        for name in ("start", "stop")
    ]

    assert rpc.call("start and stop", "system.multicall", calls) == [True, True]

    plugin.wait_for(NAME, State.STOPPED)
    assert plugin.supervisord.states()[NAME].signal == signal.SIGTERM


def test_a_program_leads_a_session_and_a_group(plugin: SupervisordProcess) -> None:
    pid = start(plugin).pid
    assert pid is not None

    seconds_until(lambda: (os.getsid(pid), os.getpgid(pid)) == (pid, pid))


def test_children_of_a_dead_agent_are_gone(plugin: SupervisordProcess) -> None:
    fork = "import os, time; p = os.fork(); print(p, flush=True) if p else 0; time.sleep(600)"
    process = start(plugin, fork, restarts=RestartPolicy(enabled=False))
    assert process.pid is not None
    seconds_until(plugin.state.stdout_log(NAME).read_text)
    child = int(plugin.state.stdout_log(NAME).read_text())
    assert is_alive(child)

    os.kill(process.pid, signal.SIGKILL)

    seconds_until(lambda: not is_alive(child))


def test_the_logs_of_runs_that_are_over_are_closed(plugin: SupervisordProcess) -> None:
    start(plugin)
    for _ in range(2):
        kill_and_wait(plugin, settle(plugin))
    settle(plugin)
    logs = sorted(str(log(NAME)) for log in (plugin.state.stdout_log, plugin.state.stderr_log))
    opened = [file.path for file in psutil.Process(plugin.pid).open_files()]
    assert sorted(path for path in opened if path in logs) == logs


def test_every_change_is_pushed_with_the_exit_code(plugin: SupervisordProcess) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as events:
        events.bind(str(plugin.state.events_socket))
        events.settimeout(10)
        put(plugin, CRASH, restarts=RestartPolicy(max_restarts=0))

        plugin.supervisord.start(NAME)

        pushes = (receive_push(events.recv(65536)) for _ in itertools.count())
        pushed = list(itertools.islice((push for push in pushes if push.program == NAME), 3))
    assert [process.state for process in pushed] == [State.STARTING, State.STARTING, State.FATAL]
    assert [process.pid is None for process in pushed] == [True, False, True]
    assert pushed[-1].exit_code == 3


def test_supervisorctl_starts_and_stops_what_we_applied(plugin: SupervisordProcess) -> None:
    put(plugin)

    assert "started" in plugin.ctl("start", NAME)
    assert "RUNNING" in plugin.ctl("status", NAME)
    assert "stopped" in plugin.ctl("stop", NAME)
    assert plugin.state_of(NAME) is State.STOPPED


def test_supervisorctl_lists_what_we_applied_and_not_what_we_removed(
    plugin: SupervisordProcess,
) -> None:
    put(plugin)
    assert NAME in plugin.ctl("avail")

    plugin.supervisord.remove(NAME)

    assert NAME not in plugin.ctl("avail")


def test_a_stock_reread_sees_no_difference_after_apply(plugin: SupervisordProcess) -> None:
    start(plugin)

    assert "No config updates" in plugin.ctl("reread")


def test_a_program_added_by_a_stock_update_is_ours_too(plugin: SupervisordProcess) -> None:
    plugin.programs.write(script_policy(plugin.state, NAME))

    plugin.ctl("update")

    plugin.supervisord.start(NAME)
    assert is_back_within(plugin, _TURN_SECONDS)


def test_a_damaged_neighbour_is_no_obstacle(plugin: SupervisordProcess) -> None:
    (plugin.state.conf_d / "broken--1.conf").write_bytes(b"[program:broken--1]\ncommand=\xff%\n")

    assert start(plugin).pid is not None


def test_a_config_that_speaks_for_others_is_refused(plugin: SupervisordProcess) -> None:
    put(plugin)
    config = plugin.state.conf_d / f"{NAME}.conf"
    config.write_text(config.read_text() + "\n[program:victim--1]\ncommand=/bin/true\n")

    with pytest.raises(SupervisordRefusedError, match="nothing else"):
        plugin.supervisord.apply(NAME, AT_ONCE)


def test_ten_slow_agents_stop_together(plugin: SupervisordProcess) -> None:
    slow = (
        "import signal, sys, time\n"
        "def stop(*_): time.sleep(1); sys.exit()\n"
        "signal.signal(signal.SIGTERM, stop); print('ready', flush=True); time.sleep(600)"
    )
    names = [f"slow--{number}" for number in range(10)]
    for name in names:
        put(plugin, slow, program=name)
        plugin.supervisord.start(name)
    for name in names:
        seconds_until(plugin.state.stdout_log(name).read_text)

    began = time.monotonic()
    plugin.send(signal.SIGTERM)
    plugin.process.wait(timeout=20)

    assert 1 <= time.monotonic() - began < 8  # one after the other they would take 10 s


def test_states_answer_while_supervisord_stops(plugin: SupervisordProcess) -> None:
    start(plugin, IGNORE_TERM, stop_seconds=2)
    seconds_until(plugin.state.stdout_log(NAME).read_text)

    plugin.send(signal.SIGTERM)

    seconds_until(lambda: not plugin.supervisord.snapshot().is_running)
    assert plugin.state_of(NAME) is State.STOPPING
    with pytest.raises(SupervisordUnreachableError, match="shutting down"):
        plugin.supervisord.start(NAME)


def test_a_crash_loop_does_not_hold_up_the_end(plugin: SupervisordProcess) -> None:
    put(plugin, CRASH, restarts=RestartPolicy(max_restarts=None, delay_seconds=0.1))
    plugin.supervisord.start(NAME)
    seconds_until(lambda: plugin.supervisord.states()[NAME].restarts > 1)

    began = time.monotonic()
    plugin.send(signal.SIGTERM)
    plugin.process.wait(timeout=20)

    assert time.monotonic() - began < 15


def test_the_api_is_started_again_for_ever(tmp_path: Path) -> None:
    crash = (sys.executable, "-I", "-S", "-c", CRASH)
    with SupervisordProcess(tmp_path, service_command=crash) as process:
        states = []

        def restarts() -> int:
            service = process.supervisord.states()["atoll-deployer"]
            states.append(service.state)
            return service.restarts

        seconds_until(lambda: restarts() >= 4, seconds=30)

    assert State.FATAL not in states


def test_a_second_supervisord_does_not_get_the_lock(plugin: SupervisordProcess) -> None:
    text = plugin.state.supervisord_conf.read_text()
    second = plugin.state.root / "second.conf"
    second.write_text(text.replace("supervisor.sock", "other.sock").replace("isord.pid", "2.pid"))

    done = subprocess.run(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(second)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert done.returncode == 2
    assert f"locked by process {plugin.pid}" in done.stderr


def test_a_reload_of_supervisord_leaves_a_working_plugin(plugin: SupervisordProcess) -> None:
    start(plugin)

    plugin.send(signal.SIGHUP)
    plugin.wait_until_reloaded()

    assert plugin.state_of(NAME) is State.STOPPED
    start(plugin)
    assert is_back_within(plugin, _TURN_SECONDS)


def test_agents_die_with_supervisord(plugin: SupervisordProcess) -> None:
    pid = start(plugin).pid
    assert pid is not None

    plugin.send(signal.SIGKILL)

    seconds_until(lambda: not is_alive(pid))


def test_a_log_path_that_stock_would_die_of_ends_fatal(plugin: SupervisordProcess) -> None:
    put(plugin)
    config = plugin.state.conf_d / f"{NAME}.conf"
    config.write_text(config.read_text().replace(".stdout.log", ".\0.log"))
    plugin.supervisord.apply(NAME, RestartPolicy(max_restarts=1, delay_seconds=0.1))

    plugin.supervisord.start(NAME)

    plugin.wait_for(NAME, State.FATAL)
    assert "null byte" in plugin.supervisord.states()[NAME].message


def test_a_command_that_cannot_be_executed_is_refused(plugin: SupervisordProcess) -> None:
    put(plugin)
    config = plugin.state.conf_d / f"{NAME}.conf"
    config.write_text(config.read_text().replace(f"command={sys.executable}", "command=/nowhere"))
    plugin.supervisord.apply(NAME, AT_ONCE)

    with pytest.raises(SupervisordRefusedError, match="NO_FILE"):
        plugin.supervisord.start(NAME)


def test_a_config_can_be_checked_before_it_is_written(plugin: SupervisordProcess) -> None:
    url = f"unix://{plugin.state.supervisor_socket}"
    rpc = Rpc(url, plugin.credentials.username, plugin.credentials.password, 5)

    assert rpc.call("check", "agents.check", NAME, f"[program:{NAME}]\ncommand=x")
    with pytest.raises(SupervisordRefusedError, match="nothing else"):
        rpc.call("check", "agents.check", NAME, "[supervisord]")


def test_programs_of_before_are_ours_after_a_restart_of_supervisord(
    plugin: SupervisordProcess,
) -> None:
    put(plugin)
    plugin.end()

    plugin.start()

    assert plugin.state_of(NAME) is State.STOPPED
    plugin.ctl("start", NAME)
    assert is_back_within(plugin, _TURN_SECONDS)


# Sockets -----------------------------------------------------------------------------------------

ACCEPT = """\
import os, socket
given = os.environ.get("LISTEN_FDS") == "1" and os.environ["LISTEN_PID"] == str(os.getpid())
listener = socket.socket(fileno=3) if given else socket.create_server(("127.0.0.1", {port}))
print("listening", flush=True)
while True:
    with listener.accept()[0] as connection:
        connection.sendall(b"%d" % os.getpid())
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def start_accepting(
    plugin: SupervisordProcess, port: int, code: str = ACCEPT, **fields: object
) -> int:
    """Start a program that takes over the socket at port, and give its pid."""
    values = {"port": port, "inherits_from": "127.0.0.1", **fields}
    process = start(plugin, code.replace("{port}", str(port)), **values)
    assert process.pid is not None
    return process.pid


def answer_of(port: int) -> int:
    """Ask a program of ours for its pid."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        return int(connection.recv(100))


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    except ConnectionRefusedError:
        return True
    return False


def held(plugin: SupervisordProcess) -> set[int]:
    return {port for _, port in plugin.supervisord.snapshot().sockets}


def sockets_of(pid: int) -> list[int]:
    """Name the descriptors of a process that are sockets."""
    links = Path(f"/proc/{pid}/fd").iterdir()
    return sorted(int(link.name) for link in links if str(link.readlink()).startswith("socket:"))


def test_a_held_port_takes_connections_before_anybody_runs(plugin: SupervisordProcess) -> None:
    port = free_port()

    plugin.supervisord.hold("127.0.0.1", port)
    plugin.supervisord.hold("127.0.0.1", port)

    assert held(plugin) == {port}
    with socket.create_connection(("127.0.0.1", port), timeout=10) as early:
        pid = start_accepting(plugin, port)
        assert int(early.recv(100)) == pid


def test_a_taken_port_is_told_in_words_and_harms_nobody(plugin: SupervisordProcess) -> None:
    pid = start(plugin).pid
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(SupervisordRefusedError, match=f"port {port}: .*already in use"):
            plugin.supervisord.hold("127.0.0.1", port)

    assert held(plugin) == set()
    assert plugin.supervisord.states()[NAME].pid == pid


@pytest.mark.parametrize(
    ("host", "port"), [("localhost", 9000), ("127.0.0.1", 0), ("127.0.0.1", 70000), ("::1%x", 9000)]
)
def test_what_is_no_address_is_refused(plugin: SupervisordProcess, host: str, port: int) -> None:
    with pytest.raises(SupervisordRefusedError, match="cannot hold port"):
        plugin.supervisord.hold(host, port)


def test_only_the_program_that_asks_for_a_socket_gets_it(plugin: SupervisordProcess) -> None:
    port = free_port()

    pid = start_accepting(plugin, port)
    other = start(plugin, program="other--1").pid

    seconds_until(plugin.state.stdout_log(NAME).read_text)
    assert sockets_of(pid) == [3]
    assert answer_of(port) == pid
    assert other is not None
    assert sockets_of(other) == []


def test_clients_of_a_killed_program_wait_for_the_next(plugin: SupervisordProcess) -> None:
    port = free_port()
    pid = start_accepting(plugin, port, restarts=RestartPolicy(max_restarts=5, delay_seconds=0.5))
    settle(plugin)

    for _ in range(3):
        kill_and_wait(plugin, pid)
        pid, former = answer_of(port), pid
        assert pid != former


def test_a_socket_in_use_is_not_let_go(plugin: SupervisordProcess) -> None:
    port = free_port()
    pid = start_accepting(plugin, port)

    plugin.supervisord.let_go("127.0.0.1", port)
    assert held(plugin) == {port}
    assert answer_of(port) == pid

    plugin.supervisord.kill(NAME)
    plugin.wait_for(NAME, State.STOPPED)
    plugin.supervisord.let_go("127.0.0.1", port)
    assert is_refused(port)
    plugin.supervisord.let_go("127.0.0.1", port)


def test_a_socket_that_nobody_wants_is_closed_after_some_seconds(
    plugin: SupervisordProcess,
) -> None:
    port = free_port()
    start_accepting(plugin, port)
    plugin.ctl("stop", NAME)
    assert not is_refused(port)

    assert seconds_until(lambda: is_refused(port), 15) > 3
    assert held(plugin) == set()


def test_a_program_that_waits_for_its_next_try_keeps_its_socket(
    plugin: SupervisordProcess,
) -> None:
    port = free_port()
    policy = RestartPolicy(max_restarts=5, delay_seconds=50)
    start_accepting(plugin, port, "import sys; sys.exit(3)", restarts=policy)
    seconds_until(lambda: plugin.supervisord.states()[NAME].restarts == 1)
    plugin.wait_for(NAME, State.BACKOFF)

    plugin.supervisord.let_go("127.0.0.1", port)

    assert held(plugin) == {port}


def test_an_operator_starts_a_program_with_a_socket_of_its_own(
    plugin: SupervisordProcess,
) -> None:
    port = free_port()
    put(plugin, ACCEPT, port=port, inherits_from="127.0.0.1")

    assert "started" in plugin.ctl("start", NAME)

    assert answer_of(port) == plugin.supervisord.states()[NAME].pid
    assert held(plugin) == {port}


def test_a_start_on_a_port_taken_meanwhile_is_refused_in_words(
    plugin: SupervisordProcess,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        put(plugin, ACCEPT, port=port, inherits_from="127.0.0.1")

        with pytest.raises(SupervisordRefusedError, match=f"port {port} for it: .*in use"):
            plugin.supervisord.start(NAME)
        assert "ERROR" in plugin.ctl("start", NAME)
    plugin.supervisord.start(NAME)
    assert answer_of(port)


def test_what_a_program_did_to_its_socket_ends_with_it(plugin: SupervisordProcess) -> None:
    port = free_port()
    spoil = (
        "import socket; s = socket.socket(fileno=3); s.setblocking(False); s.listen(1);"
        " s.shutdown(socket.SHUT_RDWR); print('spoilt', flush=True); import time; time.sleep(600)"
    )
    start_accepting(plugin, port, spoil)
    seconds_until(plugin.state.stdout_log(NAME).read_text)
    assert is_refused(port)
    plugin.supervisord.kill(NAME)
    plugin.wait_for(NAME, State.STOPPED)

    pid = start_accepting(plugin, port)

    assert settle(plugin) == pid  # it blocks in accept, or it would have ended with EAGAIN
    assert answer_of(port) == pid


LINGER = (
    "import os, signal, threading\n"
    "signal.signal(signal.SIGTERM, lambda *_: threading.Timer(1, os._exit, [0]).start())\n"
)
NEVER_ACCEPT = "import time; print('deaf', flush=True); time.sleep(600)"


def test_new_connections_go_past_a_program_that_is_about_to_stop(
    plugin: SupervisordProcess,
) -> None:
    port = free_port()
    former = start_accepting(plugin, port, LINGER + ACCEPT)
    assert settle(plugin) == former

    for _ in range(2):
        plugin.supervisord.stop(NAME, for_successor=True)
        plugin.wait_for(NAME, State.STOPPING)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as waiting:
            plugin.wait_for(NAME, State.STOPPED)  # it went on accepting for a second
            pid = start_accepting(plugin, port, LINGER + ACCEPT)
            assert int(waiting.recv(100)) == pid != former
        assert settle(plugin) == pid
        assert answer_of(port) == pid


def test_who_waits_for_a_program_that_never_accepts_is_left_to_its_successor(
    plugin: SupervisordProcess,
) -> None:
    port = free_port()
    start_accepting(plugin, port, NEVER_ACCEPT)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as waiting:
        plugin.supervisord.stop(NAME, for_successor=True)
        plugin.wait_for(NAME, State.STOPPED)

        pid = start_accepting(plugin, port)

        assert int(waiting.recv(100)) == pid


def test_a_program_that_dies_while_it_leaves_stays_dead(plugin: SupervisordProcess) -> None:
    port = free_port()
    pid = start_accepting(plugin, port)

    plugin.supervisord.stop(NAME, for_successor=True)
    os.kill(pid, signal.SIGKILL)

    seconds_until(lambda: plugin.supervisord.states()[NAME].pid is None)
    process = plugin.supervisord.states()[NAME]
    assert (process.restarts, process.next_try_at) == (0, None)


def test_a_program_without_a_held_socket_stops_at_once_for_its_successor(
    plugin: SupervisordProcess,
) -> None:
    start(plugin)

    plugin.supervisord.stop(NAME, for_successor=True)

    assert plugin.state_of(NAME) in {State.STOPPING, State.STOPPED}


def test_an_ipv6_socket_is_handed_over_as_well(plugin: SupervisordProcess) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as probe:
            port = probe.getsockname()[1]
    except OSError:
        pytest.skip("no IPv6 here")

    pid = start_accepting(plugin, port, inherits_from="::1")

    with socket.create_connection(("::1", port), timeout=10) as connection:
        assert int(connection.recv(100)) == pid


def test_a_reload_of_supervisord_lets_go_of_all(plugin: SupervisordProcess) -> None:
    port = free_port()
    start_accepting(plugin, port)

    plugin.send(signal.SIGHUP)
    plugin.wait_until_reloaded()

    assert held(plugin) == set()
    pid = start_accepting(plugin, port)
    assert answer_of(port) == pid


def test_a_program_of_before_a_restart_of_supervisord_gets_its_socket(
    plugin: SupervisordProcess,
) -> None:
    port = free_port()
    put(plugin, ACCEPT, port=port, inherits_from="127.0.0.1")
    plugin.end()
    plugin.start()

    plugin.ctl("start", NAME)

    assert answer_of(port) == plugin.supervisord.states()[NAME].pid
    assert held(plugin) == {port}
