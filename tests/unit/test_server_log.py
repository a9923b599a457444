"""Lines of the server's own log: one a record, whatever strangers wrote into it."""

from __future__ import annotations

import errno
import io
import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deployer import log_fields, server_log
from tests.servers import wait_until

FORGED = "x\r\n2026-01-01T00:00:00.000Z INFO deployer.worker [caller=key:admin] all is well"
SEPARATORS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


def record(message: str, /, *args: object, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("deployer.tests", logging.INFO, __file__, 1, message, args, None)
    setattr(made, log_fields.EXTRA, fields)
    return made


def broken(words: str) -> logging.LogRecord:
    made = record("it broke")
    try:
        int(words)
    except ValueError:
        made.exc_info = sys.exc_info()
    return made


def text(made: logging.LogRecord) -> str:
    return server_log.TextFormatter().format(made)


def document(made: logging.LogRecord) -> dict[str, object]:
    line = server_log.JsonFormatter().format(made)
    assert len(line.splitlines()) == 1
    read: dict[str, object] = json.loads(line)
    return read


def test_a_line_for_people_has_time_level_logger_fields_and_message() -> None:
    line = text(record("%s serves", "web", agent="web", seconds=0.123456789))
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO deployer\.tests"
        r" \[agent=web seconds=0\.123457\] web serves",
        line,
    )


def test_a_line_for_machines_has_the_same_as_members() -> None:
    read = document(record("%s serves", "web", agent="web", status=200))
    assert read.pop("time")
    assert read == {
        "level": "info",
        "logger": "deployer.tests",
        "message": "web serves",
        "agent": "web",
        "status": 200,
    }


def test_no_field_takes_the_place_of_what_every_line_has() -> None:
    read = document(record("the message", message="another", level="critical", logger="x"))
    assert (read["message"], read["level"], read["logger"]) == (
        "the message",
        "info",
        "deployer.tests",
    )


@given(st.text(max_size=80), st.text(max_size=80))
@example(FORGED, FORGED)
@example(SEPARATORS, SEPARATORS)
@example("\ud800\u202e", "\x1b[2J\x00")
def test_whatever_is_in_it_a_record_is_one_line_that_can_be_written(
    message: str, field: str
) -> None:
    made = record("%s", message, path=field)
    for formatter in (server_log.TextFormatter(), server_log.JsonFormatter()):
        line = formatter.format(made)
        assert len(line.splitlines()) == 1
        assert line.isprintable()
        line.encode()


@given(st.text(max_size=80))
def test_json_gives_every_value_back_as_it_was(value: str) -> None:
    read = document(record("%s", value, path=value))
    assert (read["message"], read["path"]) == (value, value)


@pytest.mark.parametrize("value", ["", "a b", 'a" caller=x', "a] forged", "a=b", "\\n"])
def test_a_value_that_could_pass_for_more_than_one_is_quoted(value: str) -> None:
    line = text(record("words", path=value))
    inner = re.fullmatch(r".* \[path=(\".*\")\] words", line)
    assert inner is not None
    assert json.loads(inner[1]) == value


def test_a_message_cannot_pass_for_fields_for_those_stand_before_it() -> None:
    line = text(record("[caller=key:admin] status=200", caller="key:reader"))
    assert line.endswith(" [caller=key:reader] [caller=key:admin] status=200")


def torn(words: str) -> logging.LogRecord:
    made = broken("")
    made.exc_info = ValueError, ValueError(words), None
    return made


def test_what_an_error_says_in_several_lines_is_marked_too() -> None:
    first, *rest = text(torn(FORGED)).split("\n")
    assert first.endswith("it broke")
    assert len(rest) == 2
    assert all(line.startswith("    | ") for line in rest)


def test_a_traceback_for_people_is_marked_line_by_line() -> None:
    first, *rest = text(broken(FORGED)).split("\n")
    assert first.endswith("it broke")
    assert "ValueError" in rest[-1]
    assert all(line.startswith("    | ") for line in rest)


def test_a_traceback_for_machines_stays_in_its_line() -> None:
    stack = document(broken(FORGED))["stack"]
    assert isinstance(stack, str)
    assert stack.startswith("Traceback")
    assert repr(FORGED) in stack


# Fields that travel -------------------------------------------------------------------------------


def test_lines_carry_the_fields_of_all_blocks_around_them() -> None:
    with log_fields.within(request_id="r1"):
        log_fields.note(caller="key:1")
        with log_fields.within(agent="web"):
            inner = document(record("x"))
        outer = document(record("x"))
    assert (inner["request_id"], inner["caller"], inner["agent"]) == ("r1", "key:1", "web")
    assert "agent" not in outer
    assert "caller" not in document(record("x"))


def test_what_is_noted_outside_of_every_block_is_forgotten_at_once() -> None:
    log_fields.note(caller="key:1")
    assert log_fields.current() == {}


def test_threads_do_not_meet_each_others_fields() -> None:
    with ThreadPoolExecutor(1) as pool, log_fields.within(request_id="r1"):
        assert pool.submit(log_fields.current).result() == {}
        assert pool.submit(copy_context().run, log_fields.current).result() == {"request_id": "r1"}


# The process's log --------------------------------------------------------------------------------


@pytest.fixture
def begun() -> Iterator[Callable[..., None]]:
    """The beginning of a process's log, undone after the test."""
    root, ours = logging.getLogger(), logging.getLogger("deployer")
    before = root.handlers[:], root.level, ours.level, sys.excepthook, threading.excepthook
    yield server_log.begin
    root.handlers[:], level, our_level, sys.excepthook, threading.excepthook = before
    root.setLevel(level)
    ours.setLevel(our_level)
    logging.captureWarnings(capture=False)


def test_what_ends_a_thread_is_a_line_like_any_other(
    begun: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    begun("json", "info")

    def die() -> None:
        raise LookupError(FORGED)

    thread = threading.Thread(target=die, name="doomed")
    thread.start()
    thread.join()
    (line,) = capsys.readouterr().err.splitlines()
    read = json.loads(line)
    assert read["level"] == "critical"
    assert "doomed" in read["message"]
    assert "LookupError" in read["stack"]


@pytest.mark.parametrize(("level", "count"), [("debug", 3), ("info", 2), ("error", 0)])
def test_a_level_leaves_out_what_is_below_it_and_debug_is_about_ourselves(
    begun: Callable[..., None], capsys: pytest.CaptureFixture[str], level: str, count: int
) -> None:
    begun("text", level)
    for name in ("deployer.api", "urllib3"):
        logging.getLogger(name).debug("debug")
        logging.getLogger(name).info("info")
    assert len(capsys.readouterr().err.splitlines()) == count


class Reluctant(io.StringIO):
    """A file on a disk that is full for a moment."""

    def __init__(self) -> None:
        super().__init__()
        self.has_failed = threading.Event()

    def write(self, text: str) -> int:
        if not self.has_failed.is_set():
            self.has_failed.set()
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


def test_lines_that_wait_are_written_again_once_there_is_room() -> None:
    stream = Reluctant()
    handler = server_log.LineHandler(stream)
    made = record("GET /livez")
    setattr(made, log_fields.MAY_WAIT, True)

    handler.handle(made)
    assert stream.has_failed.wait(20)
    handler.handle(made)

    wait_until(lambda: "GET /livez" in stream.getvalue())


def test_who_logs_goes_on_where_no_line_can_be_written() -> None:
    stream = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115 - closing it fails as well
    handler = server_log.LineHandler(stream)
    assert handler.handle(record("the disk is full"))
    assert handler.handle(record("it is full still"))
    with pytest.raises(OSError, match="No space left"):
        stream.close()
