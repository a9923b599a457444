"""From facts to words: why an agent died, or why it does not serve."""

from __future__ import annotations

import re
import signal as signals
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from deployer.model import Answer
from deployer.quantities import size_text

_STATUS_LINE_CHARACTERS: Final = 120
_CANNOT_EXECUTE: Final = frozenset({126, 127})
"""What a shell exits with when it cannot run a program; our launcher keeps to it."""

_ADDRESS_IN_USE: Final = re.compile(
    r"address already in use|\bEADDRINUSE\b|\[Errno (?:98|48)\]|\(os error (?:98|48)\)",
    re.IGNORECASE,
)
_PORT: Final = re.compile(r"(?:', ?|:|\bport:? )(\d{4,5})\b(?!-)")
"""A port as in ``('0.0.0.0', 8101)``, ``:::8101`` and ``port 8101``; times and years are not."""

_BINDING: Final = re.compile(r"\b(?:bind|server_bind|create_server)\b")
_PERMISSION_DENIED: Final = re.compile(r"permission denied", re.IGNORECASE)

_TRACEBACK: Final = "Traceback (most recent call last):"
_FRAME: Final = re.compile(r'\s*File "([^"]+)", line (\d+)')
_GROUP_BORDER: Final = re.compile(r"^\s*[|+](?:-+(?: \d+ -+)?)? ?")
"""What Python draws left of the tracebacks within an ExceptionGroup."""

_MISSING_MODULE: Final = re.compile(r"ModuleNotFoundError: No module named '([^']+)'")
_SYNTAX: Final = re.compile(r"((?:Syntax|Indentation|Tab)Error): (.+)")

