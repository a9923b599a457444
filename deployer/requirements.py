"""Dependencies as authors write them, reduced to plain requirements.

pip and uv read options, files, addresses and variables of the server out of a requirements file.
So an author's file is never given to either: each line is parsed here, and what is installed is
written anew from the result.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from packaging import requirements as pep508
from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version

from deployer.errors import Problem, RequirementsInvalidError
from deployer.index_urls import is_below

REQUIREMENTS_NAME: Final = "requirements.txt"
LARGEST_FILE: Final = 64 * 1024
"""Bytes. With hashes of three wheels each, that is room for 200 requirements."""

MOST_REQUIREMENTS: Final = 500
_MOST_PROBLEMS: Final = 50
_LONGEST_SHOWN: Final = 80

_ODD_BREAK: Final = re.compile(r"\r(?!\n)|[\x00\v\f\x1c-\x1e\x85\u2028\u2029]")
_COMMENT: Final = re.compile(r"(?:^|(?<=\s))#.*$")
_CODING: Final = re.compile(r"\s*#.*?coding[:=]\s*([-\w.]+)")  # PEP 263, as pip reads it
_HASH: Final = re.compile(r"\s--hash(?:=|\s+)(\S+)\s*$")
_SHA256: Final = re.compile(r"sha256:[0-9a-f]{64}")
_ARCHIVE: Final = re.compile(r"\.(?:whl|zip|egg|tgz|tar(?:\.\w+)?)$", re.IGNORECASE)
_DIRECT: Final = re.compile(
    r"[\w.\[\], -]*[\w.\]-]\s*@\s*(https://[^\s;#@?\\]+)\s*(?:\s;.*)?", re.ASCII
)
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|.*\s@\s|[\w.\[\],-]+@")


@dataclass(frozen=True, slots=True)
class Rules:
    """What is asked of requirements beyond being plain.

    Attributes:
        require_hashes: Each must have one.
        allow_direct_urls: An archive may be named by its https address.
        allowed_indexes: What such an address must lie below; none: anywhere.
    """

    require_hashes: bool = False
    allow_direct_urls: bool = False
    allowed_indexes: tuple[str, ...] = ()


PLAIN: Final = Rules()
"""The rules of a server whose settings say nothing."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One dependency.

    Attributes:
        name: In PyPI's normal form, such as ``my-package``.
        text: The requirement in one canonical line of PEP 508, without hashes.
        hashes: ``sha256:`` and 64 hex digits each, sorted; empty when the author gave none.
    """

    name: str
    text: str
    hashes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Give the line that an installer reads."""
        return " ".join((self.text, *(f"--hash={value}" for value in self.hashes)))


def parse_requirements(
    text: bytes | str, filename: str = REQUIREMENTS_NAME, *, rules: Rules = PLAIN
) -> tuple[Requirement, ...]:
    """Read a requirements file that holds plain requirements, and nothing else.

    Comments, blank lines, continued lines, markers, extras and ``--hash=sha256:...`` are taken.

    Args:
        text: The file; as bytes, UTF-8 with or without a byte order mark.
        filename: Named in every problem.
        rules: What else is asked of each.

    Returns:
        The requirements in the file's order.

    Raises:
        RequirementsInvalidError: A line is anything else; every such line is listed.
    """
    found: list[Requirement] = []
    problems: list[Problem] = []
    try:
        for number, line in _logical_lines(_decoded(text), filename, problems):
            try:
                found.append(parse_requirement(line, rules))
            except ValueError as error:
                problems.append(Problem(f"{filename}:{number}", str(error)))
        if len(found) > MOST_REQUIREMENTS:
            raise ValueError(  # noqa: TRY301  # the same problem as of a file too large
                f"must hold at most {MOST_REQUIREMENTS} requirements, not {len(found)}"
            )
    except ValueError as error:
        problems.append(Problem(filename, str(error)))
    if problems:
        raise _refused(problems, filename)
    return tuple(found)


