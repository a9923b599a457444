"""No package of the corpus costs the server more than it may, wherever the work is hidden."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.hostile_packages import CORPUS, needs_corpus

SOURCE: Final = Path(__file__).parents[2]

pytestmark = needs_corpus


@pytest.fixture(scope="module")
def costs() -> dict[str, tuple[float, int]]:
    files = sorted(CORPUS.glob("*.zip"))
    measured: dict[str, tuple[float, int]] = json.loads(
        subprocess.run(
            [sys.executable, "-m", "tests.package_costs", *map(str, files)],
            cwd=SOURCE,
            check=True,
            capture_output=True,
            timeout=170,
        ).stdout
    )
    assert len(measured) == len(files) > 100
    return measured


def test_no_hostile_package_takes_two_seconds_of_cpu(costs: dict[str, tuple[float, int]]) -> None:
    assert {Path(name).name: cpu for name, (cpu, _) in costs.items() if cpu >= 2} == {}


def test_no_hostile_package_takes_200_mb_of_memory(costs: dict[str, tuple[float, int]]) -> None:
    assert {Path(name).name: used for name, (_, used) in costs.items() if used >= 200e6} == {}
