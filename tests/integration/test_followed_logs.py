"""Agents' logs as they grow: each line once, whatever is rotated, restarted, deployed or killed."""

from __future__ import annotations

import contextlib
import random
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import requests

from tests.contracts import Api, problem
from tests.event_streams import Heard, Listener, listening
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server, wait_until

NAME = "chronicler"
PATH = f"/v1/agents/{NAME}/logs"

LINES = 100_000
WINDOW = 10_000
"""How far a writer may be ahead of the slowest reader: 400 kB, less than what supervisord keeps."""

FILLER = "é漢😀" * 3
"""27 bytes: wherever a read or a rotation cuts, it is most likely within a character."""

WRITES = """
def write(path):
    if not path.startswith("/write/"):
        return answer(path)
    _, _, first, last = path.split("/")
    lines = "".join(f"line {number:06d} FILLER\\n" for number in range(int(first), int(last)))
    sys.stdout.buffer.write(lines.encode())
    sys.stdout.buffer.flush()
    return 200, {}
"""


def package(*, version: str = "1", at_start: str = "") -> bytes:
    """Make an agent that writes numbered lines when it is asked to."""
    serve = f"{WRITES.replace('FILLER', FILLER)}\n{at_start}\nserving.serve(write)"
    replace = {"serving.serve(answer)": serve}
    return zip_package("stdlib_agent", name=NAME, version=version, replace=replace)


def write(url: str, first: int, last: int) -> None:
    requests.get(f"{url}/write/{first}/{last}", timeout=30).raise_for_status()


def numbers_in(event: Heard) -> list[int]:
    """Read the numbers of lines, each of which must be whole."""
    lines = event.data.split("\n")
    numbers = [int(line.split()[1]) for line in lines]
    assert lines == [f"line {number:06d} {FILLER}" for number in numbers]
    return numbers


def read_lines(stream: Listener, count: int) -> list[str]:
    """Read so many lines."""
    lines: list[str] = []
    while len(lines) < count:
        event = next(stream)
        if event.kind == "message":
            lines += event.data.split("\n")
    assert len(lines) == count
    return lines


# Every line once ----------------------------------------------------------------------------------


class Reader(threading.Thread):
    """Follows a log, leaves after so many lines, and comes back, until all lines are there."""

    def __init__(self, server: RunningServer, *, leaves_after: int) -> None:
        super().__init__(daemon=True)
        self.numbers: list[int] = []
        self.others: list[Heard] = []
        self.comings = 0
        self._server = server
        self._leaves_after = leaves_after

    def run(self) -> None:
        last_id = ""
        while len(self.numbers) < LINES:
            try:
                with self._listen(last_id) as stream:
                    self.comings += 1
                    until = len(self.numbers) + self._leaves_after
                    for event in stream:
                        if event.kind == "message":
                            self.numbers += numbers_in(event)
                        else:
                            self.others.append(event)
                        last_id = stream.last_id
                        if len(self.numbers) >= min(until, LINES):
                            break
            except (requests.RequestException, AssertionError):
                time.sleep(0.05)  # the API is being killed

    def _listen(self, last_id: str) -> contextlib.AbstractContextManager[Listener]:
        return listening(self._server, PATH, after=last_id, patience=10, follow=1, tail=0)


