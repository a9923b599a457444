from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deployer.environments.interpreters import (
    Found,
    Interpreter,
    Skipped,
    choose_interpreter,
    find_interpreters,
    unreachable_by,
)
from deployer.errors import InterpreterUnavailableError

OURS = Path(os.path.realpath(sys._base_executable))
OURS_VERSION = ".".join(str(number) for number in sys.version_info[:3])


def python(version: str, path: str = "/opt/python/bin/python3") -> Interpreter:
    return Interpreter(
        Path(path), version, "cpython", f"cpython-{version}", Path("/opt/python/lib")
    )


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def first(search: list[Path], path: str = "") -> Found:
    return next(find_interpreters(search, path))


def test_without_a_wish_the_first_interpreter_is_chosen() -> None:
    assert choose_interpreter(None, [python("3.9.1"), python("3.13.0")]).version == "3.9.1"


def test_a_wish_passes_over_interpreters_that_do_not_meet_it() -> None:
    found = [python("3.9.1"), python("3.13.0"), python("3.12.4")]
    assert choose_interpreter(">=3.10,<3.13", found).version == "3.12.4"


def test_a_prerelease_does_not_meet_a_wish_that_names_none() -> None:
    assert choose_interpreter(">=3.9", [python("3.15.0a2"), python("3.9.1")]).version == "3.9.1"


def test_an_interpreter_that_the_agent_cannot_reach_is_passed_over() -> None:
    closed, usable = python("3.12.0", "/root/bin/python3"), python("3.11.0")
    chosen = choose_interpreter(
        None, [closed, usable], obstacle=lambda one: "closed" if one is closed else None
    )
    assert chosen is usable


def test_nothing_is_asked_beyond_the_first_fit() -> None:
    def found() -> Iterator[Found]:
        yield python("3.11.0")
        pytest.fail("asked for more")

    assert choose_interpreter(">=3.11", found()).version == "3.11.0"


def test_when_none_fits_the_error_names_what_was_asked_found_and_skipped() -> None:
    found = [
        python("3.11.7"),
        Skipped(Path("/shims/python3"), "command not found"),
        python("3.14.0", "/root/python3"),
    ]
    with pytest.raises(InterpreterUnavailableError) as caught:
        choose_interpreter(">=3.14", found, obstacle=lambda _: "/root is closed to uid 70001")
    error = caught.value
    assert error.cause == (
        "no Python >=3.14 here; found 3.11.7; skipped /shims/python3: command not found and 1 more"
    )
    assert error.evidence == (
        "/opt/python/bin/python3: Python 3.11.7",
        "/shims/python3: command not found",
        "/root/python3: Python 3.14.0, /root is closed to uid 70001",
    )


def test_a_wish_that_is_no_version_range_is_refused() -> None:
    with pytest.raises(InterpreterUnavailableError, match="'three' is not a version range"):
        choose_interpreter("three", [python("3.11.7")])


def test_an_executable_is_asked_for_its_version() -> None:
    found = first([OURS])
    assert isinstance(found, Interpreter)
    assert (found.path, found.version) == (OURS, OURS_VERSION)
    assert (found.stdlib / "os.py").is_file()


