from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import replace

from deployer.model import Process, State
from deployer.processes import ProcessTable, is_running


def process(state: State, pid: int | None = None) -> Process:
    return Process(program="greeter--1", state=state, pid=pid)


class Supervisord:
    """Answers with what a test put in, and runs what it wants to happen meanwhile."""

    def __init__(self) -> None:
        self.processes: dict[str, Process] = {}
        self.meanwhile = lambda: None

    def read(self) -> Mapping[str, Process]:
        answer = dict(self.processes)
        self.meanwhile()
        return answer

    def find(self, program: str) -> Process | None:
        return self.read().get(program)


def test_a_full_read_replaces_everything() -> None:
    supervisord = Supervisord()
    table = ProcessTable(supervisord.read, supervisord.find)
    table.receive(process(State.RUNNING, 1))
    table.refresh()
    assert table.all() == {}


def test_a_push_during_a_full_read_is_newer_than_its_answer() -> None:
    supervisord = Supervisord()
    table = ProcessTable(supervisord.read, supervisord.find)
    supervisord.processes = {"greeter--1": process(State.STARTING, 1)}
    supervisord.meanwhile = lambda: table.receive(process(State.RUNNING, 1))
    table.refresh()
    assert table.get("greeter--1") == process(State.RUNNING, 1)


def test_a_push_that_a_full_read_has_overtaken_changes_nothing() -> None:
    supervisord = Supervisord()
    table = ProcessTable(supervisord.read, supervisord.find)
    supervisord.processes = {"greeter--1": replace(process(State.STARTING, 1), told_at=2)}
    table.refresh()
    table.receive(replace(process(State.STOPPED), told_at=1))
    assert table.get("greeter--1") == process(State.STARTING, 1)
    table.receive(replace(process(State.RUNNING, 1), told_at=3))
    assert table.get("greeter--1") == process(State.RUNNING, 1)


def test_a_push_that_came_late_during_a_full_read_is_older_than_its_answer() -> None:
    supervisord = Supervisord()
    table = ProcessTable(supervisord.read, supervisord.find)
    late = replace(process(State.STOPPED), told_at=1)
    supervisord.processes = {"greeter--1": replace(process(State.STARTING, 1), told_at=2)}
    supervisord.meanwhile = lambda: table.receive(late)
    table.refresh()
    assert table.get("greeter--1") == process(State.STARTING, 1)


def test_looking_one_up_leaves_the_others_alone() -> None:
    supervisord = Supervisord()
    table = ProcessTable(supervisord.read, supervisord.find)
    other = Process(program="other--1", state=State.RUNNING, pid=2)
    table.receive(other)
    supervisord.processes = {"greeter--1": process(State.RUNNING, 1)}
    assert table.look_up("greeter--1") == process(State.RUNNING, 1)
    supervisord.processes = {}
    assert table.look_up("greeter--1") is None
    assert table.all() == {"other--1": other}


def test_what_is_made_known_while_it_is_looked_up_stays() -> None:
    supervisord = Supervisord()
    table = ProcessTable(supervisord.read, supervisord.find)
    supervisord.meanwhile = lambda: table.receive(process(State.STARTING, 1))
    table.look_up("greeter--1")
    assert table.get("greeter--1") == process(State.STARTING, 1)


def test_a_waiter_goes_on_with_the_push_it_waits_for() -> None:
    supervisord = Supervisord()
    table = ProcessTable(supervisord.read, supervisord.find)
    supervisord.processes = {"greeter--1": process(State.RUNNING, 1)}
    threading.Timer(0.02, table.receive, [process(State.RUNNING, 1)]).start()
    assert table.wait("greeter--1", lambda one: one is not None and one.pid == 1, timeout_seconds=5)


def test_a_waiter_reads_anew_when_no_push_comes() -> None:
    supervisord = Supervisord()
    table = ProcessTable(supervisord.read, supervisord.find)
    supervisord.processes = {"greeter--1": process(State.STOPPED)}
    assert table.wait("greeter--1", lambda one: one is not None, timeout_seconds=5)


def test_a_waiter_gives_up_at_its_deadline() -> None:
    table = ProcessTable(Supervisord().read, Supervisord().find)
    assert not table.wait("greeter--1", lambda one: one is not None, timeout_seconds=0.01)


def test_observers_learn_what_was_and_what_is() -> None:
    seen: list[tuple[Process | None, Process]] = []
    table = ProcessTable(Supervisord().read, Supervisord().find)
    table.observe(lambda was, now: seen.append((was, now)))
    table.receive(process(State.STARTING, 1))
    table.receive(process(State.STARTING, 1))
    table.receive(process(State.RUNNING, 1))
    starting = process(State.STARTING, 1)
    assert seen == [(None, starting), (starting, process(State.RUNNING, 1))]


def test_the_kernel_knows_a_living_process_and_not_a_dead_one() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert is_running(os.getpid())
    assert not is_running(child.pid)


def test_a_process_that_waits_to_be_reaped_does_not_run() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_running(child.pid)
    child.wait()
