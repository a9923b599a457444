"""The two ways to supervisord, on real ones; then what only our plugin does."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployer.errors import SupervisordRefusedError, SupervisordUnreachableError
from deployer.model import Process, RestartPolicy, State
from deployer.supervisor_rpc import Rpc
from deployer.supervisord import connect, receive_push
from tests.supervisord_process import (
    SupervisordProcess,
    is_alive,
    script_policy,
    wait_until,
)

NAME = "weather--7"
CRASH = "import sys; sys.exit(3)"
IGNORE_TERM = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True);"
    " time.sleep(600)"
)
AT_ONCE = RestartPolicy(delay_seconds=0.1)


@pytest.fixture(params=["plugin", "stock"])
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SupervisordProcess]:
    with SupervisordProcess(tmp_path, has_plugin=request.param == "plugin") as process:
        yield process


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[SupervisordProcess]:
    with SupervisordProcess(tmp_path) as process:
        yield process


def put(
    running: SupervisordProcess,
    code: str | None = None,
    program: str = NAME,
    restarts: RestartPolicy = AT_ONCE,
    **fields: object,
) -> None:
    more = {} if code is None else {"code": code}
    running.programs.write(script_policy(running.state, program, **more, **fields), restarts)
    running.supervisord.apply(program, restarts)


def start(running: SupervisordProcess, *arguments: object, **fields: object) -> Process:
    put(running, *arguments, **fields)
    program = str(fields.get("program", NAME))
    running.supervisord.start(program)
    return running.supervisord.states()[program]


def settle(running: SupervisordProcess, program: str = NAME) -> int:
    """Wait until a program has been up for a second, and give its pid."""
    running.wait_for(program, State.RUNNING)
    pid = running.supervisord.states()[program].pid
    assert pid is not None
    return pid


def kill_and_wait(running: SupervisordProcess, pid: int) -> float:
    """Kill a process and wait until another one is there; give the seconds that it took."""
    others = running.children()
    os.kill(pid, signal.SIGKILL)
    return wait_until(lambda: running.children() - others)


# Both ways ---------------------------------------------------------------------------------------


def test_an_applied_program_is_known_and_does_not_run(running: SupervisordProcess) -> None:
    put(running)

    assert running.supervisord.states()[NAME].state is State.STOPPED


def test_a_started_program_runs_with_a_pid_and_a_time(running: SupervisordProcess) -> None:
    start(running)

    assert is_alive(settle(running))
    process = running.supervisord.states()[NAME]
    assert process.started_at is not None
    assert abs(process.started_at.timestamp() - time.time()) < 10


def test_a_stopped_program_stays_stopped_and_can_be_started_again(
    running: SupervisordProcess,
) -> None:
    first = start(running).pid
    running.supervisord.stop(NAME)
    running.wait_for(NAME, State.STOPPED)

    running.supervisord.start(NAME)

    assert running.supervisord.states()[NAME].pid not in {first, None}


def test_asking_twice_is_fine(running: SupervisordProcess) -> None:
    put(running)
    put(running)
    running.supervisord.start(NAME)
    running.supervisord.start(NAME)
    running.supervisord.stop(NAME)
    running.wait_for(NAME, State.STOPPED)
    running.supervisord.stop(NAME)
    running.supervisord.kill(NAME)
    running.supervisord.remove(NAME)
    running.supervisord.remove(NAME)


def test_stopping_a_program_that_is_unknown_is_fine(running: SupervisordProcess) -> None:
    running.supervisord.stop(NAME)
    running.supervisord.kill(NAME)


def test_starting_a_program_that_is_unknown_is_refused(running: SupervisordProcess) -> None:
    with pytest.raises(SupervisordRefusedError, match=f"cannot start {NAME}: .*BAD_NAME"):
        running.supervisord.start(NAME)


def test_starting_a_program_that_still_stops_is_refused(running: SupervisordProcess) -> None:
    start(running, IGNORE_TERM)
    wait_until(running.state.stdout_log(NAME).read_text)
    running.supervisord.stop(NAME)

    with pytest.raises(SupervisordRefusedError, match="still stopping"):
        running.supervisord.start(NAME)

    running.supervisord.kill(NAME)
    assert running.wait_for(NAME, State.STOPPED) < 5


def test_a_killed_program_ends_at_once_and_stays_stopped(running: SupervisordProcess) -> None:
    start(running, IGNORE_TERM)
    wait_until(running.state.stdout_log(NAME).read_text)

    running.supervisord.kill(NAME)

    assert running.wait_for(NAME, State.STOPPED) < 5


def test_a_running_program_cannot_be_removed(running: SupervisordProcess) -> None:
    start(running)

    with pytest.raises(SupervisordRefusedError, match="STILL_RUNNING"):
        running.supervisord.remove(NAME)


def test_a_removed_program_is_unknown(running: SupervisordProcess) -> None:
    put(running)
    running.programs.delete(NAME)

    running.supervisord.remove(NAME)

    assert NAME not in running.supervisord.states()


def test_applying_a_program_touches_no_other(running: SupervisordProcess) -> None:
    other = start(running, program="other--1").pid

    start(running)

    assert running.supervisord.states()["other--1"].pid == other


def test_a_running_program_keeps_its_pid_when_the_same_config_is_applied(
    running: SupervisordProcess,
) -> None:
    pid = start(running).pid

    put(running)

    assert running.supervisord.states()[NAME].pid == pid


def test_another_config_is_refused_while_the_program_runs(running: SupervisordProcess) -> None:
    start(running)

    with pytest.raises(SupervisordRefusedError, match="STILL_RUNNING"):
        put(running, port=8199)


def test_another_config_is_taken_once_the_program_is_stopped(running: SupervisordProcess) -> None:
    put(running)

    put(running, "import os; print(os.environ['PORT'])", port=8199)

    running.supervisord.start(NAME)
    wait_until(lambda: "8199" in running.state.stdout_log(NAME).read_text())


def test_a_damaged_config_is_refused_with_the_reason(running: SupervisordProcess) -> None:
    put(running)
    config = next(running.state.root.glob(f"*.d/{NAME}.conf"))
    config.write_text(f"[program:{NAME}]\ncommand=100%\n")

    with pytest.raises(SupervisordRefusedError, match="badly formatted"):
        running.supervisord.apply(NAME, AT_ONCE)


def test_a_program_without_a_file_is_refused(running: SupervisordProcess) -> None:
    with pytest.raises(SupervisordRefusedError, match=f"cannot apply the config of {NAME}"):
        running.supervisord.apply(NAME, AT_ONCE)


def test_a_crash_loop_ends_fatal(running: SupervisordProcess) -> None:
    put(running, CRASH, restarts=RestartPolicy(max_restarts=1, delay_seconds=0.1))
    running.supervisord.start(NAME)

    running.wait_for(NAME, State.FATAL)


def test_a_wrong_password_is_told_in_a_sentence(running: SupervisordProcess) -> None:
    stranger = connect(f"unix://{running.state.supervisor_socket}", "operator", "wrong")

    with pytest.raises(SupervisordUnreachableError, match="401"):
        stranger.ping()


def test_many_threads_can_ask_at_once(running: SupervisordProcess) -> None:
    put(running)
    way = running.supervisord
    answers: list[State] = []
    threads = [
        threading.Thread(target=lambda: answers.append(way.states()[NAME].state)) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)

    assert answers == [State.STOPPED] * 20


def test_a_supervisord_that_is_gone_is_told_in_a_sentence(tmp_path: Path) -> None:
    nobody = connect(f"unix://{tmp_path}/nothing.sock")

    with pytest.raises(SupervisordUnreachableError, match="cannot reach supervisord: "):
        nobody.ping()


def test_a_supervisord_that_hangs_is_given_up_after_the_timeout(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "deaf.sock"))
        deaf.listen()
        way = connect(f"unix://{tmp_path}/deaf.sock", timeout_seconds=0.2)

        with pytest.raises(SupervisordUnreachableError, match="timed out"):
            way.states()


# Our plugin --------------------------------------------------------------------------------------


def test_an_agent_that_is_killed_is_back_in_a_fifth_of_a_second(plugin: SupervisordProcess) -> None:
    start(plugin)
    pid = settle(plugin)

    assert kill_and_wait(plugin, pid) < 0.2
    process = plugin.supervisord.states()[NAME]
    assert (process.signal, process.exit_code, process.restarts) == (9, None, 1)


def test_a_death_is_noticed_though_nothing_of_it_can_be_read(plugin: SupervisordProcess) -> None:
    start(plugin, "import os, time; os.closerange(0, 3); time.sleep(600)")

    assert kill_and_wait(plugin, settle(plugin)) < 0.2


def test_a_crash_loop_stops_after_max_restarts_and_says_so(plugin: SupervisordProcess) -> None:
    put(plugin, CRASH, restarts=RestartPolicy(max_restarts=3, delay_seconds=0.1))
    plugin.supervisord.start(NAME)

    plugin.wait_for(NAME, State.FATAL)

    process = plugin.supervisord.states()[NAME]
    assert (process.exit_code, process.restarts) == (3, 3)
    assert "gave up after 3 restarts: it died 4 times within 60 s" in process.message
    assert "exit status 3" in process.message


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
    kill_and_wait(plugin, settle(plugin))  # the first is back at once

    assert 0.2 < kill_and_wait(plugin, settle(plugin)) < 0.6


def test_a_program_that_waits_says_when_it_is_tried_again(plugin: SupervisordProcess) -> None:
    put(plugin, CRASH, restarts=RestartPolicy(max_restarts=3, delay_seconds=50))
    plugin.supervisord.start(NAME)

    wait_until(lambda: plugin.supervisord.states()[NAME].restarts == 1)
    plugin.wait_for(NAME, State.BACKOFF)

    process = plugin.supervisord.states()[NAME]
    assert process.next_try_at is not None
    assert 30 < process.next_try_at.timestamp() - time.time() < 60
    assert process.pid is None


def test_a_program_that_waits_can_be_started_at_once(plugin: SupervisordProcess) -> None:
    put(plugin, CRASH, restarts=RestartPolicy(max_restarts=3, delay_seconds=50))
    plugin.supervisord.start(NAME)
    wait_until(lambda: plugin.supervisord.states()[NAME].restarts == 1)
    plugin.wait_for(NAME, State.BACKOFF)
    before = plugin.supervisord.states()[NAME].started_at

    plugin.supervisord.start(NAME)

    wait_until(lambda: plugin.supervisord.states()[NAME].started_at != before)


def test_a_program_that_waits_can_be_stopped(plugin: SupervisordProcess) -> None:
    put(plugin, CRASH, restarts=RestartPolicy(max_restarts=3, delay_seconds=50))
    plugin.supervisord.start(NAME)
    wait_until(lambda: plugin.supervisord.states()[NAME].restarts == 1)
    plugin.wait_for(NAME, State.BACKOFF)

    plugin.supervisord.stop(NAME)

    assert plugin.state_of(NAME) is State.STOPPED


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


def test_children_of_a_dead_agent_are_gone(plugin: SupervisordProcess) -> None:
    fork = "import os, time; p = os.fork(); print(p, flush=True) if p else 0; time.sleep(600)"
    process = start(plugin, fork, restarts=RestartPolicy(enabled=False))
    assert process.pid is not None
    wait_until(plugin.state.stdout_log(NAME).read_text)
    child = int(plugin.state.stdout_log(NAME).read_text())
    assert is_alive(child)

    os.kill(process.pid, signal.SIGKILL)

    wait_until(lambda: not is_alive(child))


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
    assert kill_and_wait(plugin, settle(plugin)) < 0.5


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
        wait_until(plugin.state.stdout_log(name).read_text)

    began = time.monotonic()
    plugin.send(signal.SIGTERM)
    plugin.process.wait(timeout=20)

    assert 1 <= time.monotonic() - began < 3


def test_states_answer_while_supervisord_stops(plugin: SupervisordProcess) -> None:
    start(plugin, IGNORE_TERM, stop_seconds=2)
    wait_until(plugin.state.stdout_log(NAME).read_text)

    plugin.send(signal.SIGTERM)

    wait_until(lambda: not plugin.supervisord.snapshot().is_running)
    assert plugin.state_of(NAME) is State.STOPPING
    with pytest.raises(SupervisordUnreachableError, match="shutting down"):
        plugin.supervisord.start(NAME)


def test_a_crash_loop_does_not_hold_up_the_end(plugin: SupervisordProcess) -> None:
    put(plugin, CRASH, restarts=RestartPolicy(max_restarts=None, delay_seconds=0.1))
    plugin.supervisord.start(NAME)
    wait_until(lambda: plugin.supervisord.states()[NAME].restarts > 1)

    began = time.monotonic()
    plugin.send(signal.SIGTERM)
    plugin.process.wait(timeout=20)

    assert time.monotonic() - began < 3


def test_the_api_is_started_again_for_ever(tmp_path: Path) -> None:
    crash = (sys.executable, "-I", "-S", "-c", CRASH)
    with SupervisordProcess(tmp_path, service_command=crash) as process:
        states = []

        def restarts() -> int:
            service = process.supervisord.states()["atoll-deployer"]
            states.append(service.state)
            return service.restarts

        wait_until(lambda: restarts() >= 4, seconds=10)

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
    pid = start(plugin).pid
    assert pid is not None
    assert kill_and_wait(plugin, pid) < 0.5


def test_agents_die_with_supervisord(plugin: SupervisordProcess) -> None:
    pid = start(plugin).pid
    assert pid is not None

    plugin.send(signal.SIGKILL)

    assert wait_until(lambda: not is_alive(pid)) < 2


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
    pid = settle(plugin)
    assert kill_and_wait(plugin, pid) < 0.5
