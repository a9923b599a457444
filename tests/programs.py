"""Programs of this machine that some tests need: nginx, minisign, Chromium and the like."""

from __future__ import annotations

import os
import shutil
from typing import Final

import pytest

MUST_RUN: Final = "ATOLL_TESTS_MUST_RUN"
"""While this variable says so, what cannot be tested here fails, and nobody takes it for tested."""


def needed(program: str) -> str:
    """Find a program, or skip the test, or fail it where tests must run."""
    found = shutil.which(program)
    if found is not None:
        return found
    if os.environ.get(MUST_RUN, "0") not in {"", "0"}:
        pytest.fail(f"no {program} here, and {MUST_RUN} is set", pytrace=False)
    pytest.skip(f"no {program} here")
