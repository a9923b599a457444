"""What of a working directory belongs into no package: by rule, and by the author's ignore files.

`.gitignore` and `.atollignore` are read with git's own rules, in every folder: a line holds for the
folder that its file lies in and all below, the last line that matches decides, and what lies in a
folder that is left out cannot be taken back. `.atollignore` comes after `.gitignore`, so it may add
to that (`tests/`) or take back (`!model.bin`, which git is not to keep and the agent needs).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pathspec import GitIgnoreSpec

from deployer.errors import PackageInvalidError

IGNORE_FILES: Final = (".gitignore", ".atollignore")

ALWAYS: Final = GitIgnoreSpec.from_lines(
    [
        *(".git", ".hg/", ".svn/", ".gitignore", ".gitattributes", ".atollignore"),
        *(".venv", "venv", "__pycache__/", "*.py[co]", "*.egg-info/", "node_modules/"),
        *(".mypy_cache/", ".ruff_cache/", ".pytest_cache/", ".hypothesis/", ".tox/", ".nox/"),
        *(".idea/", ".vscode/", ".ipynb_checkpoints/", ".DS_Store", "*.minisig"),
    ]
)
"""What no ignore file takes back."""


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """What the ignore files of one folder say.

    Attributes:
        folder: Where they lie; its rules hold for what lies below.
        spec: Their lines, those of the later file last.
    """

    folder: Path
    spec: GitIgnoreSpec

    def decide(self, path: Path, *, is_folder: bool) -> bool | None:
        """Say whether a path below the folder is left out; None: nothing is said about it."""
        name = path.relative_to(self.folder).as_posix()
        return self.spec.check_file(f"{name}/" if is_folder else name).include


def is_left_out(path: Path, rules: tuple[IgnoreRules, ...], *, is_folder: bool) -> bool:
    """Say whether a file or folder is left out.

    Args:
        path: Of the file or folder; those that it lies in are not left out.
        rules: Of the folders that it lies in, the innermost last: that one is asked first.
        is_folder: Which of the two it is; a link is none.
    """
    if ALWAYS.check_file(f"{path.name}/" if is_folder else path.name).include:
        return True
    for each in reversed(rules):
        decision = each.decide(path, is_folder=is_folder)
        if decision is not None:
            return decision
    return False


def rules_of(folder: Path) -> tuple[IgnoreRules, ...]:
    """Read the ignore files that lie in a folder; none may be there.

    Raises:
        PackageInvalidError: One cannot be read, or holds a line that is no pattern.
    """
    lines: list[str] = []
    for name in IGNORE_FILES:
        file = folder / name
        try:
            lines += file.read_text(encoding="utf-8-sig").splitlines()
        except (FileNotFoundError, IsADirectoryError):
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(file, getattr(error, "strerror", None) or "not UTF-8") from error
    try:
        spec = GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise _unreadable(folder / IGNORE_FILES[0], str(error)) from error
    return (IgnoreRules(folder, spec),) if spec.patterns else ()


def rules_above(directory: Path) -> tuple[IgnoreRules, ...]:
    """Read what the repository that a directory lies in says about it, the outermost first.

    One `.gitignore` at the top of a repository speaks for all agents that lie in it. A directory
    that it leaves out as a whole was meant nevertheless: it is what is packed.
    """
    above = list(directory.parents)
    tops = [each for each in (directory, *above) if (each / ".git").exists()]
    if not tops or tops[0] == directory:
        return ()
    folders = above[: above.index(tops[0]) + 1][::-1]
    rules = tuple(rule for folder in folders for rule in rules_of(folder))
    for folder in [each for each in (*folders, directory) if each != tops[0]]:
        known = tuple(rule for rule in rules if rule.folder in folder.parents)
        if is_left_out(folder, known, is_folder=True):
            return ()
    return rules


def _unreadable(file: Path, why: str) -> PackageInvalidError:
    return PackageInvalidError(
        f"cannot read {file}: {why.lower()}",
        cause=why.lower(),
        hint="it says what is left out of the package, so nothing is packed without it",
    )
