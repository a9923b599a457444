"""What the look into source code finds, and that no source can break it."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployer.scan_reports import RULES, Finding, ScanReport, ScanStatus, Severity
from deployer.scans import scan_sources, sources
from deployer.scans.sources import Sources

SECONDS = 30.0


def scan(directory: Path, **files: str | bytes) -> ScanReport:
    """Scan some files; a double underscore stands for a dot."""
    for name, content in files.items():
        path = directory / name.replace("__", ".")
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return scan_sources(directory, timeout_seconds=SECONDS)


def rules(directory: Path, source: str | bytes) -> list[tuple[str, int | None]]:
    report = scan(directory, main__py=source)
    assert {finding.rule for finding in report.findings} <= set(RULES)
    return [(finding.rule, finding.line) for finding in report.findings]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import base64\nexec(base64.b64decode('cHJpbnQ='))", [("decoded-code", 2)]),
        ("import zlib as z\neval(z.decompress(x).decode())", [("decoded-code", 2)]),
        ("exec(bytes.fromhex('00'))", [("decoded-code", 1)]),
        ("exec(compile(b64decode(x), '', 'exec'))", [("decoded-code", 1), ("decoded-code", 1)]),
        ("def f(text):\n    return eval(text)", [("dynamic-code", 2)]),
        ("import socket as s\ns.create_connection(('a', 1))", [("network-at-import", 2)]),
        ("from urllib import request\nrequest.urlopen('x')", [("network-at-import", 2)]),
        ("from urllib.request import urlopen as u\nu('x')", [("network-at-import", 2)]),
        ("class A:\n    import os\n    os.system('id')", [("process-at-import", 3)]),
        ("import os\nos.execv('/bin/sh', [])", [("process-at-import", 2)]),
        ("import subprocess\n@subprocess.run\ndef f(): pass", []),
        ("import subprocess\ndef f(x=subprocess.run('id')): pass", [("process-at-import", 2)]),
        ("def f():\n    from ctypes import CDLL", [("ctypes", 2)]),
        ("import pickle\ndef f(x): return pickle.loads(x)", [("unpickled-data", 2)]),
        (f"x = {base64.b64encode(b'x' * 4000).decode()!r}", [("large-blob", 1)]),
        (f"\nx = {b'ab' * 2049!r}", [("large-blob", 2)]),
        ("# coding: utf-7\n+AHAAcgBpAG4AdA-()", [("odd-encoding", 1)]),
        (
            "#\n# vim: set fileencoding=rot13 :\n",
            [("odd-encoding", 2), ("unreadable-source", None)],
        ),
    ],
)
def test_what_stands_out_is_found(
    tmp_path: Path, source: str, found: list[tuple[str, int | None]]
) -> None:
    assert rules(tmp_path, source) == found


@pytest.mark.parametrize(
    "source",
    [
        "",
        "# -*- coding: utf-8 -*-\nprint('hello')",
        "import socket\ndef main():\n    socket.socket()",
        "import subprocess\nif __name__ == '__main__':\n    subprocess.run(['true'])",
        "import ast\nx = ast.literal_eval('1')\ny = re.compile('x')\nz = eval('1 + 1')",
        "x = 'word ' * 3000\ny = '" + "many words, a poem. " * 400 + "'",
    ],
)
def test_ordinary_code_is_clean(tmp_path: Path, source: str) -> None:
    report = scan(tmp_path, main__py=source)

    assert (report.status, report.findings, report.reason) == (ScanStatus.CLEAN, (), "")


def test_files_that_are_no_source_are_known_by_what_they_are(tmp_path: Path) -> None:
    report = scan(
        tmp_path,
        a__pth="import os; os.system('id')\n",
        b__pyc=b"\0" * 16,
        c__so=b"\x7fELF...",
        sitecustomize__py="",
        data__bin=b"\0\xff",
    )

    assert {(each.file, each.rule, each.severity) for each in report.findings} == {
        ("a.pth", "pth-file", Severity.HIGH),
        ("b.pyc", "compiled-python", Severity.MEDIUM),
        ("c.so", "native-code", Severity.LOW),
        ("sitecustomize.py", "site-hook", Severity.MEDIUM),
    }


@pytest.mark.parametrize(
    "source",
    [
        b"x = '\0'",
        b"def",
        b"\xff\xfe",
        b"# coding: no-such-codec\n",
        b"# coding: zlib\n",
        b"(" * 100_000,
        b"[" * 199 + b"]" * 199,
        b"-" * 400_000 + b"1",
        b"x" + b".a" * 200_000,
        b"x" + b"()" * 200_000,
        b"not " * 100_000 + b"1",
        b"1" + b"+1" * 200_000,
        b"if x:\n" + b"".join(b" " * n + b"if x:\n" for n in range(1, 99)) + b" " * 99 + b"pass",
        b"lambda: " * 50_000 + b"1",
        b"9" * 500_000,
        b"x = " + b"f'{" * 100 + b"1" + b"}'" * 100,
        b"#" * 600_000,
        b"\n" * 500_000,
    ],
    ids=lambda source: repr(source[:12]),
)
def test_no_source_breaks_the_look_or_hides_the_next(tmp_path: Path, source: bytes) -> None:
    began = time.monotonic()

    report = scan(tmp_path, a__py=source, b__py="exec(b64decode(x))")

    assert time.monotonic() - began < SECONDS / 2
    assert ("decoded-code", "b.py") in [(each.rule, each.file) for each in report.findings]
    assert report.status is ScanStatus.FINDINGS


@given(data=st.binary(max_size=300))
@settings(
    deadline=None,
    derandomize=True,
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # overwritten each time
)
def test_no_bytes_break_the_look(tmp_path: Path, data: bytes) -> None:
    assert scan(tmp_path, a__py=data).status is not ScanStatus.NOT_SCANNED


def test_a_parser_that_dies_is_a_finding_and_the_look_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules_file = Path(sources.source_rules.__file__ or "")
    parse = "    try:\n        tree = ast.parse"
    die = "    if b'die' in data:\n        import os\n        os.kill(os.getpid(), 11)\n"
    text = rules_file.read_text().replace(parse, die + parse)
    dying = tmp_path / "dying.py"
    dying.write_text(text)
    assert "os.kill" in text
    monkeypatch.setattr(sources.source_rules, "__file__", str(dying))
    code = tmp_path / "code"
    code.mkdir()

    report = scan(code, a__py="die", b__py="exec(b64decode(x))")

    first, second = report.findings
    assert first == Finding(
        "unreadable-source",
        "a.py",
        None,
        "could not be looked into: the parser ended by Segmentation fault",
        Severity.HIGH,
    )
    assert (second.rule, second.file) == ("decoded-code", "b.py")
    for number in range(5):
        (code / f"{number}.py").write_text("die")
    assert scan(code).status is ScanStatus.NOT_SCANNED


def test_what_was_parsed_is_known_again_by_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Sources()

    def look(name: str, **files: str) -> list[tuple[str, str]]:
        code = tmp_path / name
        code.mkdir()
        for file, content in files.items():
            (code / file.replace("__", ".")).write_text(content)
        with kept.begin(code) as begun:
            report = begun.report(timeout_seconds=SECONDS)
        assert report.status is ScanStatus.FINDINGS
        return [(each.file, each.rule) for each in report.findings]

    assert look("one", a__py="eval(x)") == [("a.py", "dynamic-code")]
    with monkeypatch.context() as patch:
        patch.setattr(sources.sys, "executable", "/nowhere/python")
        assert look("two", a__py="eval(x)", b__pth="import os") == [
            ("a.py", "dynamic-code"),
            ("b.pth", "pth-file"),
        ]
    assert look("three", a__py="exec(b64decode(x))") == [("a.py", "decoded-code")]
    # The same bytes under a name that runs by itself.
    assert look("four", sitecustomize__py="eval(x)") == [
        ("sitecustomize.py", "site-hook"),
        ("sitecustomize.py", "dynamic-code"),
    ]


def test_a_look_that_nobody_asks_about_ends_with_its_block(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1")

    def processes() -> list[psutil.Process]:
        return [
            each
            for each in psutil.Process().children()
            if str(tmp_path) in " ".join(each.cmdline())
        ]

    with Sources().begin(tmp_path):
        pass
    assert not processes()


def test_a_look_that_takes_too_long_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1")

    report = scan_sources(tmp_path, timeout_seconds=0.0)

    assert report.status is ScanStatus.NOT_SCANNED
    assert "took too long" in report.reason


def test_what_is_not_there_is_never_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert scan_sources(tmp_path / "none", timeout_seconds=SECONDS).status is ScanStatus.NOT_SCANNED
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").write_text("eval(x)")
    assert scan_sources(Path(), timeout_seconds=SECONDS).status is ScanStatus.FINDINGS


def test_a_report_has_an_end(tmp_path: Path) -> None:
    report = scan(tmp_path, a__py="eval(x)\n" * 300)

    assert len(report.findings) == 200
    assert report.reason == "100 more findings are left out"


def test_what_a_link_leads_to_is_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "a.py").symlink_to("/dev/zero")
    (tmp_path / "b.py").symlink_to("/etc/passwd")

    assert scan(tmp_path).status is ScanStatus.CLEAN
