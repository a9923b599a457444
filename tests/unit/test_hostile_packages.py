"""The corpus of hostile packages that lies beside the project, each with its expected answer."""

from __future__ import annotations

import stat
import time
from pathlib import Path
from typing import Any, Final

import pytest

from deployer.errors import PackageInvalidError
from deployer.packages import inspect, unpack
from deployer.settings import LimitSettings
from tests.hostile_packages import CORPUS, ROWS, needs_corpus

LIMITS: Final = LimitSettings()

pytestmark = needs_corpus


def rows(expected: str) -> list[Any]:
    found = [row for row in ROWS if row["expect"] == expected]
    return [pytest.param(row["file"], id=Path(row["file"]).stem) for row in found] or [""]


@pytest.mark.parametrize("file", rows("reject"))
def test_a_hostile_package_is_refused_in_words_and_leaves_nothing(
    file: str, tmp_path: Path
) -> None:
    target = tmp_path / "code"
    began = time.process_time()

    with pytest.raises(PackageInvalidError) as caught:
        inspect(CORPUS / file, LIMITS, has_runtime=False)

    assert time.process_time() - began < 2
    assert caught.value.problems
    assert str(caught.value).startswith("cannot take the package: ")
    assert str(caught.value).isprintable()
    if file.startswith(("zip-", "upload-")):
        with pytest.raises(PackageInvalidError):
            unpack(CORPUS / file, target, LIMITS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", rows("accept"))
def test_an_odd_but_honest_package_is_taken(file: str, tmp_path: Path) -> None:
    target = tmp_path / "code"
    began = time.process_time()

    inspected = inspect(CORPUS / file, LIMITS, has_runtime=False)
    unpack(CORPUS / file, target, LIMITS)

    assert time.process_time() - began < 2
    found = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert found == set(inspected.files)
    assert {"agent.toml", "main.py"} <= found
    modes = {stat.S_IMODE(path.lstat().st_mode) for path in target.rglob("*") if path.is_file()}
    assert modes <= {0o644, 0o755}
    assert list(tmp_path.iterdir()) == [target]


def test_an_executable_script_stays_executable(tmp_path: Path) -> None:
    unpack(CORPUS / "valid-exec-bits.zip", tmp_path / "code", LIMITS)

    assert stat.S_IMODE((tmp_path / "code" / "bin" / "tool.sh").stat().st_mode) == 0o755


def test_values_of_variables_arrive_unchanged() -> None:
    inspected = inspect(CORPUS / "toml-env-quotes-percent.zip", LIMITS, has_runtime=False)

    assert inspected.manifest.env == {
        "A": "50%",
        "B": "%(here)s",
        "C": 'say "hi", it\'s',
        "D": "a,b=c;d #e",
        "E": "${HOME}",
        "F": "grün",
    }
