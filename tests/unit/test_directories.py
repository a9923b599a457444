"""Directories as packages: what of them is taken, and what is said when that does not work."""

from __future__ import annotations

import gc
import io
import os
import zipfile
from pathlib import Path

import pytest

from deployer.client import directories
from deployer.client.archives import open_archive
from deployer.client.directories import contents_of, pack
from deployer.errors import ManifestInvalidError, PackageInvalidError, PackageTooLargeError


def fill(directory: Path, *names: str, **texts: str) -> Path:
    """Make files by name, and ignore files by their text."""
    for name in ("agent.toml", *names):
        file = directory / name
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text("x")
    for name, text in texts.items():
        (directory / f".{name}").write_text(text)
    return directory


def names_in(directory: Path) -> list[str]:
    return [path.relative_to(directory).as_posix() for path in contents_of(directory).files]


def test_a_directory_packs_into_the_same_bytes_whenever_it_is_packed(tmp_path: Path) -> None:
    for name, mtime in (("one", 10), ("two", 20)):
        for file in fill(tmp_path / name, "main.py", "lib/x.py").rglob("*.*"):
            os.utime(file, (mtime, mtime))
    (tmp_path / "two" / "main.py").chmod(0o600)
    assert pack(tmp_path / "one") == pack(tmp_path / "two")


def test_what_belongs_into_no_package_is_left_out(tmp_path: Path) -> None:
    left_out = (".git/config", "__pycache__/a.pyc", "lib/old.pyc", ".venv/bin/python")
    fill(tmp_path, "run.sh", "lib/x.py", "gone.zip.minisig", *left_out, gitignore="!.git\n")
    (tmp_path / "run.sh").chmod(0o750)
    with zipfile.ZipFile(io.BytesIO(pack(tmp_path))) as packed:
        assert packed.namelist() == ["agent.toml", "lib/x.py", "run.sh"]
        modes = [oct(info.external_attr >> 16 & 0o777) for info in packed.infolist()]
    assert modes == ["0o644", "0o644", "0o755"]
    told = contents_of(tmp_path).left_out
    assert {".git/", "__pycache__/", "lib/old.pyc", ".venv/"} <= set(told)


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("*.log", ["agent.toml", "logs/keep.txt", "src/build/b.py"]),
        ("build/", ["agent.toml", "logs/a.log", "logs/keep.txt"]),
        ("/build", ["agent.toml", "logs/a.log", "logs/keep.txt", "src/build/b.py"]),
        ("logs/*\n!keep.txt", ["agent.toml", "logs/keep.txt", "src/build/b.py"]),
        ("logs/\n!keep.txt", ["agent.toml", "src/build/b.py"]),  # as git has it
        ("# build/\n\n", ["agent.toml", "logs/a.log", "logs/keep.txt", "src/build/b.py"]),
        ("src/**/b.py", ["agent.toml", "logs/a.log", "logs/keep.txt"]),
    ],
)
@pytest.mark.parametrize("file", ["gitignore", "atollignore"])
def test_ignore_files_are_read_as_git_reads_them(
    tmp_path: Path, file: str, line: str, kept: list[str]
) -> None:
    fill(tmp_path, "logs/a.log", "logs/keep.txt", "src/build/b.py", **{file: line})
    assert names_in(tmp_path) == kept


def test_atollignore_takes_back_what_git_is_not_to_keep(tmp_path: Path) -> None:
    fill(tmp_path, "model.bin", "other.bin", gitignore="*.bin\n", atollignore="!model.bin\n")
    assert names_in(tmp_path) == ["agent.toml", "model.bin"]


def test_an_ignore_file_speaks_for_its_own_folder_and_before_those_above(tmp_path: Path) -> None:
    fill(tmp_path, "a.txt", "lib/a.txt", "lib/b.txt", "lib/deep/a.txt", gitignore="a.txt\n")
    (tmp_path / "lib" / ".gitignore").write_text("!a.txt\n/b.txt\n")
    assert names_in(tmp_path) == ["agent.toml", "lib/a.txt", "lib/deep/a.txt"]


