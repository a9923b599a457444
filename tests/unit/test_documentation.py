"""What the pages say beside their commands: links, marks, generated parts, examples of files."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import json5
import pytest

from deployer.manifest import parse_manifest
from deployer.settings import load_settings
from tests.documents import ROOT, SHELLS, Page, pages

PAGES = list(map(Page, pages()))
by_name = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@by_name
def test_links_lead_somewhere(page: Page) -> None:
    lost = []
    for link in page.links():
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.path.parent / path if path else page.path
        if not target.exists() or (anchor and anchor not in Page(target).anchors()):
            lost.append(link)
    assert not lost


@by_name
def test_every_command_is_typed_by_a_test_or_says_why_not(page: Page) -> None:
    silent = [
        block.line
        for block in page.blocks()
        if block.language in SHELLS and not block.is_typed and "not run" not in block.marks
    ]
    bare = [
        block.line
        for block in page.blocks()
        if not block.language or (block.language == "text" and "\n$ " in f"\n{block.text}")
    ]
    assert not silent
    assert not bare, "blocks without a language escape the tests"
    assert not page.indented(), "and so do those that only spaces make"


@by_name
def test_sessions_begin_with_a_command(page: Page) -> None:
    for block in page.blocks():
        if block.language == "console":
            assert block.typed()


@by_name
def test_manifests_that_are_shown_are_good(page: Page) -> None:
    for block in page.blocks():
        if block.language == "toml":
            parse_manifest(block.text.encode())


@by_name
def test_settings_that_are_shown_are_good(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    for block in page.blocks():
        if block.language == "json" and "broken" not in block.marks.get("file", ""):
            assert isinstance(json5.loads(block.text), dict)
            file.write_text(block.text)
            load_settings(file, {}, {})


@by_name
def test_routes_that_are_named_exist(page: Page) -> None:
    paths = json.loads((ROOT / "docs" / "openapi.json").read_text())["paths"]
    known = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    known |= {("HEAD", path) for method, path in known if method == "GET"}
    named = set()
    for token in page.tokens:
        for child in token.children or []:
            if child.type == "code_inline":
                named |= set(re.findall(r"^(GET|POST|PUT|DELETE|HEAD) (/[^\s?]*)", child.content))
    if page.path.parent.name != "adr" and page.name != "CHANGELOG.md":
        assert not named - known


def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["reference"] = module
    spec.loader.exec_module(module)
    return module


def test_generated_parts_are_current() -> None:
    module = reference()
    stale = []
    for name in module.PARTS:
        page, text, wanted = module.written(name)
        if text != wanted:
            stale.append(page.name)
    assert not stale, "type `make docs`"


def test_every_field_is_described() -> None:
    text = "".join((ROOT / "docs" / name).read_text() for name in ("agents.md", "settings.md"))
    assert not re.findall(r"^\| `.*\|\s*\|$", text, re.MULTILINE)