def parse_requirement(line: str, rules: Rules = PLAIN) -> Requirement:
    """Read one plain requirement, as in ``[dependencies] packages``.

    Args:
        line: Without a line break.
        rules: What else is asked of it.

    Raises:
        ValueError: It is anything else; the message fits behind the name of the place.
    """
    rest, hashes = line.strip(), []
    while match := _HASH.search(rest):
        if not _SHA256.fullmatch(match[1].lower()):
            raise ValueError(f"takes sha256 hashes of 64 hex digits only, not {_shown(match[1])}")
        hashes.append(match[1].lower())
        rest = rest[: match.start()]
    direct = _DIRECT.fullmatch(rest) if rules.allow_direct_urls else None
    if (
        direct is not None
        and rules.allowed_indexes
        and not is_below(direct[1], rules.allowed_indexes)
    ):
        raise ValueError(f"names an address that install.allowed_indexes does not: {_shown(rest)}")
    if direct is None and (reason := _foreign(rest)):
        raise ValueError(f"{reason}: {_shown(rest)}")
    if rules.require_hashes and not hashes:
        raise ValueError(f"must have a --hash=sha256:..., as this server asks: {_shown(rest)}")
    try:
        parsed = pep508.Requirement(rest)
        # The parser lets names such as '0_' through, which nothing else takes.
        name = canonicalize_name(parsed.name, validate=True)
        extras = sorted({canonicalize_name(extra, validate=True) for extra in parsed.extras})
    except (pep508.InvalidRequirement, InvalidName, RecursionError) as error:
        raise ValueError(f"is not a requirement such as 'requests>=2': {_shown(rest)}") from error
    url = parsed.url if direct is not None and parsed.url == direct[1] else None
    if parsed.url != url or "$" in rest or _ARCHIVE.search(parsed.name):
        raise ValueError(f"must be a name and versions, not a file or address: {_shown(rest)}")
    for specifier in parsed.specifier:
        # `===` compares text, so packaging lets anything stand behind it.
        if specifier.operator == "===" and not _is_version(specifier.version):
            raise ValueError(f"names no version: {_shown(rest)}")
    bracketed = f"[{','.join(extras)}]" if extras else ""
    marker = f" ; {parsed.marker}" if parsed.marker else ""
    wanted = f" @ {url}" if url is not None else parsed.specifier
    text = f"{name}{bracketed}{wanted}{marker}"
    return Requirement(name, text, tuple(sorted(set(hashes))))


def normalise(requirements: Iterable[Requirement]) -> tuple[str, ...]:
    """Write requirements as sorted lines, each once.

    Two packages that want the same give the same lines, whatever order and spelling their authors
    chose; that is what makes a lock fit for both.
    """
    return tuple(sorted({str(requirement) for requirement in requirements}))


def require_allowed(lines: Iterable[str], rules: Rules) -> None:
    """Judge requirements again that were taken before, perhaps under other settings.

    Raises:
        RequirementsInvalidError: Some would not be taken any more; every one is listed.
    """
    problems = []
    for line in lines:
        try:
            parse_requirement(line, rules)
        except ValueError as error:
            problems.append(Problem(REQUIREMENTS_NAME, str(error)))
    if problems:
        raise _refused(problems, REQUIREMENTS_NAME)


def _decoded(text: bytes | str) -> str:
    data = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    if len(data) > LARGEST_FILE:
        raise ValueError(f"must have at most {LARGEST_FILE} bytes, not {len(data)}")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("is UTF-16 or UTF-32: save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8: byte {error.start} cannot be read") from error


def _logical_lines(text: str, filename: str, problems: list[Problem]) -> Iterator[tuple[int, str]]:
    """Join continued lines and drop comments; give each line with the number where it begins."""
    begun, held = 0, ""
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.removesuffix("\r")
        where = f"{filename}:{number}"
        if odd := _ODD_BREAK.search(line):
            # Here the readers differ on what is a line: one man's comment is the other's option.
            problems.append(Problem(where, f"holds the control character U+{ord(odd[0]):04X}"))
            continue
        coding = _CODING.match(line) if number <= 2 else None  # noqa: PLR2004  # PEP 263's two
        if coding and coding[1].lower() not in {"utf-8", "utf8"}:
            problems.append(Problem(where, f"declares the encoding {coding[1]}: save it as UTF-8"))
        code = _COMMENT.sub("", line)
        stripped = code if code == line else code.rstrip()
        if stripped != line and line.endswith("\\"):
            problems.append(Problem(where, "ends a comment with a backslash: readers differ on it"))
        begun = begun or number
        if stripped.endswith("\\"):
            held += stripped[:-1]
            continue
        if whole := (held + stripped).strip():
            yield begun, whole
        begun, held = 0, ""
    if held.strip():
        yield begun, held.strip()


def _foreign(line: str) -> str:
    """Say what a line is that is no requirement at all; empty when it may be one."""
    if line.startswith("-"):
        return "must be a requirement; options are the server's settings"
    if "$" in line:
        return "must not hold '$': variables are not put in"
    if line.startswith((".", "/", "~")) or "\\" in line or _ARCHIVE.search(line):
        return "must be a name and versions, not a file"
    if _ADDRESS.match(line.partition(";")[0]):
        return "must be a name and versions, not an address"
    if any(ord(character) < ord(" ") and character != "\t" for character in line):
        return "must not hold control characters"
    return ""


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}...")


def _refused(problems: list[Problem], filename: str) -> RequirementsInvalidError:
    listed = problems[:_MOST_PROBLEMS]
    if len(problems) > len(listed):
        listed.append(Problem(filename, f"has {len(problems) - len(listed)} more such lines"))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return RequirementsInvalidError(
        f"cannot use the requirements: {problems[0]}{more}",
        cause=str(problems[0]),
        hint="each line must be a plain requirement such as 'requests>=2,<3'",
        problems=listed,
    )
