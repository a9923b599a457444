"""Limits without a kernel's help: who may what, who belongs to whom, and what is written where."""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deployer.byte_sizes import parse_bytes, size_text
from deployer.limits.allowances import Allowance, allow
from deployer.limits.cgroups1 import Cgroups1
from deployer.limits.cgroups2 import LEAF, Cgroups2
from deployer.limits.groups import is_over, mark, pids_in, run_groups
from deployer.limits.hierarchies import OwnGroups, find_own_groups
from deployer.limits.machines import Machine
from deployer.limits.mechanisms import choose_mechanisms
from deployer.limits.usages import Usages
from deployer.limits.verdicts import Verdict, Verdicts
from deployer.manifest import ResourcesTable
from deployer.settings import LimitSettings

GIB = 1024**3
MACHINE = Machine(cpus=(0, 1, 2, 3), memory_bytes=8 * GIB)
ALL = frozenset({"memory", "cpu", "pids"})
EVERYTHING = Allowance(memory_bytes=64_000_000, cpus=0.5, pids=20)


# What an agent may ------------------------------------------------------------------------------


def test_the_manifest_decides() -> None:
    table = ResourcesTable(cpu_limit=2.0, memory_limit="4GB", pids_limit=9, disk_limit="1GB")
    settings = LimitSettings(agent_cpus=1.0, agent_memory="1GB", agent_pids=5, agent_disk="2GB")

    assert allow(table, settings, MACHINE) == Allowance(4_000_000_000, 2.0, 9, 1_000_000_000)


def test_the_settings_decide_where_the_manifest_says_nothing() -> None:
    settings = LimitSettings(agent_cpus=1.0, agent_memory="1GB", agent_pids=5, agent_disk="2GB")

    assert allow(ResourcesTable(), settings, MACHINE) == Allowance(
        1_000_000_000, 1.0, 5, 2_000_000_000
    )


def test_an_agent_that_says_nothing_may_have_all_but_endless_processes() -> None:
    assert allow(ResourcesTable(), LimitSettings(), MACHINE) == Allowance(pids=4096)


def test_limits_beyond_the_machine_are_lowered_with_a_sentence_each() -> None:
    allowance = allow(ResourcesTable(cpu_limit=64, memory_limit="1TB"), LimitSettings(), MACHINE)

    assert (allowance.cpus, allowance.memory_bytes) == (4.0, 8 * GIB)
    assert allowance.clamped == (
        "memory_limit 1TB is more than the machine has: it is held to 8GiB",
        "cpu_limit 64 is more than the machine has: it is held to 4",
    )


# Sizes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["64MB", "4GB", "256MiB", "1KB", "1KiB", "1500MB", "3TiB", "1000B"]
)
def test_a_size_that_somebody_chose_is_shown_as_they_wrote_it(text: str) -> None:
    expected = "1KB" if text == "1000B" else text
    assert size_text(parse_bytes(text)) == expected


@given(st.integers(min_value=1, max_value=2**60))
@example(1)
@example(1023)
@example(1024**3 + 1)
def test_a_size_that_is_shown_reads_back_within_a_tenth(size: int) -> None:
    assert abs(parse_bytes(size_text(size)) - size) <= max(size, 1024) / 10


# Where groups are -------------------------------------------------------------------------------


def write_proc(tmp_path: Path, mounts: str, memberships: str) -> Path:
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "mountinfo").write_text(mounts)
    (proc / "cgroup").write_text(memberships)
    return proc


def test_groups_are_found_below_their_mounts(tmp_path: Path) -> None:
    memory, unified = tmp_path / "memory" / "a" / "b", tmp_path / "unified" / "s.service"
    memory.mkdir(parents=True)
    unified.mkdir(parents=True)
    proc = write_proc(
        tmp_path,
        f"30 1 0:1 / {tmp_path}/memory rw,relatime shared:1 - cgroup cgroup rw,memory\n"
        f"31 1 0:2 / {tmp_path}/unified rw,relatime - cgroup2 cgroup2 rw\n",
        "4:memory:/a/b\n3:cpu,cpuacct:/\n0::/s.service\n",
    )

    assert find_own_groups(proc) == OwnGroups(unified, {"memory": memory})


