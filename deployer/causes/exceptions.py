"""What an exception that ended an agent says about the package, or about the machine."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from packaging.version import InvalidVersion, Version

from deployer.byte_sizes import size_text
from deployer.causes.nouns import Cause, Circumstances
from deployer.causes.tracebacks import Raised

_MISSING_MODULE: Final = re.compile(
    r"ModuleNotFoundError: No module named '([^']+)'(; '[^']+' is not a package)?"
)
_MISSING_MAIN: Final = re.compile(r"/python[\d.]*: No module named '?([^\s';]+)")
_SYNTAX: Final = re.compile(r"((?:Syntax|Indentation|Tab)Error): (.+)")
_IMPORT: Final = re.compile(r"ImportError: ")
_SHARED_LIBRARY: Final = re.compile(r"ImportError: (\S+): cannot open shared object file")
_CIRCULAR: Final = re.compile(r"partially initialized module '([^']+)'")
_MISSING_NAME: Final = re.compile(r"cannot import name '([^']+)' from '([^']+)' \(([^)]+)\)")
_DISK_FULL: Final = re.compile(
    r"\[Errno (?:28|122)\]|No space left on device|Disk quota exceeded|database or disk is full"
)
_FILE: Final = re.compile(r"\[Errno (1|2|13|30)\] [^:]*: '([^']+)'")
_NO_SUCH_FILE: Final = "2"  # ENOENT; the others are EPERM, EACCES and EROFS
_DEPENDENCIES: Final = "/site-packages/"

_LEFT_PYTHON: Final = {
    name: Version(since)
    for since, names in (
        ("3.12", ("asynchat", "asyncore", "distutils", "imp", "smtpd")),
        ("3.13", ("aifc", "audioop", "cgi", "cgitb", "chunk", "crypt", "imghdr", "lib2to3")),
        ("3.13", ("mailcap", "nis", "nntplib", "ossaudiodev", "pipes", "sndhdr", "spwd")),
        ("3.13", ("sunau", "telnetlib", "uu", "xdrlib")),
    )
    for name in names
}
"""Modules that Python has no more, and since when (docs.python.org/3/whatsnew)."""

_JOINED_PYTHON: Final = {
    "graphlib": Version("3.9"),
    "zoneinfo": Version("3.9"),
    "tomllib": Version("3.11"),
    "annotationlib": Version("3.14"),
}
"""Modules that older Pythons have not, and since when they are there."""


def explain_exception(  # noqa: PLR0911 - one return a kind of exception, as for deaths
    raised: Raised, circumstances: Circumstances
) -> Cause:
    """Say what an exception means that ended an agent.

    Args:
        raised: The exception.
        circumstances: Of the run.

    Returns:
        The cause. Its code is one of ``missing-module``, ``wrong-python``, ``missing-library``,
        ``import-error``, ``syntax-error``, ``memory-limit``, ``out-of-memory``, ``disk-full``,
        ``exception``, and those of the circumstances' refusals.
    """
    if missing := _MISSING_MODULE.search(raised.line):
        return _missing_module(missing[1], raised, circumstances, is_hidden=bool(missing[2]))
    if syntax := _SYNTAX.search(raised.line):
        place = f" in {raised.place}" if raised.place else ""
        return Cause(
            f"{syntax[1]}{place}: {syntax[2]}",
            "mend it, or ask for the Python it is written for: [dependencies] python in agent.toml"
            + (f"; this is Python {circumstances.python}" if circumstances.python else ""),
            "syntax-error",
        )
    if _IMPORT.match(raised.line):
        return _import_error(raised)
    if raised.line.startswith("MemoryError"):
        return _out_of_memory(raised, circumstances.memory_limit)
    if _DISK_FULL.search(raised.line):
        room = circumstances.room()
        return Cause(
            f"disk full: {raised.line}",
            "; ".join(filter(None, [_raised_in(raised), room])) or "free space on the disk",
            "disk-full",
        )
    if file := _FILE.search(raised.line):
        refusal = circumstances.refusal_of(Path(file[2]), file[1] == _NO_SUCH_FILE)
        if refusal is not None:
            hint = "; ".join(filter(None, [refusal.hint, _raised_in(raised)]))
            return Cause(refusal.text, hint, refusal.code)
    return Cause(raised.line, _raised_in(raised), "exception")


def explain_missing_main(lines: Iterable[str]) -> Cause | None:
    """Say which module was to be started that is not there; None when a log says no such thing."""
    for line in lines:
        if missing := _MISSING_MAIN.search(line):
            return Cause(
                f"missing module '{missing[1]}'",
                "it is what was to be started: name one that is there in [agent] entrypoint, or add"
                " the package that has it to requirements.txt",
                "missing-module",
            )
    return None


def _missing_module(
    name: str, raised: Raised, circumstances: Circumstances, *, is_hidden: bool
) -> Cause:
    top = name.partition(".")[0]
    by = f"{raised.place} imports it: " if raised.place else ""
    text = f"missing module '{name}'"
    python = _version(circumstances.python)
    left, joined = _LEFT_PYTHON.get(top), _JOINED_PYTHON.get(top)
    if python and left and python >= left:
        return Cause(
            f"{text}: Python has none since {left}, and this is {python}",
            f'{by}ask for an older one, [dependencies] python = "<{left}" in agent.toml',
            "wrong-python",
        )
    if python and joined and python < joined:
        return Cause(
            f"{text}: Python has it from {joined} on, and this is {python}",
            f'{by}ask for a newer one, [dependencies] python = ">={joined}" in agent.toml',
            "wrong-python",
        )
    if is_hidden:
        return Cause(
            f"{text}: '{top}' is a single file here",
            f"{by}a {top}.py of the package hides the dependency of that name: rename it",
            "missing-module",
        )
    return Cause(text, f"{by}add the package that has {top} to requirements.txt", "missing-module")


def _import_error(raised: Raised) -> Cause:
    if library := _SHARED_LIBRARY.search(raised.line):
        return Cause(
            f"missing shared library '{library[1]}'",
            f"{_needed_by(raised)}install the system package that has it on this machine, or take a"
            " dependency that does without",
            "missing-library",
        )
    if circular := _CIRCULAR.search(raised.line):
        hint = f"{circular[1]} is imported while it is being imported: move one of the imports"
    elif (name := _MISSING_NAME.search(raised.line)) and _DEPENDENCIES in name[3]:
        hint = (
            f"the version of {name[2].partition('.')[0]} that is installed has no {name[1]}: ask"
            " for one that has in requirements.txt"
        )
    elif name:
        hint = f"{name[3]} has no {name[1]}"
    else:
        hint = ""
    return Cause(raised.line, "; ".join(filter(None, [_raised_in(raised), hint])), "import-error")


def _out_of_memory(raised: Raised, memory_limit: int | None) -> Cause:
    place = f" in {raised.place}" if raised.place else ""
    if memory_limit is None:
        hint = "the machine had no more for it: see [resources] memory_limit in agent.toml"
        return Cause(f"out of memory{place}", hint, "out-of-memory")
    return Cause(
        f"out of memory{place}: memory limit {size_text(memory_limit)}",
        "let it use less, or raise [resources] memory_limit in agent.toml",
        "memory-limit",
    )


def _raised_in(raised: Raised) -> str:
    return f"raised in {raised.place}" if raised.place else ""


def _needed_by(raised: Raised) -> str:
    return f"{raised.place} needs it: " if raised.place else ""


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None
