"""Logs over ``/v1``: the last lines of what an agent or its installation wrote."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contracts import Api, Contract, problem
from tests.package_zips import zip_package
from tests.servers import RunningServer, wait_until

NAME = "chatty"
PATH = f"/v1/agents/{NAME}/logs"
CHATTER = """
import sys
for number in range(50):
    print("out", number)
    print("err", number, file=sys.stderr)
print(b"\\xff\\x1b[31m\\xc3".decode("latin-1"), "end", flush=True)
"""


@pytest.fixture(scope="module")
def api(shared_server: RunningServer, contract: Contract) -> Iterator[Api]:
    """The API of a server where an agent has written 51 lines to stdout and 50 to stderr."""
    api = Api(shared_server, contract)
    data = zip_package(
        "stdlib_agent",
        name=NAME,
        replace={"serving.serve(answer)": f"{CHATTER}serving.serve(answer)"},
    )
    api.deploy(data)
    wait_until(lambda: "end" in str(api.get(PATH).json()["lines"][-1:]))
    yield api
    api.request("DELETE", f"/v1/agents/{NAME}")


def test_a_log_is_the_last_hundred_lines_of_stdout(api: Api) -> None:
    shown = api.get(PATH).json()
    assert (shown["agent"], shown["stream"], len(shown["lines"])) == (NAME, "stdout", 51)
    assert shown["lines"][:2] == ["out 0", "out 1"]


def test_stderr_is_a_log_of_its_own(api: Api) -> None:
    lines = api.get(PATH, params={"stream": "stderr"}).json()["lines"]
    assert lines == [f"err {number}" for number in range(50)]


def test_what_the_installer_said_is_a_log_too(api: Api) -> None:
    shown = api.get(PATH, params={"stream": "install"}).json()
    assert (shown["stream"], bool(shown["lines"])) == ("install", True)


@pytest.mark.parametrize(("tail", "count"), [("0", 0), ("1", 1), ("10", 10), ("999999999", 51)])
def test_a_log_has_no_more_lines_than_asked_for(api: Api, tail: str, count: int) -> None:
    assert len(api.get(PATH, params={"tail": tail}).json()["lines"]) == count


def test_a_log_holds_no_control_characters(api: Api) -> None:
    last = api.get(PATH, params={"tail": 1}).json()["lines"][0]
    assert last.isprintable()


@pytest.mark.parametrize("query", ["stream=syslog", "stream=../stdout", "tail=x", "tail=-1"])
def test_a_log_is_not_asked_for_like_this(api: Api, query: str) -> None:
    problem(api.get(f"{PATH}?{query}"), 400, "bad-request")