def test_a_mount_may_show_a_part_of_the_hierarchy_as_in_a_container(tmp_path: Path) -> None:
    (tmp_path / "cg fs").mkdir()
    proc = write_proc(
        tmp_path,
        f"30 1 0:1 /docker/x {tmp_path}/cg\\040fs rw - cgroup2 cgroup2 rw\n",
        "0::/docker/x\n",
    )

    assert find_own_groups(proc) == OwnGroups(tmp_path / "cg fs", {})


def test_a_group_outside_of_what_is_mounted_is_not_found(tmp_path: Path) -> None:
    proc = write_proc(
        tmp_path, f"30 1 0:1 /docker/x {tmp_path} rw - cgroup2 c rw\n", "0::/docker/xy\n"
    )

    assert find_own_groups(proc) == OwnGroups()


def test_without_such_a_kernel_there_are_none(tmp_path: Path) -> None:
    assert find_own_groups(tmp_path / "nothing") == OwnGroups()


def test_two_state_directories_never_share_a_group() -> None:
    assert mark(Path("/a/state")) != mark(Path("/b/state"))


# What is written in them ------------------------------------------------------------------------


def test_version_1_has_a_group_in_the_hierarchy_of_each_limit(tmp_path: Path) -> None:
    own = {kind: tmp_path / kind for kind in ("memory", "cpu", "pids")}
    (own["memory"] / "atoll-x").mkdir(parents=True)
    (own["memory"] / "atoll-x" / "memory.memsw.limit_in_bytes").touch()

    memory, cpu, pids = Cgroups1(OwnGroups(None, own), "atoll-x").plans("w--1", EVERYTHING, ALL)

    assert memory.directory == own["memory"] / "atoll-x" / "w--1"
    assert memory.settings == (
        ("memory.limit_in_bytes", "64000000"),
        ("memory.memsw.limit_in_bytes", "64000000"),
    )
    assert cpu.settings == (("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "50000"))
    assert pids.settings == (("pids.max", "20"),)


def test_version_2_has_one_group_for_all_limits(tmp_path: Path) -> None:
    (group,) = Cgroups2(OwnGroups(tmp_path), "atoll-x").plans("w--1", EVERYTHING, ALL)

    assert group.directory == tmp_path / "atoll-x" / "w--1"
    assert dict(group.settings) == {
        "memory.max": "64000000",
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "cpu.max": "50000 100000",
        "pids.max": "20",
    }


@pytest.mark.parametrize("kind", [Cgroups1, Cgroups2])
def test_without_a_limit_there_is_no_group(tmp_path: Path, kind: type[Cgroups1 | Cgroups2]) -> None:
    own = OwnGroups(tmp_path, dict.fromkeys(("memory", "cpu", "pids"), tmp_path))

    assert kind(own, "atoll-x").plans("w--1", Allowance(), ALL) == ()


def delegated(tmp_path: Path) -> Path:
    """Make what systemd gives with Delegate=yes, as files: this test's stand-in for a kernel."""
    base = tmp_path / "atoll.service"
    for group in (base, base / "atoll-x"):
        group.mkdir(parents=True)
        (group / "cgroup.controllers").write_text("cpu memory pids\n")
        (group / "cgroup.subtree_control").write_text("")
    return base


def test_version_2_hands_a_controller_down_twice(tmp_path: Path) -> None:
    base = delegated(tmp_path)

    Cgroups2(OwnGroups(base), "atoll-x").open("memory")

    assert (base / "cgroup.subtree_control").read_text() == "+memory"
    assert (base / "atoll-x" / "cgroup.subtree_control").read_text() == "+memory"


def test_an_api_that_was_moved_into_the_leaf_finds_its_groups_beside_it(tmp_path: Path) -> None:
    base = delegated(tmp_path)

    assert Cgroups2(OwnGroups(base / LEAF), "atoll-x").roots["memory"] == base / "atoll-x"


def test_a_controller_that_is_not_delegated_is_refused(tmp_path: Path) -> None:
    base = delegated(tmp_path)
    (base / "cgroup.controllers").write_text("io\n")

    with pytest.raises(FileNotFoundError, match="memory is not among the controllers"):
        Cgroups2(OwnGroups(base), "atoll-x").open("memory")


def test_oom_kills_are_counted_by_both_versions(tmp_path: Path) -> None:
    (tmp_path / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    (tmp_path / "memory.events").write_text("low 0\nmax 9\noom 2\noom_kill 2\noom_group_kill 1\n")

    assert Cgroups1(OwnGroups(), "x").oom_kills(tmp_path) == 3
    assert Cgroups2(OwnGroups(), "x").oom_kills(tmp_path) == 2


def test_the_counter_of_a_group_that_is_gone_is_nothing(tmp_path: Path) -> None:
    assert Cgroups1(OwnGroups(), "x").oom_kills(tmp_path / "gone") == 0


def test_processes_of_foreign_pid_namespaces_are_not_ourselves(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text("0\n17\n0\n")

    assert pids_in(tmp_path) == (17,)


def test_only_groups_of_runs_are_taken_for_such(tmp_path: Path) -> None:
    for name in ("weather--1.4711", "we.ather--2.12", "memory.stat", "other"):
        (tmp_path / name).mkdir()

    found = {(group.program, group.pid) for group in run_groups(tmp_path)}

    assert found == {("weather--1", 4711), ("we.ather--2", 12)}


def test_a_launcher_that_has_not_joined_its_group_yet_is_no_run_that_is_over(
    tmp_path: Path,
) -> None:
    (tmp_path / f"weather--1.{os.getpid()}").mkdir()
    (tmp_path / "weather--1.4194305").mkdir()  # more than any pid

    verdicts = {group.pid: is_over(group) for group in run_groups(tmp_path)}

    assert verdicts == {os.getpid(): False, 4194305: True}


# What holds what --------------------------------------------------------------------------------


def test_without_groups_nothing_but_own_uids_is_hard() -> None:
    mechanisms, _ = choose_mechanisms((), rlimits=True, own_uids=False)

    assert [mechanisms.memory.hard, mechanisms.cpu.hard, mechanisms.pids.hard] == [False] * 3
    assert mechanisms.pids.name == "watchdog"


def test_with_a_uid_for_each_agent_its_processes_can_be_counted_by_it() -> None:
    mechanisms, _ = choose_mechanisms((), rlimits=True, own_uids=True)

    assert (mechanisms.pids.name, mechanisms.pids.hard) == ("rlimit", True)


def test_what_does_not_work_is_told(tmp_path: Path) -> None:
    mechanisms, failures = choose_mechanisms(
        (Cgroups2(OwnGroups(tmp_path), "x"), Cgroups1(OwnGroups(), "x")),
        rlimits=False,
        own_uids=False,
    )

    assert mechanisms.cpu.name == "none"
    assert len(failures) == 6
    assert failures[1] == "cgroup1 for memory: no hierarchy of version 1 with memory is mounted"


# Who belongs to whom ----------------------------------------------------------------------------


def stat(
    pid: int, parent: int, *, group: int = 0, session: int = 1, ticks: int = 0, pages: int = 1
) -> bytes:
    """Write a line as the kernel does, with a name that is hard to read past."""
    fields = ["S", parent, group or pid, session, 0, -1, 0, 0, 0, 0, 0, ticks, 0, 0, 0]
    fields += [20, 0, 1, 0, 1000 + pid, 0, pages, 0]
    return f"{pid} (a) b (c) ".encode() + " ".join(map(str, fields)).encode()


class Table:
    """A process table that tests change; variables as the kernel shows them."""

    def __init__(self, *lines: bytes) -> None:
        self.lines = list(lines)
        self.variables: dict[int, bytes | None] = {}
        self.users: dict[int, int] = {}
        self.asked: list[int] = []
        self.passed_over: list[set[int]] = []
        self.usages = Usages(
            Path("/state"),
            read_table=self._list,
            read_variables=self._read,
            read_user=lambda pid: self.users.get(pid, 0),
        )

    def _list(self, known: Container[int]) -> list[bytes]:
        lines = {int(line.split()[0]): line for line in self.lines}
        self.passed_over.append({pid for pid in lines if pid in known})
        return [line for pid, line in lines.items() if pid not in known]

    def _read(self, pid: int) -> bytes | None:
        self.asked.append(pid)
        return self.variables.get(pid, b"")

    def measure(self, **grouped: tuple[int, ...]) -> dict[str, set[int]]:
        """Look once, with the processes of agents' first releases that groups list."""
        by_program = {f"{name}--1": pids for name, pids in grouped.items()}
        usages = self.usages.measure(MAINS, by_program)
        return {program: {pid for pid, _ in usage.members} for program, usage in usages.items()}


MAINS = {"a--1": 10, "b--1": 20}


def test_descendants_belong_to_their_main_process() -> None:
    table = Table(stat(1, 0), stat(10, 5), stat(11, 10), stat(12, 11), stat(20, 5), stat(30, 5))

    assert table.measure() == {"a--1": {10, 11, 12}, "b--1": {20}}


def test_an_orphan_that_kept_its_process_group_belongs_to_it() -> None:
    assert Table(stat(10, 5), stat(12, 1, group=10)).measure() == {"a--1": {10, 12}}


@pytest.mark.parametrize("place", ["group", "session"])
def test_one_of_another_user_that_has_joined_a_group_is_nobodys(place: str) -> None:
    table = Table(stat(10, 5), stat(12, 1, **{place: 10}))
    table.users[12] = 70_001

    assert table.measure() == {"a--1": {10}}


def test_one_that_joins_another_group_stays_where_it_belonged() -> None:
    table = Table(stat(10, 5), stat(11, 10), stat(20, 5))
    table.measure()
    table.lines = [stat(10, 5), stat(11, 1, group=20), stat(20, 5)]

    assert table.measure() == {"a--1": {10, 11}, "b--1": {20}}


def test_an_orphan_of_another_session_belongs_where_it_once_did() -> None:
    table = Table(stat(10, 5), stat(11, 10), stat(12, 11))
    table.measure()
    table.lines = [stat(10, 5), stat(12, 1, session=12)]

    assert table.measure() == {"a--1": {10, 12}}


def test_a_number_that_was_given_anew_belongs_to_nobody() -> None:
    table = Table(stat(10, 5), stat(12, 10))
    table.measure()
    table.lines = [stat(10, 5), stat(12, 1, session=12).replace(b" 1012 ", b" 5012 ")]

    assert table.measure() == {"a--1": {10}}


def test_one_that_left_unseen_is_known_by_its_variables_and_brings_its_children() -> None:
    table = Table(stat(10, 5), stat(12, 1, session=12), stat(13, 12, session=12))
    table.variables[12] = b"ATOLL_DEPLOYER_STATE=/state\0ATOLL_AGENT_PROGRAM=a--1\0"

    assert table.measure() == {"a--1": {10, 12, 13}}


def test_one_of_another_user_is_not_believed_whose_it_is() -> None:
    table = Table(stat(10, 5), stat(12, 1, session=12))
    table.users[12] = 70_001
    table.variables[12] = b"ATOLL_DEPLOYER_STATE=/state\0ATOLL_AGENT_PROGRAM=a--1\0"

    assert table.measure() == {"a--1": {10}}


def test_one_whose_variables_are_closed_is_known_by_its_user() -> None:
    table = Table(stat(10, 5), stat(12, 1, session=12), stat(13, 1, session=13), stat(20, 5))
    table.users = {10: 70_001, 12: 70_001, 13: 70_002, 20: os.geteuid()}
    table.variables = {12: None, 13: None}

    assert table.measure() == {"a--1": {10, 12}, "b--1": {20}}


def test_a_user_of_two_runs_or_of_the_server_tells_neither() -> None:
    for user, other in ((70_001, 70_001), (os.geteuid(), 70_001)):
        table = Table(stat(10, 5), stat(12, 1, session=12), stat(20, 5))
        table.users = {10: user, 12: user, 20: other}
        table.variables[12] = None

        assert table.measure() == {"a--1": {10}, "b--1": {20}}


def test_variables_of_another_server_say_nothing() -> None:
    table = Table(stat(10, 5), stat(12, 1, session=12))
    table.variables[12] = b"ATOLL_DEPLOYER_STATE=/other\0ATOLL_AGENT_PROGRAM=a--1\0"

    assert table.measure() == {"a--1": {10}}


def test_strangers_are_asked_for_their_variables_once() -> None:
    table = Table(stat(10, 5), stat(12, 1, session=12))
    table.measure()
    table.measure()

    assert table.asked == [12]


def test_strangers_are_passed_over_but_for_every_fifth_look() -> None:
    table = Table(stat(10, 5), stat(11, 10), stat(12, 1, session=12))
    for _ in range(6):
        assert table.measure() == {"a--1": {10, 11}}

    assert table.passed_over == [set(), {12}, {12}, {12}, {12}, set()]


def test_strangers_are_looked_at_again_once_a_run_is_new_or_a_group_lists_them() -> None:
    table = Table(stat(10, 5), stat(12, 1, session=12), stat(13, 12, session=12))
    table.usages.measure({"a--1": 10})

    assert set(table.usages.measure({"a--1": 10, "b--1": 12})) == {"a--1", "b--1"}
    assert table.measure(a=(10, 13)) == {"a--1": {10, 13}}


def test_a_number_of_a_stranger_that_was_given_anew_is_found() -> None:
    table = Table(stat(10, 5), stat(12, 1, session=12))
    table.measure()
    table.lines = [stat(10, 5), stat(12, 10, session=12).replace(b" 1012 ", b" 5012 ")]
    for _ in range(5):
        table.measure()

    assert table.measure() == {"a--1": {10, 12}}


def test_what_a_group_lists_belongs_in_any_case() -> None:
    assert Table(stat(10, 5), stat(12, 1, session=12)).measure(a=(10, 12)) == {"a--1": {10, 12}}


def test_a_run_whose_main_process_is_gone_uses_nothing() -> None:
    assert Table(stat(12, 1, group=10)).measure() == {}


def test_cpu_time_never_falls_though_an_orphan_takes_its_own_along() -> None:
    table = Table(stat(10, 5, ticks=300), stat(12, 1, group=10, ticks=500))
    table.measure()
    table.lines = [stat(10, 5, ticks=400)]
    table.measure()
    table.lines = [stat(10, 5, ticks=700)]
    table.measure()

    usage = table.usages.of("a--1")
    assert usage is not None
    assert usage.cpu_seconds * os.sysconf("SC_CLK_TCK") == pytest.approx(800 + 300)


def test_cpu_time_of_another_run_begins_anew() -> None:
    table = Table(stat(10, 5, ticks=300))
    table.measure()
    table.lines = [stat(11, 5, ticks=20)]

    usage = table.usages.measure({"a--1": 11})["a--1"]
    assert usage.cpu_seconds * os.sysconf("SC_CLK_TCK") == pytest.approx(20)


def test_memory_and_cpu_time_are_those_of_all_members() -> None:
    table = Table(stat(10, 5, ticks=100, pages=3), stat(11, 10, ticks=50, pages=4))
    table.usages.measure(MAINS)
    first = table.usages.of("a--1")
    table.lines = [stat(10, 5, ticks=200, pages=3), stat(11, 10, ticks=90, pages=4)]
    table.usages.measure(MAINS)
    second = table.usages.of("a--1")

    assert first is not None
    assert second is not None
    assert (first.cpus, first.memory_bytes) == (None, 7 * os.sysconf("SC_PAGE_SIZE"))
    assert second.cpus is not None
    assert second.cpus > 0
    samples = [(each.cpus, each.memory_bytes) for each in table.usages.history("a--1")]
    assert samples == [(each.cpus, each.memory_bytes) for each in (first, second)]


# Verdicts ---------------------------------------------------------------------------------------


def test_a_verdict_is_on_one_run() -> None:
    verdicts = Verdicts()
    verdict = Verdict(10, "memory-limit", "killed", "")
    verdicts.record("a--1", verdict)

    assert verdicts.of("a--1", 10) == verdict
    assert verdicts.of("a--1", None) == verdict
    assert verdicts.of("a--1", 11) is None
    verdicts.forget("a--1")
    assert verdicts.of("a--1", 10) is None
