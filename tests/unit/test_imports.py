"""What a process that is there for years keeps in memory, though it may never need it."""

from __future__ import annotations

import subprocess
import sys

import pytest

SELDOM = {"cryptography"}


@pytest.mark.parametrize("module", ["deployer.server"])
def test_it_imports_nothing_that_is_large_and_seldom_needed(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    argv = [sys.executable, "-c", code]
    imported = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()

    assert not SELDOM & set(imported)
