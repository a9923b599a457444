"""What README and SECURITY promise is proven by tests that are there, under the names they give."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "SECURITY.md", *map(str, sorted((ROOT / "docs").rglob("*.md"))))
NAMED = re.compile(r"\b((?:tests/\w+/)?test_\w+\.py)(?:::(\w+))?")
PROMISE = re.compile(r"^\| (?P<promise>[^|]+) \| (?P<proof>`[^|]+`) \|$", re.MULTILINE)


@pytest.mark.parametrize("name", DOCUMENTS, ids=lambda name: Path(name).name)
def test_every_test_that_a_document_names_is_there(name: str) -> None:
    for path, test in NAMED.findall((ROOT / name).read_text()):
        found = [ROOT / path] if "/" in path else list((ROOT / "tests").glob(f"*/{path}"))
        assert any(file.is_file() for file in found), f"{name} names {path}"
        if test:
            defined = re.compile(rf"^(?:def |class )?{test}\b", re.MULTILINE)
            assert defined.search(found[0].read_text()), f"{name} names {path}::{test}"


def test_every_promise_of_the_readme_names_the_test_that_proves_it() -> None:
    section = (ROOT / "README.md").read_text().partition("| promise | proven by |\n")[2]
    promises = PROMISE.findall(section.partition("\n\n")[0])

    assert len(promises) > 20
    for promise, proof in promises:
        named = NAMED.findall(proof)
        assert all(test for _, test in named), promise
        assert named or "make bench" in proof, promise
