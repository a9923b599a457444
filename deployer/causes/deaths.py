"""Why an agent's process ended: by its exit code or signal, and by what it wrote."""

from __future__ import annotations

import signal as signals
from collections.abc import Sequence
from typing import Final

from deployer.byte_sizes import size_text
from deployer.causes.bindings import (
    explain_address_in_use,
    explain_forbidden_port,
    is_address_in_use,
    is_forbidden,
)
from deployer.causes.exceptions import explain_exception, explain_missing_main
from deployer.causes.nouns import Cause, Circumstances
from deployer.causes.tracebacks import last_exception

_CANNOT_EXECUTE: Final = frozenset({126, 127})
"""What a shell exits with when it cannot run a program; our launcher keeps to it."""

_CRASHES: Final = frozenset(
    {signals.SIGSEGV, signals.SIGBUS, signals.SIGILL, signals.SIGFPE, signals.SIGABRT}
)
_KEEP_RUNNING: Final = (
    "its entry point must keep running and serve on the port in the PORT variable"
)


def explain_death(  # noqa: PLR0911 - one return a kind of death, in the order they are told apart
    exit_code: int | None,
    signal: int | None,
    stderr_lines: Sequence[str],
    stdout_lines: Sequence[str],
    circumstances: Circumstances,
) -> Cause:
    """Say why an agent's process ended by itself.

    Args:
        exit_code: What it exited with; None when a signal ended it.
        signal: The number of the signal that ended it; None when it exited.
        stderr_lines: The last lines of its standard error, of this run only, oldest first.
        stdout_lines: The same of its standard output; looked at when the former say nothing.
        circumstances: What else is known of the run.

    Returns:
        The cause. Its code is one of ``address-in-use``, ``permission-denied``, ``wrong-port``
        (another one than it was given is in use), ``killed``, ``cannot-execute``, ``exited``, and
        those of `explain_exception`.
    """
    if signal is not None:
        return _killed(signal, circumstances.memory_limit)
    lines = [*stdout_lines, *stderr_lines]
    port = circumstances.port
    if is_address_in_use(lines):
        return explain_address_in_use(lines, port, circumstances.holder_of)
    if exit_code == 0:
        return Cause("ended by itself with exit code 0 before it served", _KEEP_RUNNING, "exited")
    if exit_code in _CANNOT_EXECUTE:
        return _cannot_execute(lines, exit_code)
    raised = last_exception(stderr_lines) or last_exception(stdout_lines)
    if is_forbidden(raised, lines):
        return explain_forbidden_port(lines, port)
    if raised is not None:
        return explain_exception(raised, circumstances)
    if (missing := explain_missing_main(lines)) is not None:
        return missing
    ended = "ended" if exit_code is None else f"exited with code {exit_code}"
    if words := _last_words(lines):
        hint = "mend what its last line says, and push it again"
        return Cause(f"{ended}: {words}", hint, "exited")
    return Cause(f"{ended} and printed nothing", _KEEP_RUNNING, "exited")


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


def _cannot_execute(lines: Sequence[str], exit_code: int | None) -> Cause:
    said = _last_words(lines)
    why = said.removeprefix("launcher: ") or f"exit code {exit_code}"
    hint = "deploy the package again with force" if said.startswith("launcher: ") else ""
    return Cause(f"cannot be started: {why}", hint, "cannot-execute")


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


def _last_words(lines: Sequence[str]) -> str:
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
