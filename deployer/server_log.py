"""The server's own log: how a record becomes a line, as text for people or as JSON for machines.

Much of what is logged was written by strangers: paths, headers, what a process says as it dies. So
no value can end a line, begin another one, or pass for a field: in JSON by its nature; in text
since fields stand before the message, quoted where need be, and whatever cannot be printed is
written as its escape. A traceback follows its line, with a mark no line begins with.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
import threading
import time
from collections import deque
from datetime import UTC, datetime
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Literal, TextIO

from deployer import log_fields

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

_OURS: Final = "deployer"
_TRACEBACK_MARK: Final = "    | "
_SPECIAL: Final = re.compile(r"[ \"=\[\]'\\]")
_BLOCK_SECONDS: Final = 0.02
_MOST_WAITING: Final = 10_000
"""Should nobody read what we write, the oldest lines go."""


_log: Final = logging.getLogger(__name__)


class TextFormatter(logging.Formatter):
    """Writes ``TIME LEVEL LOGGER [name=value ...] message``."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record as one line, and its traceback below it."""
        named = [f"{name}={_field(value)}" for name, value in _fields_of(record).items()]
        fields = f" [{' '.join(named)}]" if named else ""
        message = printable(record.getMessage())
        line = f"{_time_of(record)} {record.levelname} {printable(record.name)}{fields} {message}"
        stack = _stack_of(self, record).splitlines()
        return "\n".join([line, *(f"{_TRACEBACK_MARK}{printable(each)}" for each in stack)])


class JsonFormatter(logging.Formatter):
    """Writes one JSON object: time, level, logger, message, the fields, and ``stack``."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record as one line, its traceback included."""
        document: dict[str, Any] = {
            **_fields_of(record),
            "time": _time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if stack := _stack_of(self, record):
            document["stack"] = stack
        return json.dumps(document, default=str)  # ASCII: lone surrogates are escaped as well


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes lines: in their order, at once, but for those that may wait for others.

    Each write wakes supervisord, and lets another thread take the interpreter: under load that
    costs more than all else that is done for a request.
    """

    def __init__(self, stream: TextIO) -> None:
        """Write to stream."""
        super().__init__(stream)
        self._waiting: deque[str] = deque(maxlen=_MOST_WAITING)
        self._writing = threading.RLock()
        self._is_due = threading.Event()
        threading.Thread(target=self._write_blocks, name="log", daemon=True).start()

    def handle(self, record: logging.LogRecord) -> bool:
        """Take a record without the usual lock: who need not wait must not wait for who writes."""
        is_let_through = bool(self.filter(record))
        if is_let_through:
            self.emit(record)
        return is_let_through

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or keep it for a moment.

        Where nobody reads or the disk is full the line is lost, and what was logged goes on.
        """
        if not getattr(record, log_fields.MAY_WAIT, False):
            with self._writing:
                try:
                    self.flush()
                except (OSError, ValueError):  # ValueError: it was closed
                    self.handleError(record)
                super().emit(record)
            return
        try:
            self._waiting.append(self.format(record) + self.terminator)
        except Exception:  # noqa: BLE001 - as every handler
            self.handleError(record)
        if not self._is_due.is_set():
            self._is_due.set()

    def flush(self) -> None:
        """Write what was kept."""
        with self._writing:
            block = ""
            with contextlib.suppress(IndexError):
                while True:
                    block += self._waiting.popleft()
            if block:
                self.stream.write(block)
            self.stream.flush()

    def _write_blocks(self) -> None:
        while True:
            self._is_due.wait()
            time.sleep(_BLOCK_SECONDS)
            self._is_due.clear()
            try:
                self.flush()
            except OSError:  # the disk is full, most likely, and may have room for the next lines
                continue
            except ValueError:  # it was closed
                return


def begin(log_format: LogFormat, level: LogLevel) -> None:
    """Send the log of this process to stderr, where supervisord takes it from and rotates it.

    What ends a thread or the process, and what Python warns of, becomes a record like any other.

    Args:
        log_format: How lines are written.
        level: The lowest that is written; ``debug`` is about our own modules only.
    """
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # none is shown
    handler = LineHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(
        level=max(logging.INFO, logging.getLevelName(level.upper())), handlers=[handler], force=True
    )
    logging.getLogger(_OURS).setLevel(level.upper())
    # One connection to supervisord is kept; others, of calls at once, are closed: none to warn of.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)
    sys.excepthook = _on_end
    threading.excepthook = _on_end_of_thread


def printable(text: str) -> str:
    """Write what cannot be printed, line ends and what turns text around included, as escapes."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _field(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return _quoted(str(value))


@lru_cache(maxsize=1024)
def _quoted(text: str) -> str:
    """Write a value; the same ones come again and again."""
    if text and text.isprintable() and not _SPECIAL.search(text):
        return text
    return json.dumps(text)


def _fields_of(record: logging.LogRecord) -> log_fields.Fields:
    return {**log_fields.current(), **getattr(record, log_fields.EXTRA, {})}


def _time_of(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _stack_of(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts)


def _on_end(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    _log.critical("the server ends: %s", error, exc_info=(kind, error, traceback))


def _on_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is None or issubclass(ended.exc_type, SystemExit):
        return
    name = ended.thread.name if ended.thread else "?"
    info = ended.exc_type, ended.exc_value, ended.exc_traceback
    _log.critical("the thread %s ends: %s", name, ended.exc_value, exc_info=info)
