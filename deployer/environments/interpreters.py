"""Pythons on this machine: found, asked once what they are, and chosen for an agent."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from deployer.errors import InterpreterUnavailableError

SYSTEM_DIRECTORIES: Final = (Path("/usr/local/bin"), Path("/usr/bin"))
"""Looked at last, whatever PATH says."""

_NAME: Final = re.compile(r"python3(?:\.\d+)?")
_PROBE_SECONDS: Final = 10.0
_SHOWN: Final = 20

# Read by every Python since 3.4, so no f-strings. The base prefix is asked for, and a virtual
# environment is left out before, because an agent must not hang on another environment's life.
_PROBE: Final = """
import json, os, sys, sysconfig
v = sys.version_info
level = {"alpha": "a%d", "beta": "b%d", "candidate": "rc%d"}.get(v.releaselevel)
print(json.dumps({
    "path": os.path.realpath(sys.executable),
    "version": "%d.%d.%d" % tuple(v[:3]) + (level % v.serial if level else ""),
    "implementation": sys.implementation.name,
    "abi": sysconfig.get_config_var("SOABI") or sys.implementation.cache_tag,
    "stdlib": os.path.dirname(os.path.realpath(os.__file__)),
}))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that answered.

    Attributes:
        path: The executable itself, absolute and without symlinks, so that an environment made
            with it stays with this very version.
        version: Such as ``3.11.7`` or ``3.14.0rc2``.
        implementation: ``cpython``, ``pypy``.
        abi: What compiled wheels must fit, with the platform: ``cpython-311-x86_64-linux-gnu``.
        stdlib: The directory of its standard library.
    """

    path: Path
    version: str
    implementation: str
    abi: str
    stdlib: Path


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something called python that is of no use.

    Attributes:
        path: Where it was found.
        reason: Why not, a few words.
    """

    path: Path
    reason: str


Found = Interpreter | Skipped

_answers: dict[tuple[Path, int], Found] = {}  # by path and mtime: asked once a process


def find_interpreters(
    search: Sequence[Path], path: str, *, last: Sequence[Path] = ()
) -> Iterator[Found]:
    """Find Pythons in the order in which they are preferred, each once, asked only when reached.

    Asking costs 10 to 300 ms, shims being the slow ones, so whoever is content with the first
    never pays for the rest.

    Args:
        search: Executables, directories with executables, installations (``DIR/bin/python3``) or
            directories of installations, as pyenv and uv keep them, newest first. Come first.
        path: Like the variable PATH; comes second, then `SYSTEM_DIRECTORIES`.
        last: Like search, but after everything else.
    """
    entries = (Path(entry) for entry in path.split(os.pathsep))
    directories = [entry for entry in entries if entry.is_absolute()]
    seen: set[Path] = set()
    for candidate in _candidates([*search, *directories, *SYSTEM_DIRECTORIES, *last]):
        base = _base_of(candidate)
        resolved = Path(os.path.realpath(base))
        if resolved in seen:
            continue
        seen.add(resolved)
        found = _ask(base)
        # What answers is not what was asked when a shim stands before it.
        if found.path == resolved or found.path not in seen:
            seen.add(found.path)
            yield found


def choose_interpreter(
    specifier: str | None,
    found: Iterable[Found],
    *,
    obstacle: Callable[[Interpreter], str | None] = lambda _: None,
) -> Interpreter:
    """Choose the first interpreter that is asked for and that the agent can use.

    Args:
        specifier: Versions after PEP 440, such as ``>=3.9,<3.14``; None or empty: any.
        found: What there is, in order of preference; read only as far as needed.
        obstacle: Says why the agent cannot use one; None when it can.

    Raises:
        InterpreterUnavailableError: None is left; names what was asked, found and skipped.
    """
    try:
        wanted = SpecifierSet(specifier or "")
    except InvalidSpecifier as error:
        raise InterpreterUnavailableError(
            f"cannot choose a Python: {specifier!r} is not a version range",
            cause=f"{specifier!r} is not a version range",
            hint="write [dependencies] python like '>=3.9,<3.14'",
        ) from error
    unfit: list[Interpreter] = []
    skipped: list[Skipped] = []
    for one in found:
        if isinstance(one, Skipped):
            skipped.append(one)
        elif specifier and not wanted.contains(one.version, prereleases=bool(wanted.prereleases)):
            unfit.append(one)
        elif (why := obstacle(one)) is not None:
            skipped.append(Skipped(one.path, f"Python {one.version}, {why}"))
        else:
            return one
    raise _unavailable(specifier, unfit, skipped)