_CRASHES: Final = frozenset(
    {signals.SIGSEGV, signals.SIGBUS, signals.SIGILL, signals.SIGFPE, signals.SIGABRT}
)


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something is as it is, in words.

    Attributes:
        text: The cause, a few words without a full stop.
        hint: What to do about it; may be empty.
        code: A stable word for machines, such as ``address-in-use``.
    """

    text: str
    hint: str = ""
    code: str = "unknown"

    @property
    def short(self) -> str:
        """The text as a status line takes it: at most 120 printable ASCII characters."""
        plain = " ".join(self.text.split()).encode("ascii", "replace").decode()
        plain = "".join(character if character.isprintable() else "?" for character in plain)
        if len(plain) <= _STATUS_LINE_CHARACTERS:
            return plain
        return plain[: _STATUS_LINE_CHARACTERS - 3] + "..."


def explain_death(  # noqa: PLR0911 - one return a kind of death, in the order they are told apart
    exit_code: int | None,
    signal: int | None,
    stderr_lines: Sequence[str],
    stdout_lines: Sequence[str],
    *,
    port: int,
    holder: str | None = None,
    memory_limit: int | None = None,
) -> Cause:
    """Say why an agent's process ended by itself.

    Args:
        exit_code: What it exited with; None when a signal ended it.
        signal: The number of the signal that ended it; None when it exited.
        stderr_lines: The last lines of its standard error, of this run only, oldest first.
        stdout_lines: The same of its standard output; looked at when the former say nothing.
        port: The TCP port that it was told to bind.
        holder: Who listens on that port, such as ``pid 812 nginx``; None when nobody does.
        memory_limit: Its limit in bytes; None when there is none.

    Returns:
        The cause. Its code is one of ``address-in-use``, ``permission-denied``, ``killed``,
        ``memory-limit``, ``out-of-memory``, ``missing-module``, ``syntax-error``, ``exception``,
        ``cannot-execute``, ``wrong-port`` (another one than it was given is in use) and ``exited``.
    """
    if signal is not None:
        return _killed(signal, memory_limit)
    lines = [*stdout_lines, *stderr_lines]
    if is_address_in_use(lines):
        return _address_in_use(lines, port, holder)
    if exit_code == 0:
        return Cause(
            "ended by itself with exit code 0 before it served",
            "its entry point must keep running and serve on the port in the PORT variable",
            "exited",
        )
    if exit_code in _CANNOT_EXECUTE:
        why = _last_words(lines).removeprefix("launcher: ") or f"exit code {exit_code}"
        return Cause(f"cannot be started: {why}", code="cannot-execute")
    raised = _last_exception(stderr_lines) or _last_exception(stdout_lines)
    if raised and not raised.is_about_binding:
        return _explain_exception(raised, memory_limit)
    if raised or any(_PERMISSION_DENIED.search(line) and _BINDING.search(line) for line in lines):
        return _explain_forbidden_port(lines, port)
    ended = "ended" if exit_code is None else f"exited with code {exit_code}"
    words = _last_words(lines)
    text = f"{ended}: {words}" if words else f"{ended} and printed nothing"
    return Cause(text, "read its log: atoll-deployer logs", "exited")


def explain_memory_limit(memory_limit: int) -> Cause:
    """Say that a process was ended because its agent reached its limit.

    Args:
        memory_limit: In bytes.
    """
    return Cause(
        f"killed: memory limit {size_text(memory_limit)}",
        "let it use less, or raise [resources] memory_limit in agent.toml",
        "memory-limit",
    )


def explain_pids_limit(limit: int) -> Cause:
    """Say that an agent was ended because it had more processes and threads than it may.

    Args:
        limit: How many it may have.
    """
    return Cause(
        f"killed: limit of {limit} processes and threads",
        "let it start fewer, or raise [resources] pids_limit in agent.toml",
        "pids-limit",
    )


def explain_unhealthy(answer: Answer, *, listening: Collection[int], port: int) -> Cause:
    """Say why an agent whose process lives does not count as healthy.

    Args:
        answer: What came of the last health check.
        listening: The TCP ports that its processes listen on, as far as we may see.
        port: The TCP port that it was told to bind.

    Returns:
        The cause. Its code is one of ``not-listening``, ``wrong-port``, ``wrong-address``,
        ``timed-out`` and ``bad-answer``.
    """
    if answer.detail == "refused":
        return _explain_refused(listening, port)
    if answer.detail.startswith("timed out"):
        return Cause(
            f"does not answer its health check: {answer.detail}",
            "it hangs, or needs longer: see [health] timeout_seconds in agent.toml",
            "timed-out",
        )
    if answer.detail == "HTTP 404":
        hint = "nothing is served at that path: set [health] path in agent.toml to one that is"
    elif answer.detail == "not HTTP":
        hint = "leave [health] path out of agent.toml to only have its port checked"
    else:
        hint = "read its log: atoll-deployer logs"
    return Cause(f"fails its health check: {answer.detail}", hint, "bad-answer")


def _explain_refused(listening: Collection[int], port: int) -> Cause:
    if port in listening:
        return Cause(
            f"listens on port {port}, but not on the address it was given",
            "bind the address in the HOST variable",
            "wrong-address",
        )
    if listening:
        others = ", ".join(str(other) for other in sorted(listening))
        return Cause(
            f"listens on {others} instead of {port}: use the PORT variable",
            "bind the port in the PORT variable instead of one of its own",
            "wrong-port",
        )
    return Cause(
        f"does not listen on port {port}",
        "bind the port in the PORT variable; a slow start needs [health] start_seconds",
        "not-listening",
    )


def _explain_forbidden_port(lines: Iterable[str], port: int) -> Cause:
    """Say why an agent may not bind: it can bind its own port, and at most levels no other."""
    said = [_PORT.search(line) for line in lines if _PERMISSION_DENIED.search(line)]
    wanted = [int(match[1]) for match in said if match and int(match[1]) != port]
    hint = "bind the port in the PORT variable: an agent can bind no other"
    if wanted:
        text = f"may not bind port {wanted[-1]} instead of {port}: use the PORT variable"
        return Cause(text, hint, "wrong-port")
    return Cause(f"may bind no port but {port}: permission denied", hint, "permission-denied")


def explain_ignored_socket(port: int) -> Cause:
    """Say why an agent could not bind a port whose listening socket it was given.

    Args:
        port: The TCP port.
    """
    return Cause(
        f"asked for an inherited socket but binds the port itself: {port} is in use by its socket",
        "accept from descriptor 3 when LISTEN_FDS is set (uvicorn --fd 3), or take"
        ' socket = "inherit" out of agent.toml',
        "ignores-socket",
    )


def explain_unaccepted(port: int, listening: Collection[int]) -> Cause:
    """Say why an agent does not serve that was given a listening socket and does not accept.

    Args:
        port: The TCP port of that socket.
        listening: The TCP ports that its processes listen on, this one included.
    """
    others = ", ".join(str(other) for other in sorted(set(listening) - {port}))
    instead = f" and listens on {others} instead" if others else ""
    return Cause(
        f"accepts no connection from the socket it inherits on port {port}{instead}",
        "accept from descriptor 3 when LISTEN_FDS is set (uvicorn --fd 3), or take"
        ' socket = "inherit" out of agent.toml',
        "ignores-socket",
    )


def is_address_in_use(lines: Iterable[str]) -> bool:
    """Tell whether a log says that a port could not be bound because somebody has it."""
    return any(_ADDRESS_IN_USE.search(line) for line in lines)


def _address_in_use(lines: Iterable[str], port: int, holder: str | None) -> Cause:
    said = [_PORT.search(line) for line in lines if _ADDRESS_IN_USE.search(line)]
    wanted = {int(match[1]) for match in said if match}
    if wanted and port not in wanted:
        return Cause(
            f"wants port {min(wanted)}, which is in use, instead of {port}: use the PORT variable",
            "bind the port in the PORT variable instead of one of its own",
            "wrong-port",
        )
    if holder:
        return Cause(
            f"port {port} is held by {holder}",
            "end that program, or give the agent another port",
            "address-in-use",
        )
    return Cause(
        f"port {port} was in use",
        "whoever held it is gone by now: start the agent again",
        "address-in-use",
    )


def _killed(signal: int, memory_limit: int | None) -> Cause:
    try:
        name = signals.Signals(signal).name
    except ValueError:  # a real-time signal, of which only the first and last have names
        name = f"signal {signal}"
    if signal == signals.SIGKILL:
        limit = f" (its limit is {size_text(memory_limit)})" if memory_limit else ""
        hint = f"it ran out of memory{limit}, or somebody ran kill -9"
    elif signal in _CRASHES:
        hint = "it crashed outside Python: suspect a compiled dependency"
    else:
        hint = "somebody other than this server sent it"
    return Cause(f"killed by {name}", hint, "killed")


@dataclass(frozen=True, slots=True)
class _Exception:
    """The last exception in a log.

    Attributes:
        line: Such as ``ValueError: x``.
        frames: The lines of its traceback before.
    """

    line: str
    frames: tuple[str, ...]

    @property
    def is_about_binding(self) -> bool:
        return bool(_PERMISSION_DENIED.search(self.line)) and any(map(_BINDING.search, self.frames))

    @property
    def place(self) -> str:
        """Where it was raised, such as ``main.py:12``."""
        places = [match for match in map(_FRAME.match, self.frames) if match]
        return f"{places[-1][1].rpartition('/')[2]}:{places[-1][2]}" if places else ""


def _last_exception(lines: Iterable[str]) -> _Exception | None:
    """Find the exception that a log ends with.

    A traceback may have lost its head to the limit of the tail, and that of a SyntaxError in the
    entry point has none; so a frame begins one as well.
    """
    last: _Exception | None = None
    frames: list[str] | None = None
    for line in (_GROUP_BORDER.sub("", line) for line in lines):
        if _TRACEBACK in line:
            frames = []
        elif frames is None and _FRAME.match(line):
            frames = [line]
        elif frames is not None and (not line.strip() or line[0].isspace()):
            frames.append(line)
        elif frames is not None:
            last, frames = _Exception(line.strip(), tuple(frames)), None
    return last


def _explain_exception(raised: _Exception, memory_limit: int | None) -> Cause:
    place = f" in {raised.place}" if raised.place else ""
    if missing := _MISSING_MODULE.search(raised.line):
        return Cause(
            f"missing module '{missing[1]}'",
            f"add the package that has {missing[1].partition('.')[0]} to requirements.txt",
            "missing-module",
        )
    if syntax := _SYNTAX.search(raised.line):
        return Cause(
            f"{syntax[1]}{place}: {syntax[2]}",
            "mend it, or ask for the Python it is written for: [dependencies] python in agent.toml",
            "syntax-error",
        )
    if raised.line.startswith("MemoryError"):
        if memory_limit is None:
            hint = "the machine had no more for it: see [resources] memory_limit in agent.toml"
            return Cause(f"out of memory{place}", hint, "out-of-memory")
        return Cause(
            f"out of memory{place}: memory limit {size_text(memory_limit)}",
            "let it use less, or raise [resources] memory_limit in agent.toml",
            "memory-limit",
        )
    return Cause(raised.line, f"raised{place}" if place else "", "exception")


def _last_words(lines: Sequence[str]) -> str:
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
