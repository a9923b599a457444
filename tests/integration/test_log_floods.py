"""An agent that prints without end: held up, or stopped, and no burden to anybody else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import requests

from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server, wait_until

LIMITS = {"log_bytes_per_second": "1MB", "log_burst_seconds": 1, "log_bytes": "2MB"}
MB = 1_000_000


LAST_WORDS = """
import signal

def end(*_):
    os.write(1, b"these are the last words\\n")
    os._exit(0)

signal.signal(signal.SIGTERM, end)
serving.serve(answer)
"""


@pytest.fixture(scope="module")
def calm(
    tmp_path_factory: pytest.TempPathFactory, installer_cache: Path
) -> Iterator[RunningServer]:
    """A server with a calm agent and one that has not printed anything yet."""
    root = tmp_path_factory.mktemp("f") / "state"
    with running_server(root, cache_dir=installer_cache, limits=LIMITS) as server:
        server.client.deploy(zip_package("stdlib_agent", name="calm"))
        server.client.deploy(zip_package("hog", replace={"serving.serve(answer)": LAST_WORDS}))
        yield server


@pytest.fixture(scope="module")
def calm_seconds(calm: RunningServer) -> list[float]:
    """How long the calm agent and the API take to answer before the flood."""
    return [seconds_to_answer(ask) for ask in questions(calm)]


@pytest.fixture(scope="module")
def flooded(calm: RunningServer, calm_seconds: list[float]) -> RunningServer:
    """The same server, while the other agent would print 500 MB."""
    assert calm_seconds
    requests.get(f"{calm.client.agent('hog').url}/flood/500", timeout=10)
    wait_until(lambda: kinds(calm), what="the timeline says so")
    return calm


def kinds(server: RunningServer, agent: str = "hog") -> list[str]:
    kinds = [event.kind for event in server.client.events(agent=agent)]
    return [kind for kind in kinds if kind in {"agent.log_throttled", "agent.stopped_over_limit"}]


def logs_of(server: RunningServer) -> list[Path]:
    return list(server.state.logs.glob("hog--1.stdout.log*"))


def questions(server: RunningServer) -> list[Callable[[], requests.Response]]:
    url = server.client.agent("calm").url
    return [
        lambda: requests.get(f"{url}/health", timeout=10),
        lambda: server.request("GET", "/readyz"),
    ]


def seconds_to_answer(ask: Callable[[], requests.Response], count: int = 30) -> float:
    """Ask so often, and give the median."""
    times = []
    for _ in range(count):
        began = time.monotonic()
        assert ask().status_code == 200
        times.append(time.monotonic() - began)
    return sorted(times)[count // 2]


def test_a_flood_is_told_once_and_its_agent_serves_on(flooded: RunningServer) -> None:
    assert kinds(flooded) == ["agent.log_throttled"]
    agent = flooded.client.agent("hog")
    assert agent.status == "running"
    assert requests.get(f"{agent.url}/health", timeout=10).status_code == 200


def test_it_writes_no_faster_than_it_may(flooded: RunningServer) -> None:
    url = flooded.client.agent("hog").url

    def written() -> int:
        count: int = requests.get(f"{url}/written", timeout=10).json()["bytes"]
        return count

    began = time.monotonic()
    before = written()
    wait_until(lambda: written() > before + 2 * MB)
    more = written() - before
    seconds = time.monotonic() - began
    # what was saved up in a second of rest comes on top, and what fits into the pipe
    assert more < (seconds + 1.5) * MB


def test_supervisord_is_not_busy_with_a_flood(flooded: RunningServer) -> None:
    assert flooded.process is not None
    supervisord = psutil.Process(flooded.process.pid)
    before, began = sum(supervisord.cpu_times()[:2]), time.monotonic()
    time.sleep(2)
    assert (sum(supervisord.cpu_times()[:2]) - before) / (time.monotonic() - began) < 0.2


def test_others_and_the_api_answer_as_ever_meanwhile(
    flooded: RunningServer, calm_seconds: list[float]
) -> None:
    for ask, before in zip(questions(flooded), calm_seconds, strict=True):
        assert seconds_to_answer(ask) < 10 * before + 0.2  # the machine has more to do than before


def test_its_log_grows_at_its_pace_and_the_disk_holds_a_bounded_part(
    flooded: RunningServer,
) -> None:
    def size() -> int:
        return sum(path.stat().st_size for path in logs_of(flooded))

    wait_until(lambda: size() > MB)
    assert size() <= 4 * 2.2 * MB


def test_a_neighbour_is_deployed_and_stopped_meanwhile(flooded: RunningServer) -> None:
    flooded.client.deploy(zip_package("stdlib_agent", name="late"))
    flooded.client.remove("late")


def test_a_flooding_agent_can_be_stopped_and_its_last_words_are_kept(
    flooded: RunningServer,
) -> None:
    flooded.client.stop("hog")
    assert flooded.client.agent("hog").status == "stopped"
    newest = max(logs_of(flooded), key=lambda path: path.stat().st_mtime)
    assert b"these are the last words" in newest.read_bytes()[-200_000:]


def test_a_flood_stops_its_agent_where_settings_say_so(
    make_server: Callable[..., RunningServer],
) -> None:
    server = make_server(limits={**LIMITS, "log_flood": "stop"})
    server.client.deploy(zip_package("hog"))
    requests.get(f"{server.client.agent('hog').url}/flood/50", timeout=10)
    wait_until(lambda: kinds(server) == ["agent.stopped_over_limit"])
    agent = wait_until(lambda: (a := server.client.agent("hog")).status == "failed" and a)
    assert (agent.desired, agent.pid) == ("stopped", None)
    assert server.client.why("hog").cause == (
        "hog is stopped: it floods its log with more than 1MB a second"
    )