def test_the_repository_around_a_directory_speaks_for_it_too(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text(".env\n/agents/*/tmp/\n")
    agent = fill(tmp_path / "agents" / "greeter", ".env", "tmp/x", "main.py")
    assert names_in(agent) == ["agent.toml", "main.py"]


def test_a_directory_that_its_repository_leaves_out_is_packed_when_it_is_asked_for(
    tmp_path: Path,
) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("build/\n*.log\n")
    assert names_in(fill(tmp_path / "build" / "agent", "a.log")) == ["a.log", "agent.toml"]


def test_folders_above_that_are_no_repository_say_nothing(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*\n")
    assert names_in(fill(tmp_path / "agent")) == ["agent.toml"]


def test_links_are_all_told_and_none_is_followed(tmp_path: Path) -> None:
    fill(tmp_path, atollignore="unread\n")
    (tmp_path / "secret").symlink_to("/etc/passwd")
    (tmp_path / "folder").symlink_to("/etc")
    (tmp_path / "unread").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PackageInvalidError, match=r"and 2 more") as caught:
        pack(tmp_path)
    assert [each.where for each in caught.value.problems] == ["folder", "pipe", "secret"]
    assert "a symbolic link to /etc/passwd" in caught.value.problems[2].message


def test_a_name_that_no_zip_can_hold_is_told(tmp_path: Path) -> None:
    (fill(tmp_path) / os.fsdecode(b"caf\xe9.py")).touch()
    with pytest.raises(PackageInvalidError, match="not UTF-8"):
        pack(tmp_path)


@pytest.mark.parametrize("names", [(), (".git/config", "__pycache__/x.pyc")])
def test_an_empty_directory_is_told_with_what_to_do(tmp_path: Path, names: tuple[str, ...]) -> None:
    fill(tmp_path, *names)
    (tmp_path / "agent.toml").unlink()
    with pytest.raises(PackageInvalidError, match=r".git/" if names else "it is empty") as caught:
        pack(tmp_path)
    assert "atoll-deployer init" in caught.value.hint


def test_a_directory_without_a_manifest_is_told_where_one_is(tmp_path: Path) -> None:
    fill(tmp_path / "agents" / "greeter", "main.py")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ManifestInvalidError, match=r"there is no agent\.toml in it") as caught:
        pack(tmp_path)
    assert caught.value.hint == f"did you mean {tmp_path / 'agents' / 'greeter'}?"


def test_a_manifest_that_is_left_out_is_told(tmp_path: Path) -> None:
    fill(tmp_path, "main.py", gitignore="*.toml\n")
    with pytest.raises(ManifestInvalidError, match=r"its agent\.toml is left out"):
        pack(tmp_path)


def test_one_enclosing_folder_is_fine_as_it_is_in_a_zip(tmp_path: Path) -> None:
    fill(tmp_path / "greeter")
    assert names_in(tmp_path) == ["greeter/agent.toml"]


def test_too_much_is_told_with_the_largest_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directories, "LARGEST_BYTES", 100)
    (fill(tmp_path) / "model.bin").write_bytes(bytes(100))
    with pytest.raises(PackageTooLargeError) as caught:
        pack(tmp_path)
    assert str(caught.value.problems[0]) == "model.bin: 100 bytes"


def test_an_ignore_file_that_cannot_be_read_packs_nothing(tmp_path: Path) -> None:
    (fill(tmp_path) / ".gitignore").write_bytes(b"\xff\xfe")
    with pytest.raises(PackageInvalidError, match=r"\.gitignore: not utf-8"):
        pack(tmp_path)


def test_a_packed_directory_is_an_archive_like_any_other(tmp_path: Path) -> None:
    archive, packed = open_archive(fill(tmp_path)), pack(tmp_path)
    for _ in range(2):  # as often as it takes
        with archive.open() as file:
            assert file.read() == packed
    assert (archive.size_bytes, archive.md5) == (len(packed), open_archive(packed).md5)


def test_a_packed_directory_is_kept_in_a_file_for_as_long_as_its_archive(tmp_path: Path) -> None:
    archive = open_archive(fill(tmp_path))
    with archive.open() as file:
        pass
    assert not file.closed
    del archive
    gc.collect()
    assert file.closed
