"""Why an installer failed, in a few words: read from what uv or pip printed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from deployer.errors import DeployerError, InstallError, NoSpaceError, ResolutionError

EVIDENCE_LINES: Final = 50
_LONGEST_CAUSE: Final = 200


def failure_of(lines: Sequence[str], *, doing: str) -> DeployerError:
    """Understand why uv or pip failed, by what they printed.

    Args:
        lines: The output, the command first.
        doing: What it was for, to stand behind "cannot".

    Returns:
        ResolutionError for what the package's author can mend, NoSpaceError for a full disk,
        InstallError for everything else.
    """
    text = re.sub(r"\s+", " ", " ".join(lines[1:]))
    for read in (_read_machine, _read_requirements):
        if (understood := read(text)) is not None:
            kind, cause, hint = understood
            return _error(kind, doing, cause, hint, lines)
    said = [line for line in lines[1:] if line.strip()]
    cause = next(
        (line for line in said if line.lower().startswith("error")),
        (said or ["it said nothing"])[-1],
    )
    return _failed(doing, re.sub(r"^error: ", "", cause.strip(), flags=re.IGNORECASE), text, lines)


_Reading = tuple[type[DeployerError], str, str]

_ADDRESS: Final = r"(https?://[^\s`')]+)"
_FULL: Final = re.compile(r"No space left on device|Disk quota exceeded")
_TLS: Final = re.compile(r"invalid peer certificate|CERTIFICATE_VERIFY_FAILED|SSLError")
_DENIED: Final = re.compile(rf"{_ADDRESS}?\)? could not be queried due to a lack|(40[13]) Error")
_NETWORK: Final = re.compile(
    r"Failed to fetch: |error sending request|Could not fetch URL|Retry\(total=0|Max retries exceed"
    r"|Read timed out|HTTP error 5\d\d|error decoding response body|Failed to download"
)
_REASONS: Final = re.compile(
    r"Connection refused|Name or service not known|failed to lookup address|Temporary failure in"
    r" name resolution|No route to host|Network is unreachable|Connection reset|timed out"
    r"|HTTP status [^()]*\([^)]*\)|HTTP error \d+",
    re.IGNORECASE,
)
_HASHES: Final = re.compile(r"Hash mismatch for `([^`]+)`|DO NOT MATCH THE HASHES")


def _read_machine(text: str) -> _Reading | None:
    """Recognise what is the machine's or the index's fault; first, as pip calls both "no match"."""
    if _FULL.search(text):
        return NoSpaceError, "the disk is full", "free space, or inodes, below the state directory"
    if _TLS.search(text):
        return (
            InstallError,
            f"the certificate of {_host(text)} is not trusted",
            "start the server with SSL_CERT_FILE naming the right CA bundle",
        )
    if match := _DENIED.search(text):
        return (
            InstallError,
            f"the index {match[1] or ''} refuses our credentials".replace("  ", " "),
            "put user and password into index_url or extra_index_urls in the settings",
        )
    if match := _HASHES.search(text):
        return (
            InstallError,
            f"a file of {match[1] or 'a dependency'} is not the one that was locked",
            "the index has replaced it: deploy the package again with force, to resolve anew",
        )
    if _NETWORK.search(text):
        reason = _REASONS.search(text)
        return (
            InstallError,
            f"cannot reach {_host(text)}" + (f": {reason[0]}" if reason else ""),
            "check the network, the proxy variables and index_url in the settings",
        )
    return None


_NO_WHEEL_HINT: Final = (
    "this server installs wheels only: choose a version that has one for this Python, or put a "
    "wheel where find_links in the settings points"
)
_OTHER_PYTHON_HINT: Final = "set [dependencies] python in agent.toml to what it needs"


def _read_requirements(text: str) -> _Reading | None:
    """Recognise what is wrong with the requirements themselves."""
    for pattern, read in _REQUIREMENT_READINGS:
        if match := pattern.search(text):
            cause, hint = read(match, text)
            return ResolutionError, _short(cause), hint
    return None


def _needs_other_python(match: re.Match[str], text: str) -> tuple[str, str]:
    who = re.search(r"(\S+) depends on Python", text)
    cause = f"{who[1] if who else 'a dependency'} needs {match[2]}, and this is {match[1]}"
    return cause, _OTHER_PYTHON_HINT


def _needs_different_python(match: re.Match[str], text: str) -> tuple[str, str]:
    there = re.search(r"a different Python: (\S+) not in", text)
    cause = f"{match[1]} needs Python {match[2]}{f', and this is {there[1]}' if there else ''}"
    return cause, _OTHER_PYTHON_HINT


def _has_no_wheel(match: re.Match[str], text: str) -> tuple[str, str]:
    tags = re.search(r"You require ([^,(]+) \(`", text)
    return f"{match[1]} has no wheel that fits{f' {tags[1]}' if tags else ''}", _NO_WHEEL_HINT


def _is_unknown(match: re.Match[str], _: str) -> tuple[str, str]:
    return f"no package {match[1]} on the index", "check the spelling"


def _has_no_such_version(match: re.Match[str], text: str) -> tuple[str, str]:
    is_hidden = "filtered by `exclude-newer`" in text
    hint = "the setting exclude_newer hides newer ones" if is_hidden else "check the version"
    return f"no version {match[1]} on the index", hint


def _pip_found_none(match: re.Match[str], _: str) -> tuple[str, str]:
    wanted = re.sub(r" \(from .*", "", match[1])
    if match[2] == "none":
        also = "pip says the same of an unknown name, and when the index wants another login"
        return f"no wheel of {wanted} on the index", f"{_NO_WHEEL_HINT}; {also}"
    return f"no version {wanted} on the index", "check the version"


def _conflicts(_: re.Match[str], text: str) -> tuple[str, str]:
    hint = "loosen one of the versions in requirements.txt or [dependencies] packages"
    return _conflict(text), hint


_REQUIREMENT_READINGS: Final = tuple(
    (re.compile(pattern), read)
    for pattern, read in (
        (r"current Python version \(([^)]+)\) does not satisfy (Python\S+)", _needs_other_python),
        (r"(\S+) requires Python ([<>=!~][^\s,]*)", _needs_different_python),
        (
            r"Package '(\S+)' requires a different Python: \S+ not in '([^']+)'",
            _needs_different_python,
        ),
        (r"Wheels are required for `([^`]+)`", _has_no_wheel),
        (r"(\S+) (?:has|have) no (?:usable )?wheels", _has_no_wheel),
        (r"Because (\S+) was not found in", _is_unknown),
        (r"there (?:is|are) no versions? of ([^\s,]+(?:,[<>=!~][^\s,]+)*)", _has_no_such_version),
        (r"satisfies the requirement (.+?) \(from versions: (.*?)\)", _pip_found_none),
        (r"ResolutionImpossible|No solution found", _conflicts),
    )
)


def _conflict(text: str) -> str:
    if match := re.search(r"caused by: (.+?)(?: Additionally| To fix this)", text):  # pip
        return _short(f"the requirements conflict: {match[1]}")
    depends = re.search(r"((?:all versions of )?\S+ depends? on \S+)", text)
    required = re.findall(r"you require ([^\s,]+(?:,[<>=!~][^\s,]+)*)", text)
    if depends and required:
        clause = f"{depends[1].rstrip(',')}, and {required[-1]} is required"
        return _short(f"the requirements conflict: {clause}")
    story = re.search(r"Because (.+?),?(?:\. | we can conclude|$)", text)
    return _short(f"the requirements conflict: {story[1] if story else 'no solution was found'}")


def _host(text: str) -> str:
    """Name the address in question without what stands behind its host."""
    if match := re.search(r"https?://[^\s/`')]+", text):
        return match[0]
    match = re.search(r"host='([^']+)', port=(\d+)", text)
    return f"{match[1]}:{match[2]}" if match else "the index"


def _short(text: str) -> str:
    text = re.sub(r"\s+", " ", text).strip()
    return text if len(text) <= _LONGEST_CAUSE else f"{text[:_LONGEST_CAUSE]}..."


def _failed(doing: str, cause: str, text: str, lines: Sequence[str]) -> DeployerError:
    kind = NoSpaceError if _FULL.search(text) else InstallError
    return _error(kind, doing, cause, "", lines)


def _error(
    kind: type[DeployerError], doing: str, cause: str, hint: str, lines: Sequence[str]
) -> DeployerError:
    cause = _short(cause)
    return kind(
        f"cannot {doing}: {cause}", cause=cause, hint=hint, evidence=list(lines)[-EVIDENCE_LINES:]
    )
