"""What agents have on the disk: seen, told, and stopped where settings say so."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from deployer.limits.disk_scans import DiskScan, scan, scan_disks
from deployer.quotas import breach
from tests.package_zips import zip_package
from tests.servers import RunningServer, wait_until

MakeServer = Callable[..., RunningServer]


def full(server: RunningServer, megabytes: int) -> None:
    """Deploy an agent that may have 1 MB, and have it take more."""
    server.client.deploy(zip_package("hog", replace={'"64MB"': '"64MB"\ndisk_limit = "1MB"'}))
    url = server.client.agent("hog").url
    assert requests.get(f"{url}/disk/{megabytes}", timeout=10).status_code == 200


def test_an_agent_over_its_disk_limit_is_degraded_until_it_has_made_room(
    make_server: MakeServer,
) -> None:
    server = make_server(limits={"disk_seconds": 0.3})
    full(server, 3)
    wait_until(lambda: server.client.agent("hog").status == "degraded")
    why = server.client.why("hog")
    assert (why.cause, bool(why.hint)) == ("has 2.9MiB on the disk and may have 1MB", True)
    usage = wait_until(lambda: server.client.agent("hog").usage)
    assert (usage.disk_bytes or 0) >= 3_000_000
    (server.state.agent_data("hog") / "filling").unlink()
    wait_until(lambda: server.client.agent("hog").status == "running")
    events = [event.message for event in server.client.events(agent="hog")]
    assert events.count("hog has 2.9MiB on the disk and may have 1MB") == 1


def test_an_agent_over_its_disk_limit_is_stopped_where_settings_say_so(
    make_server: MakeServer,
) -> None:
    server = make_server(limits={"disk_seconds": 0.3, "disk_over": "stop"})
    full(server, 3)
    wait_until(lambda: server.client.agent("hog").status == "failed")
    agent = server.client.agent("hog")
    assert (agent.pid, agent.desired) == (None, "stopped")
    assert agent.last_error == "hog is stopped: it has 2.9MiB on the disk and may have 1MB"


# The scan itself ----------------------------------------------------------------------------------


def test_links_are_not_followed_and_hard_ones_count_once(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "large").write_bytes(b"x" * 5_000_000)
    data = tmp_path / "data"
    data.mkdir()
    (data / "own").write_bytes(b"x" * 1_000_000)
    os.link(data / "own", data / "again")
    (data / "link").symlink_to(outside)
    (data / "file").symlink_to(outside / "large")

    found = scan(str(data), 10)

    assert 1_000_000 <= found.size_bytes < 1_100_000
    assert (found.entries, found.is_whole) == (4, True)


def test_a_directory_that_is_a_link_itself_counts_as_empty(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"x" * 100_000)
    (tmp_path / "link").symlink_to(tmp_path / "real")

    assert scan(str(tmp_path / "link"), 10) == DiskScan()


def test_a_very_deep_tree_is_looked_at_as_far_as_it_goes(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=folder)
        below = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    before = len(list(Path("/proc/self/fd").iterdir()))

    found = scan(str(tmp_path), 10)

    assert (found.entries, found.is_whole, found.is_deep) == (128, False, True)
    (summed,) = scan_disks([[tmp_path]], 10)
    assert summed == found
    assert "cannot be measured" in breach(summed, 10**12)
    assert not breach(summed, None)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    remove_deep(tmp_path / "d")


def remove_deep(path: Path) -> None:
    """Remove a tree that is too deep for shutil: by moving what is below to the top."""
    while True:
        below = path / "d"
        if not below.exists():
            path.rmdir()
            return
        moved = path.with_name("next")
        below.rename(moved)
        path.rmdir()
        moved.rename(path)


def test_a_look_ends_when_its_time_is_over(tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / str(number)).touch()

    found = scan(str(tmp_path), 0)

    assert (found.is_whole, found.entries < 3000) == (False, True)


def test_what_is_not_there_is_empty_and_names_may_be_anything(tmp_path: Path) -> None:
    odd = tmp_path / "-a\nb \x85"
    odd.mkdir()
    (odd / os.fsdecode(b"\xff\xfe")).write_bytes(b"x" * 100_000)

    found = scan_disks([[tmp_path / "gone", odd], [tmp_path / "gone"]], 10)

    assert 100_000 <= found[0].size_bytes < 200_000
    assert found[1] == DiskScan()


def test_many_files_are_looked_at_in_seconds_by_a_process_of_its_own(tmp_path: Path) -> None:
    for number in range(20_000):
        (tmp_path / str(number)).touch()
    began = time.monotonic()
    own = time.process_time()

    (found,) = scan_disks([[tmp_path]], 10)

    assert found.entries == 20_000
    assert time.process_time() - own < 0.2
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("kind", ["fifo", "unreadable"])
def test_what_cannot_be_looked_into_is_no_trouble(tmp_path: Path, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(tmp_path / "fifo")
    else:
        (tmp_path / "closed").mkdir(mode=0)

    assert scan(str(tmp_path), 10).entries == 1
