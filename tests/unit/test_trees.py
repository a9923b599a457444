"""Trees of hostile owners: deep, closed, full of links, and deleted or given away all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deployer.trees import change_owner, delete_tree

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")

DEEPER_THAN_PYTHON_CALLS = 3000


def make_deep(top: Path) -> None:
    """Nest directories until no path can name the last one."""
    top.mkdir()
    directory = os.open(top, os.O_RDONLY)
    for _ in range(DEEPER_THAN_PYTHON_CALLS):
        os.mkdir("below", dir_fd=directory)
        below = os.open("below", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(directory)


def test_a_tree_deeper_than_python_calls_is_deleted(tmp_path: Path) -> None:
    make_deep(tmp_path / "deep")

    delete_tree(tmp_path / "deep")

    assert not (tmp_path / "deep").exists()


def test_a_link_is_deleted_and_not_what_it_points_at(tmp_path: Path) -> None:
    kept, tree = tmp_path / "kept", tmp_path / "tree"
    for directory in (kept, tree):
        directory.mkdir()
    (kept / "file").touch()
    (tree / "link").symlink_to(kept)
    (tmp_path / "top").symlink_to(kept)

    delete_tree(tree)
    delete_tree(tmp_path / "top")

    assert list(tmp_path.iterdir()) == [kept]
    assert (kept / "file").exists()


def test_what_is_not_there_is_deleted_already(tmp_path: Path) -> None:
    delete_tree(tmp_path / "missing")


@needs_root
def test_directories_that_their_owner_closed_are_deleted_by_that_owner() -> None:
    script = """\
import os, sys, tempfile
from pathlib import Path
from deployer.trees import delete_tree
os.setresgid(1500, 1500, 1500)
os.setresuid(1500, 1500, 1500)
top = Path(tempfile.mkdtemp(dir="/tmp"))
for path in (top / "a", top / "a" / "b"):
    path.mkdir()
    (path / "file").touch()
for path in (top / "a" / "b", top / "a", top):
    path.chmod(0)
delete_tree(top)
sys.exit(top.exists())
"""

    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=20
    )

    assert done.returncode == 0, done.stderr


@needs_root
def test_a_tree_is_given_away_with_its_links_and_nothing_that_they_point_at(
    tmp_path: Path,
) -> None:
    outside, tree = tmp_path / "outside", tmp_path / "tree"
    outside.mkdir()
    (tree / "below").mkdir(parents=True)
    (tree / "below" / "file").touch()
    (tree / "link").symlink_to(outside)

    assert change_owner(tree, 71234) == []

    owners = {path.lstat().st_uid for path in (tree, *tree.rglob("*"))}
    assert owners == {71234}
    assert outside.stat().st_uid == 0


@needs_root
def test_a_file_with_a_name_elsewhere_is_not_given_away(tmp_path: Path) -> None:
    cached, tree = tmp_path / "cached", tmp_path / "tree"
    cached.touch()
    tree.mkdir()
    (tree / "linked").hardlink_to(cached)

    assert change_owner(tree, 71234) == ["linked"]

    assert cached.stat().st_uid == 0


@needs_root
def test_giving_a_program_away_takes_its_setuid_bit(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "program").touch()
    os.chown(tree / "program", 71234, 71234)
    (tree / "program").chmod(0o4755)

    change_owner(tree, 0)

    assert (tree / "program").stat().st_mode & 0o7777 == 0o755


@needs_root
def test_a_deep_tree_is_given_away(tmp_path: Path) -> None:
    make_deep(tmp_path / "deep")
    try:
        change_owner(tmp_path / "deep", 71234)

        assert (tmp_path / "deep" / "below" / "below").stat().st_uid == 71234
    finally:
        delete_tree(tmp_path / "deep")


@needs_root
def test_a_link_in_place_of_a_directory_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "etc")

    with pytest.raises(OSError, match="Not a directory"):
        change_owner(tmp_path / "data", 71234)

    assert (tmp_path / "etc").stat().st_uid == 0
