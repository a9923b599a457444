"""The two ways to supervisord: the same tests on a real one with our plugin and on a stock one."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployer.errors import SupervisordRefusedError, SupervisordUnreachableError
from deployer.model import RestartPolicy, State
from deployer.supervisord import connect
from tests.supervisord_process import (
    AT_ONCE,
    CRASH,
    IGNORE_TERM,
    NAME,
    SupervisordProcess,
    is_alive,
    put,
    seconds_until,
    settle,
    start,
)


@pytest.fixture(params=["plugin", "stock"])
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SupervisordProcess]:
    with SupervisordProcess(tmp_path, has_plugin=request.param == "plugin") as process:
        yield process


def test_a_supervisord_that_was_started_anew_is_called_over_a_new_connection(
    running: SupervisordProcess,
) -> None:
    supervisord = running.supervisord
    assert supervisord.takes_orders()

    running.end()
    running.start()

    assert supervisord.takes_orders()


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


def test_one_program_is_found_as_it_is_among_all(running: SupervisordProcess) -> None:
    put(running)
    started = running.supervisord.start(NAME)
    running.wait_for(NAME, State.RUNNING)

    found = running.supervisord.find(NAME)

    assert found is not None
    assert found == running.supervisord.states()[NAME]
    assert found.pid == started.pid == settle(running)
    assert running.supervisord.find("nobody--1") is None


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
    seconds_until(running.state.stdout_log(NAME).read_text)
    running.supervisord.stop(NAME)

    with pytest.raises(SupervisordRefusedError, match="still stopping"):
        running.supervisord.start(NAME)

    running.supervisord.kill(NAME)
    assert running.wait_for(NAME, State.STOPPED) < 5


def test_a_killed_program_ends_at_once_and_stays_stopped(running: SupervisordProcess) -> None:
    start(running, IGNORE_TERM)
    seconds_until(running.state.stdout_log(NAME).read_text)

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
    seconds_until(lambda: "8199" in running.state.stdout_log(NAME).read_text())


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