def test_the_python_of_a_virtual_environment_leads_to_the_one_it_was_made_with(
    tmp_path: Path,
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(OURS)
    (tmp_path / "pyvenv.cfg").write_text(f"home = {OURS.parent}\n")
    found = first([tmp_path / "bin"])
    assert isinstance(found, Interpreter)
    assert found.path == OURS


def test_a_directory_of_installations_is_searched_newest_first(tmp_path: Path) -> None:
    for version in ("3.9.18", "3.13.0", "3.10.13"):
        script(tmp_path / version / "bin" / "python3", f"#!/bin/sh\necho {version} >&2; exit 1\n")
    found = list(find_interpreters([tmp_path], ""))[:3]
    assert [one.reason for one in found if isinstance(one, Skipped)] == [
        "3.13.0",
        "3.10.13",
        "3.9.18",
    ]


def test_search_comes_before_path(tmp_path: Path) -> None:
    wanted = script(tmp_path / "a" / "python3", "#!/bin/sh\nexit 3\n")
    other = script(tmp_path / "b" / "python3", "#!/bin/sh\nexit 3\n")
    found = find_interpreters([tmp_path / "a"], str(tmp_path / "b"))
    assert [next(found).path, next(found).path] == [wanted, other]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A directory that everybody may enter, while that of pytest is root's."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def without_privileges() -> Iterator[None]:
    """Run the block as somebody whom closed directories stop."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(64123)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_closed_directory_in_path_hides_no_other(open_folder: Path) -> None:
    closed = open_folder / "closed"
    script(closed / "bin" / "python3", "#!/bin/sh\nexit 3\n")
    wanted = script(open_folder / "b" / "python3", "#!/bin/sh\nexit 3\n")
    closed.chmod(0)
    with without_privileges():
        found = next(find_interpreters([closed / "bin", closed], str(wanted.parent)))
    closed.chmod(0o700)
    assert found.path == wanted


def test_a_closed_installation_hides_no_other(open_folder: Path) -> None:
    for version in ("3.13.0", "3.10.13"):
        script(open_folder / version / "bin" / "python3", "#!/bin/sh\nexit 3\n")
    closed = open_folder / "3.13.0" / "bin"
    (open_folder / "3.14.0").symlink_to(closed / "behind")
    closed.chmod(0)
    with without_privileges():
        found = next(find_interpreters([open_folder], ""))
    closed.chmod(0o700)
    assert found.path == open_folder / "3.10.13" / "bin" / "python3"


def test_a_relative_entry_of_path_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "bin" / "python3", "#!/bin/sh\nexit 3\n")
    monkeypatch.chdir(tmp_path)
    assert not [one for one in find_interpreters([], "bin:.") if tmp_path in one.path.parents]


def test_a_shim_that_fails_is_skipped_with_its_own_words(tmp_path: Path) -> None:
    shim = script(tmp_path / "python3", "#!/bin/sh\necho 'pyenv: not found' >&2; exit 127\n")
    assert first([shim]) == Skipped(shim, "pyenv: not found")


def test_a_shim_gives_the_interpreter_behind_it(tmp_path: Path) -> None:
    shim = script(tmp_path / "python3", f'#!/bin/sh\nexec {OURS} "$@"\n')
    found = list(find_interpreters([shim, OURS], ""))
    assert [one.path for one in found].count(OURS) == 1
    assert found[0].path == OURS


def test_a_file_that_is_no_program_is_skipped(tmp_path: Path) -> None:
    text = tmp_path / "python3"
    text.write_text("not a program")
    assert first([text]) == Skipped(text, "Permission denied")


def test_an_interpreter_that_does_not_answer_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployer.environments.interpreters._PROBE_SECONDS", 0.2)
    shim = script(tmp_path / "python3", "#!/bin/sh\nsleep 30 & wait\n")
    assert first([shim]) == Skipped(shim, "did not answer within 0.2 s")


def test_an_executable_is_asked_only_once(tmp_path: Path) -> None:
    count = tmp_path / "count"
    shim = script(tmp_path / "python3", f'#!/bin/sh\necho x >> {count}\nexec {OURS} "$@"\n')
    first([shim])
    first([shim])
    assert count.read_text() == "x\n"


def test_an_executable_that_changed_is_asked_again(tmp_path: Path) -> None:
    shim = script(tmp_path / "python3", "#!/bin/sh\nexit 3\n")
    first([shim])
    script(shim, f'#!/bin/sh\nexec {OURS} "$@"\n')
    os.utime(shim, ns=(0, 0))
    assert isinstance(first([shim]), Interpreter)


def test_a_closed_directory_above_keeps_another_user_out(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    executable = script(closed / "bin" / "python3", "")
    closed.chmod(0o700)
    tmp_path.chmod(0o755)
    blocked = unreachable_by(executable, os.getuid() + 70001)
    assert blocked is not None
    assert "is closed to uid" in blocked
    assert "(mode 0700)" in blocked


def test_a_directory_that_is_open_only_for_passing_through_keeps_nobody_out() -> None:
    assert unreachable_by(Path("/usr/bin/env"), 70001) is None


def test_a_symlink_into_a_closed_directory_keeps_another_user_out(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    script(closed / "python3", "")
    closed.chmod(0o700)
    (tmp_path / "python3").symlink_to(closed / "python3")
    assert unreachable_by(tmp_path / "python3", os.getuid() + 70001) is not None


def test_the_server_itself_reaches_what_it_found(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert unreachable_by(script(tmp_path / "python3", ""), None) is None
