"""Known vulnerabilities of what a release has installed, out of a local copy of OSV's archive.

The archive is what osv.dev publishes as ``PyPI/all.zip``: one JSON document an advisory, after
https://ossf.github.io/osv-schema/. Nothing is asked over the network.
"""

from __future__ import annotations

import json
import threading
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from deployer.scan_reports import (
    KNOWN_VULNERABILITY,
    Finding,
    ScanReport,
    Severity,
    not_scanned,
    report_of,
)

SCANNER: Final = "advisories"

_ECOSYSTEM: Final = "pypi"
_LARGEST_ENTRY: Final = 4 * 1024**2
_LOCK: Final = "requirements.lock"
_SEVERITIES: Final = {"MODERATE": Severity.MEDIUM} | {each.name: each for each in Severity}
_UNREADABLE: Final = (OSError, zipfile.BadZipFile, zlib.error, ValueError, RecursionError, KeyError)
_BAD_ENTRY: Final = (ValueError, RecursionError, TypeError, KeyError, AttributeError)


class Advisories:
    """The archive, with an index by names that is made once for each version of the file."""

    def __init__(self, archive: Path | None) -> None:
        """Read nothing before somebody asks.

        Args:
            archive: The ZIP; None: there is none.
        """
        self._archive = archive
        self._guard = threading.Lock()
        self._indexed: tuple[int, int, int] | None = None
        self._index: dict[str, tuple[str, ...]] = {}

    def scan(self, packages: Sequence[tuple[str, str]]) -> ScanReport:
        """Say which of some dependencies have a known vulnerability.

        Args:
            packages: Name and version of each.

        Returns:
            ``not_scanned`` also where the archive knows none of the names: nothing was compared
            then, and that must not look like health.
        """
        if self._archive is None:
            return not_scanned(SCANNER, "no scan.osv_archive in the settings")
        if not packages:
            return report_of(SCANNER, (), "no dependencies")
        try:
            index = self._names(self._archive)
            if not index:
                return not_scanned(SCANNER, f"{self._archive} holds no advisory about PyPI")
            known = {name: index[name] for name, _ in packages if name in index}
            if not known:
                reason = f"{self._archive} knows none of the {len(packages)} dependencies"
                return not_scanned(SCANNER, reason)
            with zipfile.ZipFile(self._archive) as archive:
                found = [
                    finding
                    for name, version in packages
                    for finding in _of_package(archive, known.get(name, ()), name, version)
                ]
        except _UNREADABLE as error:
            return not_scanned(SCANNER, f"cannot read {self._archive}: {error}")
        return report_of(SCANNER, found)

    def _names(self, path: Path) -> Mapping[str, tuple[str, ...]]:
        status = path.stat()
        version = (status.st_mtime_ns, status.st_size, status.st_ino)
        with self._guard:
            if self._indexed != version:
                with zipfile.ZipFile(path) as archive:
                    self._index = _index(archive)
                self._indexed = version
            return self._index


def _index(archive: zipfile.ZipFile) -> dict[str, tuple[str, ...]]:
    """Map names of dependencies to the members of the archive that speak of them."""
    index: dict[str, list[str]] = {}
    for member in archive.namelist():
        entry = _entry(archive, member)
        try:
            names = {canonicalize_name(each["package"]["name"]) for each in _affected(entry)}
        except _BAD_ENTRY:
            continue
        for name in names:
            index.setdefault(name, []).append(member)
    return {name: tuple(sorted(members)) for name, members in index.items()}


def _entry(archive: zipfile.ZipFile, member: str) -> dict[str, Any]:
    """Read an advisory; an empty one for what is none or was withdrawn."""
    if not member.endswith(".json") or archive.getinfo(member).file_size > _LARGEST_ENTRY:
        return {}
    try:
        entry = json.loads(archive.read(member))
    except (ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) and not entry.get("withdrawn") else {}


def _affected(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        each
        for each in entry.get("affected", ())
        if each["package"]["ecosystem"].partition(":")[0].lower() == _ECOSYSTEM
    ]


def _of_package(
    archive: zipfile.ZipFile, members: Sequence[str], name: str, version: str
) -> Iterator[Finding]:
    told: set[str] = set()  # one hole has an entry in each of several databases
    for member in members:
        entry = _entry(archive, member)
        try:
            about = [
                each
                for each in _affected(entry)
                if canonicalize_name(each["package"]["name"]) == name and _holds(each, version)
            ]
            if not about:
                continue
            names = {str(entry["id"]), *map(str, entry.get("aliases", ()))}
            finding = _finding(entry, about, name, version)
        except _BAD_ENTRY:
            continue
        if not names & told:
            yield finding
        told |= names


def _holds(affected: Mapping[str, Any], version: str) -> bool:
    """Tell whether a version is affected: it is listed, or lies within a range."""
    listed = affected.get("versions", ())
    installed = _version(version)
    if installed is None:
        return version in listed
    if any(_version(each) == installed for each in listed):
        return True
    return any(
        _within(each["events"], installed)
        for each in affected.get("ranges", ())
        if each["type"] == "ECOSYSTEM"
    )


def _within(events: Sequence[Mapping[str, str]], installed: Version) -> bool:
    """Follow the events of a range up to a version (osv-schema, "Evaluation")."""
    turns: list[tuple[Version | None, str]] = []
    for event in events:
        for kind, text in event.items():
            turn = None if text == "0" else _version(text)
            if turn is not None or (kind, text) == ("introduced", "0"):
                turns.append((turn, kind))
    is_in = False
    for turn, kind in sorted(turns, key=lambda each: (each[0] is not None, each[0] or installed)):
        if kind == "introduced" and (turn is None or installed >= turn):
            is_in = True
        elif turn is not None and (
            (kind in {"fixed", "limit"} and installed >= turn)
            or (kind == "last_affected" and installed > turn)
        ):
            is_in = False
    return is_in


def _version(text: str) -> Version | None:
    try:
        return Version(Version(text).public)  # 2.1+cu118 is built from what 2.1 is
    except InvalidVersion:
        return None


def _finding(
    entry: Mapping[str, Any], about: Sequence[Mapping[str, Any]], name: str, version: str
) -> Finding:
    cves = [each for each in entry.get("aliases", ()) if str(each).startswith("CVE-")]
    fixed = {
        event["fixed"]
        for each in about
        for span in each.get("ranges", ())
        if span["type"] == "ECOSYSTEM"
        for event in span["events"]
        if "fixed" in event
    }
    said = str(entry.get("summary") or entry.get("details") or "").split("\n")[0][:200]
    message = f"{name} {version}: {', '.join([entry['id'], *cves[:1]])}"
    message += f": {said}" if said else ""
    message += f"; fixed in {', '.join(sorted(fixed))}" if fixed else "; no version mends it"
    specific = entry.get("database_specific")
    word = str(specific.get("severity", "")) if isinstance(specific, dict) else ""
    severity = _SEVERITIES.get(word.upper(), Severity.UNKNOWN)
    return Finding(KNOWN_VULNERABILITY, _LOCK, None, message, severity)
