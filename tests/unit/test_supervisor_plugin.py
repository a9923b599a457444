"""The plugin's parts without a supervisord around them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from supervisor import loggers
from supervisor.options import ServerOptions
from supervisor.states import ProcessStates

from deployer.model import RestartPolicy
from deployer.program_configs import parse_program
from deployer.restarts import Restarts, ServiceRestarts, restart_delay
from deployer.supervisor_plugin.attention import Attention
from deployer.supervisor_plugin.locks import Lock, LockHeldError
from deployer.supervisor_plugin.processes import AgentConfig, AgentProcess
from deployer.supervisor_plugin.sockets import HeldSockets
from deployer.supervisor_plugin.throttles import Throttle

NOBODY = 2**22 + 1  # larger than any pid
EXIT_3 = 3 << 8


class Clock:
    """A clock that somebody else moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def restarts(policy: RestartPolicy, clock: Clock) -> Restarts:
    return Restarts(policy, clock=clock, jitter=lambda: 1.0)


def die_and_wait(subject: Restarts, clock: Clock, *, up: float) -> float | None:
    """Run for up seconds, die, and wait as long as told."""
    clock.now += up
    delay = subject.record_death()
    if delay is not None:
        clock.now += delay
        subject.record_restart()
    return delay


# Restarts ----------------------------------------------------------------------------------------


def test_delays_double_up_to_the_cap() -> None:
    policy = RestartPolicy(max_restarts=None, delay_seconds=5, max_delay_seconds=60)

    assert [restart_delay(policy, n) for n in range(7)] == [0, 5, 10, 20, 40, 60, 60]


def test_a_long_history_costs_no_overflow() -> None:
    assert restart_delay(RestartPolicy(max_restarts=None), 100_000) == 60


def test_only_the_first_restart_comes_at_once_even_without_a_delay() -> None:
    policy = RestartPolicy(max_restarts=None, delay_seconds=0)

    assert restart_delay(policy, 0) == 0
    assert restart_delay(policy, 1) == 0.1


def test_jitter_never_exceeds_the_cap() -> None:
    assert restart_delay(RestartPolicy(max_restarts=None), 20, jitter=1.1) == 60


def test_after_max_restarts_it_gives_up() -> None:
    clock = Clock()
    subject = restarts(RestartPolicy(max_restarts=2, delay_seconds=5), clock)

    assert [die_and_wait(subject, clock, up=0.1) for _ in range(3)] == [0, 5, None]
    assert "after 2 restarts: it died 3 times within 60 s" in subject.explain_giving_up()


def test_a_quiet_window_makes_the_next_death_the_first_again() -> None:
    clock = Clock()
    subject = restarts(RestartPolicy(max_restarts=2, delay_seconds=5), clock)

    assert [die_and_wait(subject, clock, up=61) for _ in range(5)] == [0] * 5


def test_waiting_is_not_quiet() -> None:
    clock = Clock()
    policy = RestartPolicy(max_restarts=6, delay_seconds=30, max_delay_seconds=600)
    subject = restarts(policy, clock)

    delays = [die_and_wait(subject, clock, up=0.1) for _ in range(7)]

    assert delays == [0, 30, 60, 120, 240, 480, None]


def test_deaths_leave_the_window_one_by_one() -> None:
    clock = Clock()
    subject = restarts(RestartPolicy(max_restarts=3, delay_seconds=5), clock)

    assert [die_and_wait(subject, clock, up=25) for _ in range(6)] == [0, 5, 10, 10, 10, 10]


def test_without_restarts_there_is_none() -> None:
    assert restarts(RestartPolicy(enabled=False), Clock()).record_death() is None


def test_somebody_who_starts_it_begins_anew() -> None:
    clock = Clock()
    subject = restarts(RestartPolicy(max_restarts=1), clock)
    die_and_wait(subject, clock, up=1)

    subject.forget()

    assert subject.count == 0
    assert die_and_wait(subject, clock, up=1) == 0


def test_the_api_is_never_given_up() -> None:
    clock = Clock()
    subject = ServiceRestarts(RestartPolicy(max_restarts=0), clock=clock)

    delays = [die_and_wait(subject, clock, up=0.1) for _ in range(100)]

    assert delays[:7] == [0, 0.2, 0.5, 1, 2, 5, 5]
    assert delays[-1] == 5


# Processes ---------------------------------------------------------------------------------------


@pytest.fixture
def running() -> AgentProcess:
    """A process that supervisord believes to run, and that nobody has ever started."""
    options = ServerOptions()
    options.environ_expansions = {}
    options.here = "/"
    options.logger = loggers.getLogger()
    config = parse_program(
        "weather--7",
        "[program:weather--7]\ncommand=/bin/true\n",
        options,
        config_class=lambda options, **parameters: AgentConfig(
            options,
            restarts=lambda _: Restarts(RestartPolicy()),
            push=_fail,
            sockets=HeldSockets(),
            throttles=lambda _: Throttle(0, 0),
            attention=Attention(None),
            **parameters,
        ),
        here=Path("/"),
    )
    process: AgentProcess = config.make_process()
    process.state = ProcessStates.RUNNING
    process.pid = NOBODY
    process.laststart = 1
    return process


def _fail(_document: object) -> None:
    raise RuntimeError("a push that fails")


def test_an_end_leads_to_backoff_though_pushes_fail(running: AgentProcess) -> None:
    running.finish(NOBODY, EXIT_3)

    assert running.state == ProcessStates.BACKOFF
    assert running.exit_code == 3


def test_an_end_that_stock_cannot_handle_still_leads_to_a_restart(running: AgentProcess) -> None:
    running.state = ProcessStates.UNKNOWN  # stock asserts RUNNING, and supervisord would end

    running.finish(NOBODY, EXIT_3)

    assert running.pid == 0
    assert running.state == ProcessStates.BACKOFF


def test_a_stop_that_stock_cannot_handle_leaves_it_stopped(running: AgentProcess) -> None:
    running.killing = True  # while RUNNING: stock asserts STOPPING

    running.finish(NOBODY, EXIT_3)

    assert running.state == ProcessStates.STOPPED


def test_an_error_in_a_step_is_not_let_out(running: AgentProcess) -> None:
    running.state = ProcessStates.STOPPING
    running.delay = "not a number"

    running.transition()


# Locks -------------------------------------------------------------------------------------------


def test_a_lock_is_one_holders_until_it_is_closed(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    held = Lock(path)

    with pytest.raises(LockHeldError, match=r"locked by process \d+"):
        Lock(path)

    held.close()
    Lock(path).close()


# Turns -------------------------------------------------------------------------------------------

REAP_102 = """
import os, select
from supervisor import loggers
from supervisor.options import ServerOptions
from supervisor.supervisord import Supervisor
from deployer.supervisor_plugin.wakeups import SignalWakeup, wake_when_more_are_dead

options = ServerOptions()
options.logger, options.pidhistory, polled = loggers.getLogger(), {}, {}
supervisord, wakeup = Supervisor(options), SignalWakeup(polled)
wake_when_more_are_dead(supervisord, wakeup)
pids = [os.fork() or os._exit(0) for _ in range(102)]
for pid in pids:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
for _ in range(2):
    supervisord.reap()
    print("is woken:", bool(select.select(list(polled), [], [], 0)[0]))
    wakeup.handle_read_event()
"""


def test_more_deaths_than_supervisord_reaps_in_a_turn_are_met_in_the_next_one_at_once() -> None:
    # its children are reaped whoever started them: so not within the process of the tests
    done = subprocess.run(
        [sys.executable, "-c", REAP_102], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout.splitlines() == ["is woken: True", "is woken: False"]
