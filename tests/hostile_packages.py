"""Hostile packages, each with the answer that it must get: a corpus that is no part of the project.

It lies beside the project, or where a variable says; tests of it are skipped where it is not to be
had. Where the variable is set it must be there.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import pytest

VARIABLE: Final = "ATOLL_HOSTILE_PACKAGES"
_BESIDE: Final = Path(__file__).parents[2] / "shared" / "hostile_packages"

CORPUS: Final = Path(os.environ.get(VARIABLE) or _BESIDE).resolve()
ROWS: Final[list[dict[str, Any]]] = (
    json.loads((CORPUS / "manifest.json").read_text())
    if os.environ.get(VARIABLE) or CORPUS.is_dir()
    else []
)

needs_corpus: Final = pytest.mark.skipif(
    not ROWS, reason=f"no hostile_packages beside the project, and {VARIABLE} names no other place"
)
