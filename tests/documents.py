"""The pages that people read, as tests read them: sessions to type, files, links to follow.

A page is CommonMark. What a test must know beside the text stands in comments before a block:

    <!-- terminal: server -->   the block goes to a terminal of its own and runs until the page ends
    <!-- file: PATH -->         the block is a file of the session's directory
    <!-- not run: reason -->    nobody types this block, and why
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT: Final = Path(__file__).parent.parent
SHELLS: Final = frozenset({"console", "sh", "bash", "shell", "zsh", "shell-session"})
_MARK: Final = re.compile(r"<!-- (terminal|file|not run): (.+?) -->")
_HERE: Final = re.compile(r"<<-?\s*'?([A-Z]+)'?")
_ANCHOR: Final = re.compile(r"<a (?:id|name)=\"([^\"]+)\">")


def pages() -> list[Path]:
    """List the pages that people read; decisions, which show no commands, come with them."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    return sorted(found)


@dataclass(frozen=True, slots=True)
class Typed:
    """A command, and what the page says that it prints.

    Attributes:
        command: As it is typed, perhaps in several lines.
        expected: Lines; one that is ``...`` stands for any, ``...`` within one for any text.
        line: Where it stands in its page.
    """

    command: str
    expected: tuple[str, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        language: What the fence says; empty: nothing.
        text: What stands in it.
        line: Where it begins in its page.
        marks: What comments before it say, by their first words.
    """

    language: str
    text: str
    line: int
    marks: dict[str, str]

    @property
    def is_typed(self) -> bool:
        """Whether the test of the pages types it."""
        return self.language == "console" and "not run" not in self.marks

    def typed(self) -> list[Typed]:
        """Take a session apart.

        Raises:
            ValueError: It begins with something else than a prompt.
        """
        commands: list[tuple[list[str], list[str], int]] = []
        until: str | None = None
        goes_on = False
        for number, line in enumerate(self.text.splitlines(), self.line + 1):
            if until or goes_on:
                commands[-1][0].append(line)
                until = None if line == until else until
            elif line.startswith("$ "):
                commands.append(([line[2:]], [], number))
                if here := _HERE.search(line):
                    until = here[1]
            elif not commands:
                raise ValueError(f"line {number} is no command: {line!r}")
            else:
                commands[-1][1].append(line)
                continue
            goes_on = until is None and line.endswith("\\")
        return [Typed("\n".join(typed), tuple(said), at) for typed, said, at in commands]


class Page:
    """One page, parsed."""

    def __init__(self, path: Path) -> None:
        """Parse it."""
        self.path = path
        self.tokens: list[Token] = MarkdownIt("commonmark").enable("table").parse(path.read_text())

    @property
    def name(self) -> str:
        """Its path from the root of the repository."""
        return str(self.path.relative_to(ROOT))

    def blocks(self) -> Iterator[Block]:
        """Give its fenced blocks, with what comments right before them say."""
        marks: dict[str, str] = {}
        for token in self.tokens:
            if token.type == "html_block":
                marks |= dict(_MARK.findall(token.content))
            elif token.type == "fence":
                assert token.map
                yield Block(token.info.strip(), token.content, token.map[0] + 1, marks)
                marks = {}
            elif token.type == "paragraph_open":
                marks = {}

    def indented(self) -> list[int]:
        """Give the lines where blocks begin that nothing but spaces makes one."""
        return [each.map[0] + 1 for each in self.tokens if each.type == "code_block" and each.map]

    def anchors(self) -> set[str]:
        """Give what can stand behind ``#`` in a link to this page, as GitHub names headings."""
        found: set[str] = set()
        for place, token in enumerate(self.tokens):
            if token.type == "heading_open":
                children = self.tokens[place + 1].children or []
                words = "".join(each.content for each in children).lower()
                name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
                more = sum(1 for each in found if re.fullmatch(re.escape(name) + r"(-\d+)?", each))
                found.add(f"{name}-{more}" if more else name)
            found |= set(_ANCHOR.findall(token.content))
        return found

    def links(self) -> Iterator[str]:
        """Give the targets of its links and pictures."""
        for token in self.tokens:
            for child in token.children or []:
                target = child.attrGet("href") or child.attrGet("src")
                if target:
                    yield unquote(str(target))
