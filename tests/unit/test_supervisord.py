"""What supervisord says, mapped to our nouns."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from deployer.errors import SupervisordRefusedError
from deployer.model import Process, State
from deployer.supervisord import process_from_document, process_from_info, receive_push

DOCUMENT = {
    "program": "weather--7",
    "state": "BACKOFF",
    "pid": None,
    "started_at": 1_000_000_000.5,
    "stopped_at": 1_000_000_001.0,
    "exit_code": None,
    "signal": 9,
    "restarts": 2,
    "next_try_at": 1_000_000_006.0,
    "message": "terminated by SIGKILL",
}
INFO = {
    "name": "weather--7",
    "statename": "EXITED",
    "pid": 0,
    "start": 1_000_000_000,
    "stop": 1_000_000_001,
    "exitstatus": 3,
    "spawnerr": "Bad exit code 3",
}


def test_a_document_of_the_plugin_becomes_a_process() -> None:
    assert process_from_document(DOCUMENT) == Process(
        program="weather--7",
        state=State.BACKOFF,
        started_at=datetime.fromtimestamp(1_000_000_000.5, UTC),
        stopped_at=datetime.fromtimestamp(1_000_000_001, UTC),
        signal=9,
        restarts=2,
        next_try_at=datetime.fromtimestamp(1_000_000_006, UTC),
        message="terminated by SIGKILL",
    )


def test_a_push_is_such_a_document() -> None:
    assert receive_push(json.dumps(DOCUMENT).encode()) == process_from_document(DOCUMENT)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b"[]", b"{}", b"1", json.dumps(DOCUMENT | {"state": "ASLEEP"}).encode()]
    + [json.dumps(DOCUMENT | {"started_at": at}).encode() for at in ("x", 1e300, [])],
)
def test_anything_else_is_no_push(data: bytes) -> None:
    with pytest.raises(SupervisordRefusedError, match="cannot read"):
        receive_push(data)


def test_stock_information_becomes_a_process() -> None:
    assert process_from_info(INFO) == Process(
        program="weather--7",
        state=State.EXITED,
        started_at=datetime.fromtimestamp(1_000_000_000, UTC),
        stopped_at=datetime.fromtimestamp(1_000_000_001, UTC),
        exit_code=3,
        message="Bad exit code 3",
    )


def test_stock_says_nothing_of_signals_but_that_there_was_one() -> None:
    assert process_from_info(INFO | {"exitstatus": -1}).exit_code is None


def test_a_process_that_never_ran_has_no_times_and_no_exit_code() -> None:
    never = INFO | {"statename": "STOPPED", "start": 0, "stop": 0, "exitstatus": 0, "spawnerr": ""}

    assert process_from_info(never) == Process(program="weather--7", state=State.STOPPED)
