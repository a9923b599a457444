"""Known vulnerabilities, matched out of an archive as OSV publishes it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployer.scan_reports import ScanStatus, Severity
from deployer.scans.advisories import Advisories

Archive = Callable[..., Advisories]


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    def make(*entries: object) -> Advisories:
        path = tmp_path / "all.zip"
        with zipfile.ZipFile(path, "w") as file:
            for number, entry in enumerate(entries):
                data = entry if isinstance(entry, str | bytes) else json.dumps(entry)
                file.writestr(f"OSV-{number}.json", data)
        return Advisories(path)

    return make


def entry(name: str = "Some_Pkg", identifier: str = "PYSEC-1", **more: Any) -> dict[str, Any]:
    affected = {"package": {"ecosystem": "PyPI", "name": name}, **more.pop("affected", {})}
    return {"id": identifier, "summary": "a hole", "affected": [affected], **more}


def span(*events: dict[str, str], kind: str = "ECOSYSTEM") -> dict[str, Any]:
    return {"affected": {"ranges": [{"type": kind, "events": list(events)}]}}


FIXED = span({"introduced": "1.2"}, {"fixed": "2.0"})


@pytest.mark.parametrize(
    ("about", "version", "is_hit"),
    [
        (FIXED, "1.1.9", False),
        (FIXED, "1.2", True),
        (FIXED, "1.2.0", True),
        (FIXED, "2.0rc1", True),
        (FIXED, "2.0", False),
        (FIXED, "1.10", True),
        (FIXED, "2.0+cu118", False),
        (FIXED, "1.9+local", True),
        (span({"introduced": "0"}), "0.0.1.dev1", True),
        (span({"introduced": "0"}, {"last_affected": "1.4"}), "1.4", True),
        (span({"introduced": "0"}, {"last_affected": "1.4"}), "1.4.1", False),
        (span({"fixed": "2.0"}, {"introduced": "1.2"}), "1.5", True),
        (
            span({"introduced": "0"}, {"fixed": "1"}, {"introduced": "3"}, {"fixed": "4"}),
            "2",
            False,
        ),
        (
            span({"introduced": "0"}, {"fixed": "1"}, {"introduced": "3"}, {"fixed": "4"}),
            "3.1",
            True,
        ),
        (span({"introduced": "0"}, kind="GIT"), "1", False),
        ({"affected": {"versions": ["1.0", "1.1"]}}, "1.1.0", True),
        ({"affected": {"versions": ["1.0", "1.1"]}}, "1.2", False),
        ({"affected": {"versions": ["odd one"]}}, "odd one", True),
        ({**FIXED, "withdrawn": "2026-01-01T00:00:00Z"}, "1.5", False),
    ],
)
def test_versions_and_ranges_are_followed(
    archive: Archive, about: dict[str, Any], version: str, *, is_hit: bool
) -> None:
    # Another advisory, so that the name is known in any case.
    scanned = archive(entry(**about), entry(identifier="X", affected={"versions": ["99"]}))

    report = scanned.scan([("some-pkg", version)])

    assert report.status is (ScanStatus.FINDINGS if is_hit else ScanStatus.CLEAN)


def test_a_finding_says_what_is_known(archive: Archive) -> None:
    specific = {"aliases": ["CVE-2026-1"], "database_specific": {"severity": "MODERATE"}, **FIXED}

    (found,) = archive(entry(**specific)).scan([("some-pkg", "1.5")]).findings

    assert (found.rule, found.file, found.line) == (
        "known-vulnerability",
        "requirements.lock",
        None,
    )
    assert found.message == "some-pkg 1.5: PYSEC-1, CVE-2026-1: a hole; fixed in 2.0"
    assert found.severity is Severity.MEDIUM


def test_one_hole_that_several_databases_know_is_told_once(archive: Archive) -> None:
    known = archive(
        entry(identifier="GHSA-1", aliases=["CVE-2026-1", "PYSEC-1"], **FIXED),
        entry(identifier="PYSEC-1", aliases=["CVE-2026-1"], **FIXED),
        entry(identifier="PYSEC-2", **FIXED),
    )

    report = known.scan([("some-pkg", "1.5"), ("other", "1")])

    assert [each.message.split(":")[1] for each in report.findings] == [
        " GHSA-1, CVE-2026-1",
        " PYSEC-2",
    ]


def test_other_ecosystems_do_not_count(archive: Archive) -> None:
    foreign = entry(**FIXED)
    foreign["affected"][0]["package"]["ecosystem"] = "npm"

    report = archive(foreign).scan([("some-pkg", "1.5")])

    assert report.status is ScanStatus.NOT_SCANNED
    assert report.reason.endswith("holds no advisory about PyPI")


def test_an_archive_that_knows_no_name_is_never_clean(archive: Archive) -> None:
    report = archive(entry(**FIXED)).scan([("alpha", "1"), ("beta", "2")])

    assert report.status is ScanStatus.NOT_SCANNED
    assert report.reason.endswith("knows none of the 2 dependencies")


def test_without_dependencies_there_is_nothing_to_know(archive: Archive) -> None:
    assert archive(entry(**FIXED)).scan([]).status is ScanStatus.CLEAN


def test_without_an_archive_nothing_is_scanned() -> None:
    report = Advisories(None).scan([("alpha", "1")])

    assert (report.status, report.reason) == (
        ScanStatus.NOT_SCANNED,
        "no scan.osv_archive in the settings",
    )


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\5\6" + bytes(18)])
def test_a_damaged_archive_is_never_clean(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "all.zip"
    path.write_bytes(content)

    assert Advisories(path).scan([("alpha", "1")]).status is ScanStatus.NOT_SCANNED
    assert Advisories(tmp_path / "none").scan([("alpha", "1")]).status is ScanStatus.NOT_SCANNED


@pytest.mark.parametrize(
    "bad",
    [
        *(b"\xff", "[]", "{", "[" * 100_000, '{"id": 1, "affected": 5}', '{"affected": [{}]}'),
        *('{"affected": [{"package": {"ecosystem": "PyPI", "name": 5}}]}', '{"affected": [5]}'),
        entry(affected={"ranges": 5}),
        entry(affected={"ranges": [{"type": "ECOSYSTEM"}]}),
        entry(affected={"versions": [None]}),
        entry(affected={"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": None}]}]}),
        entry(aliases=5, **FIXED),
        entry(affected={"versions": ["1.5"], "ranges": None}),
        entry(identifier=5, **FIXED),  # type: ignore[arg-type]  # that is what is bad
        entry(**span({"introduced": "0"}, {"fixed": 2})),  # type: ignore[dict-item]  # as above
    ],
    ids=lambda bad: str(bad)[:40],
)
def test_a_bad_entry_hides_no_other(archive: Archive, bad: object) -> None:
    report = archive(bad, entry(identifier="GOOD", **FIXED)).scan([("some-pkg", "1.5")])

    assert any("GOOD" in each.message for each in report.findings)


def test_a_new_archive_is_read_anew(archive: Archive, tmp_path: Path) -> None:
    scanned = archive(entry(**FIXED))
    assert scanned.scan([("some-pkg", "2.5")]).status is ScanStatus.CLEAN

    archive(entry(**span({"introduced": "0"})), entry())
    assert scanned.scan([("some-pkg", "2.5")]).status is ScanStatus.FINDINGS

    (tmp_path / "all.zip").unlink()
    assert scanned.scan([("some-pkg", "2.5")]).status is ScanStatus.NOT_SCANNED
