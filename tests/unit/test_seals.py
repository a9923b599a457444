from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from deployer.seals import SEAL, find_breach, write_seal

SITE = "venv/lib/python3.11/site-packages"
RECORD = f"{SITE}/six-1.0.dist-info/RECORD"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    files = {
        "code/main.py": "print()",
        "code/data/words.txt": "one two",
        "requirements.lock": "six==1.0",
        "venv/pyvenv.cfg": "home = /usr/bin",
        f"{SITE}/six.py": "VERSION = 1",
        RECORD: "six.py,sha256=wrong,999\nsix-1.0.dist-info/RECORD,,\ngone.py,,\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    write_seal(tmp_path)
    return tmp_path


def test_a_release_that_nobody_touched_is_intact(release: Path) -> None:
    assert find_breach(release) == find_breach(release, anew=True) == ""


def test_the_word_of_a_wheel_about_its_own_files_is_not_taken(release: Path) -> None:
    assert "wrong" in (release / RECORD).read_text()
    assert find_breach(release) == ""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("code/main.py", "a file was changed"),
        ("code/data/words.txt", "a file was changed"),
        ("requirements.lock", "a file was changed"),
        ("venv/pyvenv.cfg", "a file was changed"),
        (RECORD, "files of a dependency were changed"),
    ],
)
def test_what_was_changed_or_is_missing_is_named(release: Path, name: str, words: str) -> None:
    assert find_breach(release) == ""
    path = release / name
    path.write_text(path.read_text() + "#")
    assert words in find_breach(release)
    assert str(path) in find_breach(release)
    path.unlink()
    assert find_breach(release) == f"a file is missing: {path}"


@pytest.mark.parametrize("act", [Path.unlink, lambda path: path.write_text("VERSION = 10")])
def test_a_dependency_without_its_files_is_named(
    release: Path, act: Callable[[Path], object]
) -> None:
    act(release / SITE / "six.py")
    assert find_breach(release).endswith(str(release / RECORD))


def test_what_was_added_is_nobodys_damage(release: Path) -> None:
    (release / "code" / "__pycache__").mkdir()
    (release / "code" / "__pycache__" / "main.cpython-311.pyc").write_bytes(b"1")
    (release / "code" / "agent.sqlite").write_bytes(b"1")
    assert find_breach(release) == ""


def test_a_change_behind_the_same_size_and_time_is_found(release: Path) -> None:
    path = release / "code" / "main.py"
    assert find_breach(release) == ""
    times = path.stat()
    path.write_text("PRINT()")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert str(path) in find_breach(release)
    assert str(path) in find_breach(release, anew=True)


def test_a_release_without_a_seal_is_not_intact(release: Path) -> None:
    (release / SEAL).unlink()
    assert find_breach(release) == f"its seal is missing: {release / SEAL}"


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null"])
def test_a_damaged_seal_is_told(release: Path, text: str) -> None:
    (release / SEAL).write_text(text)
    assert find_breach(release).startswith("its seal cannot be read")


def test_a_record_that_is_no_table_is_sealed_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / RECORD
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 200_000 + b"\n\xff\0,\r")
    write_seal(tmp_path)
    assert find_breach(tmp_path) == ""
    path.write_bytes(b"y")
    assert find_breach(tmp_path)


def test_a_seal_is_written_whole_or_not(release: Path) -> None:
    assert json.loads((release / SEAL).read_text()).keys() >= {"code/main.py", RECORD}
    assert not (release / f"{SEAL}.new").exists()