@pytest.fixture(scope="module")
def rotating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that rotates logs often, and keeps a megabyte of them, with an agent."""
    root = tmp_path_factory.mktemp("rotating") / "state"
    limits = {"log_bytes": 100_000, "log_backups": 10, "log_bytes_per_second": 100_000_000}
    with running_server(root, limits=limits) as server:
        server.client.deploy(package())
        yield server


def restart_agent(server: RunningServer) -> None:
    server.client.restart(NAME)


def restart_server(server: RunningServer) -> None:
    server.stop()
    server.start()
    wait_until(lambda: server.client.agent(NAME).status == "running", 30)


def test_no_line_is_lost_and_none_comes_twice_whatever_is_restarted_or_killed(
    rotating: RunningServer,
) -> None:
    url = rotating.client.agent(NAME).url
    assert url
    readers = [Reader(rotating, leaves_after=LINES), Reader(rotating, leaves_after=7_000)]
    for reader in readers:
        reader.start()
    wait_until(lambda: all(reader.comings for reader in readers))
    chance = random.Random(5)  # noqa: S311 - the same bursts each time
    written, acts = 0, [restart_agent, RunningServer.kill_api, restart_server]

    def is_near() -> bool:
        return min(len(reader.numbers) for reader in readers) >= written - WINDOW

    while written < LINES:
        burst = min(chance.randrange(1, 3_000), LINES - written)
        wait_until(is_near, 60)
        write(url, written, written + burst)
        written += burst
        if acts and written > LINES * (4 - len(acts)) / 4:
            acts.pop(0)(rotating)
    for reader in readers:
        reader.join(60)
    assert [reader.numbers == list(range(LINES)) for reader in readers] == [True, True]
    assert {event.kind for reader in readers for event in reader.others} == {"release"}
    assert readers[0].comings >= 3
    assert readers[1].comings >= 10
    assert len(list(rotating.state.logs.glob(f"{NAME}--1.stdout.log.*"))) == 10


def test_a_client_that_does_not_read_costs_little_and_is_told_what_it_missed(
    rotating: RunningServer,
) -> None:
    url = rotating.client.agent(NAME).url
    assert url
    api = psutil.Process(rotating.api_pid())
    with listening(rotating, PATH, follow=1, tail=0) as stream:
        before = api.memory_info().rss
        for first in range(0, 2 * LINES, 10_000):
            write(url, first, first + 10_000)
        held = api.memory_info().rss - before
        last = f"line {2 * LINES - 1:06d} "
        heard = [next(stream)]
        while last not in heard[-1].data:
            heard.append(next(stream))
    whole = re.findall(
        rf"line (\d{{6}}) {FILLER}$", "\n".join(each.data for each in heard), re.MULTILINE
    )
    assert held < 16 * 1024**2
    assert "gap" in {each.kind for each in heard}
    assert len(whole) < 2 * LINES
    assert whole == sorted(set(whole))


# From release to release --------------------------------------------------------------------------


@pytest.fixture
def deployed(api: Api) -> Api:
    """The shared server with an agent that writes when it is asked to."""
    api.server.client.deploy(package())
    return api


def url_of(api: Api) -> str:
    url = api.server.client.agent(NAME).url
    assert url
    return url


def test_a_follower_begins_with_the_last_lines_and_says_whose_they_are(deployed: Api) -> None:
    write(url_of(deployed), 0, 5)
    wait_until(lambda: len(deployed.get(PATH).json()["lines"]) == 5)
    with listening(deployed.server, PATH, follow=1, tail=2) as stream:
        release, lines = next(stream), next(stream)
    assert (release.kind, release.json) == ("release", {"release": 1})
    assert numbers_in(lines) == [3, 4]


def test_a_follower_goes_on_over_restarts_releases_and_rollbacks(deployed: Api) -> None:
    client = deployed.server.client
    heard: list[tuple[str, object]] = []
    wanted = [(1, 0), (1, 1), (2, 2), (1, 3), (1, 4)]

    def told() -> list[tuple[int, int]]:
        release, lines = 0, []
        for kind, value in heard:
            if kind == "release":
                release = value
            else:
                lines += [(release, number) for number in value]
        return lines

    def hear() -> None:
        with listening(deployed.server, PATH, follow=1, tail=0) as stream:
            heard.append(("begun", []))
            while len(told()) < len(wanted):
                event = next(stream)
                value = event.json["release"] if event.kind == "release" else numbers_in(event)
                heard.append((event.kind, value))

    hearing = threading.Thread(target=hear, daemon=True)
    hearing.start()
    wait_until(lambda: heard)
    write(url_of(deployed), 0, 1)
    client.restart(NAME)
    write(url_of(deployed), 1, 2)
    client.deploy(package(version="2"))
    write(url_of(deployed), 2, 3)
    client.rollback(NAME)
    write(url_of(deployed), 3, 4)
    write(url_of(deployed), 4, 5)
    hearing.join(40)
    assert told() == wanted


def test_a_bookmark_holds_over_releases_and_rollbacks(deployed: Api) -> None:
    client = deployed.server.client
    after = deployed.get(PATH).json()["next"]
    write(url_of(deployed), 0, 2)
    client.deploy(package(version="2"))
    write(url_of(deployed), 2, 3)
    client.rollback(NAME)
    write(url_of(deployed), 3, 4)
    found: list[tuple[int, int]] = []
    while len(found) < 4:
        answer = deployed.get(PATH, params={"after": after, "wait": 10}).json()
        assert not answer["gap"]
        found += [(answer["release"], int(line.split()[1])) for line in answer["lines"]]
        after = answer["next"]
    assert sorted(found, key=lambda each: each[1]) == [(1, 0), (1, 1), (2, 2), (1, 3)]
    last = deployed.get(PATH, params={"after": after}).json()
    assert (last["lines"], last["next"]) == ([], after)


def test_what_is_gone_is_told_and_not_hidden(deployed: Api) -> None:
    write(url_of(deployed), 0, 3)
    wait_until(lambda: len(deployed.get(PATH).json()["lines"]) == 3)
    after = deployed.get(PATH).json()["next"]
    log = deployed.server.state.stdout_log(f"{NAME}--1")
    log.write_bytes(b"line 7\n")
    answer = deployed.get(PATH, params={"after": after}).json()
    assert (answer["gap"], answer["lines"]) == (True, ["line 7"])
    with listening(deployed.server, PATH, follow=1, after=after) as stream:
        assert [next(stream).kind for _ in range(3)] == ["release", "gap", "message"]


def test_a_log_is_waited_for(deployed: Api) -> None:
    after = deployed.get(PATH).json()["next"]
    began = time.monotonic()
    assert deployed.get(PATH, params={"after": after, "wait": "0.5"}).json()["lines"] == []
    assert time.monotonic() - began >= 0.5
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(deployed.get, PATH, params={"after": after, "wait": 30})
        write(url_of(deployed), 0, 1)
        assert len(held.result(20).json()["lines"]) == 1


def test_the_stream_of_a_removed_agent_ends(deployed: Api) -> None:
    with listening(deployed.server, PATH, follow=1) as stream:
        deployed.server.client.remove(NAME)
        *_, end = stream
    assert end.kind == "end"
    assert NAME in end.json["reason"]


def test_no_bytes_that_an_agent_writes_break_a_stream(api: Api) -> None:
    hostile = [b"a\rb", b"\0", "\u2028\u2029\x85".encode(), b"\xff\xfe half \xc3", b"", b"data: x"]
    data = b"\n".join([*hostile, b"id: 1", b": c", b"event: end", b"end", b""])
    api.server.client.deploy(
        package(at_start=f"sys.stdout.buffer.write({data!r}); sys.stdout.flush()")
    )
    with listening(api.server, PATH, follow=1) as stream:
        lines = read_lines(stream, 10)
    assert lines[0] == "ab"
    assert lines[1] == ""
    assert lines[2] == "\u2028\u2029"
    assert lines[3:] == [
        "\ufffd\ufffd half \ufffd",
        "",
        "data: x",
        "id: 1",
        ": c",
        "event: end",
        "end",
    ]


@pytest.mark.parametrize("after", ["", "x", "1", "1-2-3", "1-a-b-c_", "1_0", "-1-2-3-4"])
def test_a_bookmark_that_no_log_gave_out_is_refused(deployed: Api, after: str) -> None:
    problem(deployed.get(f"{PATH}?after={after}."), 400, "bad-request")
    headers = {"Last-Event-ID": f"{after}."}
    problem(deployed.get(PATH, params={"follow": 1}, headers=headers), 400, "bad-request")


def test_secrets_are_hidden_in_a_stream_too(api: Api) -> None:
    api.request("PUT", "/v1/secrets/streamed", json={"value": "a-secret-of-some-length"})
    env = '[env]\nSECRET = "${secret:streamed}"'
    tell = 'print(os.environ["SECRET"], flush=True)\nserving.serve(answer)'
    data = zip_package(
        "stdlib_agent",
        name=NAME,
        replace={
            "[env]": env,
            "serving.serve(answer)": tell,
        },
    )
    api.server.client.deploy(data)
    with listening(api.server, PATH, follow=1) as stream:
        assert read_lines(stream, 1) == ["[secret streamed]"]
    api.request("DELETE", f"/v1/agents/{NAME}")
    api.request("DELETE", "/v1/secrets/streamed")
