"""Locks: dependencies as they were resolved, with hashes and with what they were resolved from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from deployer.errors import ResolutionError

_TITLE: Final = "# Dependencies as resolved; installed with --require-hashes."
_KEY: Final = re.compile(r"# ([a-z_]+): (.*)")
_HASH: Final = re.compile(r"--hash=(sha256:[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Pin:
    """One dependency at one version.

    Attributes:
        requirement: ``six==1.17.0``, or the path or address of a wheel that the settings name.
        hashes: ``sha256:`` and 64 hex digits each, of every file that may be installed for it.
    """

    requirement: str
    hashes: tuple[str, ...]

    @property
    def name(self) -> str:
        """The dependency's name in PyPI's normal form; meaningless for a bare path."""
        return _name(self.requirement)

    @property
    def named(self) -> tuple[str, str]:
        """The dependency's name, and its version or, if it was asked for by address, that."""
        name, sep, version = self.requirement.partition("==")
        if sep:
            return _name(name), version
        name, sep, address = self.requirement.partition(" @ ")
        if sep:
            return _name(name), address
        try:  # a bare path or address of a wheel
            wheel, number, _, _ = parse_wheel_filename(self.requirement.rpartition("/")[2])
        except InvalidWheelFilename:
            return self.name, self.requirement
        return str(wheel), str(number)


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that decides what a resolution gives, but for the time.

    Attributes:
        requirements: Normalised lines, sorted.
        python: The interpreter's version.
        abi: The interpreter's ABI and platform.
        indexes: Addresses without credentials, in the order in which they are asked.
        find_links: Directories or addresses with wheels.
        exclude_newer: Dependencies uploaded later do not exist; None: all do.
        require_hashes: Every dependency had to be among the requirements, with its hashes.
        builds: What had no wheel could be built.
    """

    requirements: tuple[str, ...]
    python: str
    abi: str
    indexes: tuple[str, ...]
    find_links: tuple[str, ...] = ()
    exclude_newer: str | None = None
    require_hashes: bool = False
    builds: bool = False


@dataclass(frozen=True, slots=True)
class Lock:
    """A resolution that can be repeated, byte for byte.

    Attributes:
        inputs: What it was resolved from.
        resolved_at: When; in UTC.
        pins: What it came to, sorted.
    """

    inputs: Inputs
    resolved_at: datetime
    pins: tuple[Pin, ...]

    def is_fit(self, inputs: Inputs, *, at: datetime, max_age_seconds: float) -> bool:
        """Tell whether resolving these inputs now may be spared by taking this lock."""
        age = (at - self.resolved_at).total_seconds()
        return self.inputs == inputs and 0 <= age < max_age_seconds

    def write(self, path: Path) -> None:
        """Write a file that uv and pip can install and `read_lock` understands; whole or not."""
        text = "\n".join((_TITLE, *self._header(), *(_line(pin) for pin in self.pins), ""))
        half = path.with_name(f"{path.name}.half")
        half.write_text(text, encoding="utf-8")
        half.chmod(0o644)  # the server's umask may be tighter, and the agent may read its lock
        half.replace(path)

    def _header(self) -> Iterable[str]:
        for key, value in asdict(self.inputs).items():
            yield f"# {key}: {json.dumps(value)}"
        yield f"# resolved_at: {json.dumps(self.resolved_at.isoformat())}"


def read_lock(path: Path) -> Lock | None:
    """Read a lock.

    Returns:
        None when there is none, or it is not one that this version wrote: it is no use then.
    """
    try:
        text = path.read_text(encoding="utf-8")
        header: dict[str, Any] = {
            match[1]: json.loads(match[2])
            for line in text.splitlines()
            if (match := _KEY.fullmatch(line))
        }
        resolved_at = datetime.fromisoformat(header.pop("resolved_at")).astimezone(UTC)
        values: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in header.items()
        }
        return Lock(Inputs(**values), resolved_at, parse_pins(text))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def find_reusable_lock(
    candidates: Iterable[Path], inputs: Inputs, *, at: datetime, max_age_seconds: float
) -> Lock | None:
    """Find the first lock that spares resolving inputs; None when each is missing or unfit."""
    locks = (read_lock(path) for path in candidates)
    fits = (lock for lock in locks if lock is not None)
    return next(
        (lock for lock in fits if lock.is_fit(inputs, at=at, max_age_seconds=max_age_seconds)), None
    )


def parse_pins(text: str) -> tuple[Pin, ...]:
    """Read the lines of a lock, as `Lock.write` and ``uv pip compile --generate-hashes`` write."""
    joined = re.sub(r"\\\n", " ", text)
    lines = (line.strip() for line in joined.splitlines())
    return tuple(
        sorted(
            (
                Pin(line.partition(" --hash=")[0].strip(), tuple(_HASH.findall(line)))
                for line in lines
                if line and not line.startswith("#")
            ),
            key=lambda pin: pin.requirement,
        )
    )


def pins_of_report(report: Mapping[str, Any]) -> tuple[Pin, ...]:
    """Read what ``pip install --dry-run --report`` chose.

    Source: https://pip.pypa.io/en/stable/reference/installation-report/
    """
    pins = []
    for item in report["install"]:
        metadata, download = item["metadata"], item["download_info"]
        name = canonicalize_name(metadata["name"])
        exact = f" @ {download['url']}" if item["is_direct"] else f"=={metadata['version']}"
        digest = download["archive_info"]["hashes"]["sha256"]
        pins.append(Pin(f"{name}{exact}", (f"sha256:{digest}",)))
    return tuple(sorted(pins, key=lambda pin: pin.requirement))


def hold_to(
    pins: Iterable[Pin], requirements: Sequence[str], *, require_hashes: bool = False
) -> tuple[Pin, ...]:
    """Keep only the hashes that an author allows, where one gave hashes.

    uv adds an author's hashes to those of the index instead of comparing them, and pip wants
    hashes for all or none, so neither is given them.

    Args:
        pins: What was resolved.
        requirements: Lines, with the author's hashes.
        require_hashes: There must be one for every pin.

    Raises:
        ResolutionError: The index has no file with an allowed hash, or a required one is missing.
    """
    allowed: dict[str, set[str]] = {}
    for line in requirements:
        if hashes := _HASH.findall(line):
            allowed.setdefault(_name(line), set()).update(hashes)
    pins = tuple(pins)
    missing = [pin.requirement for pin in pins if pin.name not in allowed]
    if require_hashes and missing:
        cause = f"no hash is given for {', '.join(missing)}"
        raise ResolutionError(
            f"cannot resolve the dependencies: {cause}",
            cause=cause,
            hint="this server installs nothing without a hash: list the dependencies of your"
            " dependencies too, each with --hash=sha256:..., as `uv pip compile --generate-hashes`"
            " does",
        )
    held: list[Pin] = []
    for pin in pins:
        kept = tuple(each for each in pin.hashes if each in allowed.get(pin.name, pin.hashes))
        if not kept:
            cause = f"no file of {pin.requirement} has a hash that the requirements allow"
            raise ResolutionError(
                f"cannot resolve the dependencies: {cause}",
                cause=cause,
                hint="correct the hashes in requirements.txt, or leave them out: the lock has its "
                "own",
            )
        held.append(replace(pin, hashes=kept))
    return tuple(held)


def without_hashes(requirement: str) -> str:
    """Give a requirement line without its hashes."""
    return _HASH.sub("", requirement).strip()


def _name(requirement: str) -> str:
    return canonicalize_name(re.split(r"[\s\[=<>!~;@(]", requirement, maxsplit=1)[0])


def _line(pin: Pin) -> str:
    return " \\\n    ".join((pin.requirement, *(f"--hash={digest}" for digest in pin.hashes)))