def unreachable_by(path: Path, uid: int | None) -> str | None:
    """Say what keeps a user without groups and capabilities from a file; None: nothing does.

    Access lists beyond the mode bits are not read.

    Args:
        path: A file or directory, absolute. Symlinks on the way are followed, and must be
            reachable themselves.
        uid: Who wants to reach it; None: the server's own user, who found it.

    Returns:
        Such as ``/root is closed to uid 70001 (mode 0700)``.
    """
    if uid is None:
        return None
    resolved = Path(os.path.realpath(path))
    for place in dict.fromkeys((*reversed(path.parents), *reversed(resolved.parents), resolved)):
        try:
            status = place.stat()
        except OSError as error:
            return f"{place} cannot be looked at ({error.strerror})"
        owner, others = stat.S_IXUSR | stat.S_IRUSR, stat.S_IXOTH | stat.S_IROTH
        needed = owner if status.st_uid == uid else others
        if place != resolved or not stat.S_ISDIR(status.st_mode):
            needed &= stat.S_IXUSR | stat.S_IXOTH  # to pass through, or to run it, x is enough
        if status.st_mode & needed != needed:
            return f"{place} is closed to uid {uid} (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


def version_of_venv(venv: Path) -> str:
    """Read which Python a virtual environment was made with; empty when it does not say."""
    with suppress(OSError, UnicodeDecodeError):
        text = (venv / "pyvenv.cfg").read_text(encoding="utf-8")
        if version := re.search(r"^version(?:_info)?\s*=\s*(\S+)", text, re.MULTILINE):
            return version[1]
    return ""


def _candidates(places: Iterable[Path]) -> Iterator[Path]:
    for place in places:
        # Path.is_file() raises, below Python 3.14, where a directory on the way is closed.
        if os.path.isfile(place):  # noqa: PTH113
            yield place
            continue
        with suppress(OSError):  # a directory of PATH that is missing or closed holds none
            with os.scandir(place) as listing:
                entries = list(listing)
            named = [place / entry.name for entry in entries if _NAME.fullmatch(entry.name)]
            # `python3` is what the machine's owner chose; of the others the newest is best.
            named.sort(key=lambda entry: (entry.name == "python3", _numbers(entry)), reverse=True)
            yield from named
            # Looked at only now: each link among the thousand programs of a directory of PATH is
            # followed to tell whether it holds an installation, and mostly one of them is chosen.
            folders = [place / entry.name for entry in entries if _is_directory(entry)]
            for installation in (place, *sorted(folders, key=_numbers, reverse=True)):
                python = installation / "bin" / "python3"
                if os.path.isfile(python):  # noqa: PTH113 - as above
                    yield python


def _is_directory(entry: os.DirEntry[str]) -> bool:
    with suppress(OSError):  # a link into a closed directory
        return entry.is_dir()
    return False


def _numbers(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.name)]


def _base_of(candidate: Path) -> Path:
    """Follow a virtual environment's python to the interpreter that it was made with (PEP 405)."""
    for directory in (candidate.parent.parent, candidate.parent):
        with suppress(OSError, UnicodeDecodeError):
            text = (directory / "pyvenv.cfg").read_text(encoding="utf-8")
            if home := re.search(r"^home\s*=\s*(.+?)\s*$", text, re.MULTILINE):
                for name in (candidate.name, "python3"):
                    if (base := Path(home[1]) / name).is_file():
                        return base
    return candidate


def _ask(executable: Path) -> Found:
    try:
        key = executable, executable.stat().st_mtime_ns
    except OSError as error:
        return Skipped(executable, error.strerror or "cannot be read")
    known = _answers.get(key)
    if known is None or (isinstance(known, Interpreter) and not os.access(known.path, os.F_OK)):
        known = _answers[key] = _probe(executable)
    return known


def _probe(executable: Path) -> Found:
    variables = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    try:
        process = subprocess.Popen(  # noqa: S603  # found by name in the operator's directories
            [str(executable), "-I", "-S", "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=variables,
            start_new_session=True,
        )
    except OSError as error:
        return Skipped(executable, error.strerror or "cannot be run")
    with process:
        try:
            output, complaint = process.communicate(timeout=_PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return Skipped(executable, f"did not answer within {_PROBE_SECONDS:g} s")
    try:
        answer = json.loads(output)
        return Interpreter(
            path=Path(answer["path"]),
            version=str(answer["version"]),
            implementation=str(answer["implementation"]),
            abi=str(answer["abi"]),
            stdlib=Path(answer["stdlib"]),
        )
    except (ValueError, KeyError, TypeError):
        lines = complaint.decode(errors="replace").strip().splitlines()
        return Skipped(executable, lines[0] if lines else f"exit code {process.returncode}")


def _unavailable(
    specifier: str | None, unfit: list[Interpreter], skipped: list[Skipped]
) -> InterpreterUnavailableError:
    asked = f"Python {specifier}" if specifier else "a Python"
    versions = ", ".join(dict.fromkeys(one.version for one in unfit))
    cause = f"no {asked} here; found {versions}" if unfit else f"no {asked} here"
    reasons = [f"{one.path}: {one.reason}" for one in skipped[:_SHOWN]]
    if reasons:
        cause += f"; skipped {reasons[0]}"
    if len(skipped) > 1:
        cause += f" and {len(skipped) - 1} more"
    return InterpreterUnavailableError(
        f"cannot choose an interpreter: {cause}",
        cause=cause,
        hint="install one that every user can reach, name it in the setting python.search, or "
        "change [dependencies] python",
        evidence=[*(f"{one.path}: Python {one.version}" for one in unfit[:_SHOWN]), *reasons],
    )
