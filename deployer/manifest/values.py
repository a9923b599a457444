"""What single values of a manifest may be, with a sentence for each that may not."""

from __future__ import annotations

import re
from typing import Annotated, Final

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import AfterValidator

from deployer.file_names import is_windows_device
from deployer.model import AGENT_NAME
from deployer.quantities import Whole
from deployer.secret_references import check_references

_RESERVED_NAMES: Final = frozenset(
    # Words of our routes (`/agents/deploy`), of supervisorctl (`start all`) and of directories.
    {
        *("agents", "all", "api", "check", "deploy", "diagnostics", "docs", "health", "kill"),
        *("livez", "login", "metrics", "openapi.json", "quarantine", "readyz", "restart", "start"),
        *("status", "stop", "supervisor", "supervisord", "v1"),
    }
)
_LIKE_A_PROGRAM: Final = re.compile(r".*--[0-9]*")
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,63}")
_SCRIPT: Final = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*/)*[A-Za-z0-9_][A-Za-z0-9_.-]*\.py")
_MODULE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_BARE_PYTHON: Final = re.compile(r"[0-9]+(?:\.[0-9]+){0,2}")
_HEALTH_PATH: Final = re.compile(r"(?:/[!-~]{0,1023})?")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED_VARIABLES: Final = re.compile(
    r"PORT|HOST|HOME|TMPDIR"
    r"|ATOLL_AGENT_.*|ATOLL_DEPLOYER_.*"
    # They load code into the process before the agent's own, or cut it off from its environment;
    # PYTHONPATH, PYTHONUNBUFFERED and the like stay the author's business.
    r"|LD_.*|PYTHONHOME|PYTHONEXECUTABLE|PYTHONPLATLIBDIR|__PYVENV_LAUNCHER__"
)


def _agent_name(name: str) -> str:
    if not AGENT_NAME.fullmatch(name):
        raise ValueError(
            "must begin with a letter or digit and have 1 to 63 letters, digits, "
            f"'.', '_' or '-', not {name!r:.80}"
        )
    if name.lower() in _RESERVED_NAMES or is_windows_device(name):
        raise ValueError(f"must not be {name!r}: the word is reserved")
    if name.endswith("."):
        raise ValueError(f"must not end with a dot, as {name!r} does")
    if _LIKE_A_PROGRAM.fullmatch(name):
        raise ValueError(
            f"must not end with '--' and digits, as {name!r} does: releases are named like that"
        )
    return name


def _version(version: str) -> str:
    if version and not _VERSION.fullmatch(version):
        raise ValueError(
            "must be up to 64 letters, digits, '.', '_', '+', '!' or '-', such as '1.2.0', "
            f"not {version!r:.80}"
        )
    return version


def _entrypoint(text: str) -> str:
    path = text.removeprefix("./")
    if len(path) > 255 or not (_SCRIPT.fullmatch(path) or _MODULE.fullmatch(path)):  # noqa: PLR2004  # what a file name may have
        raise ValueError(
            "must be a Python file of the package such as 'main.py', or a module such as "
            f"'my_agent.server', not {text!r:.80}"
        )
    return path


def _python(text: str) -> str:
    wanted = f"=={text}.*" if _BARE_PYTHON.fullmatch(text) else text
    try:
        return str(SpecifierSet(wanted))
    except InvalidSpecifier as error:
        raise ValueError(
            f"must be versions such as '>=3.9,<3.14' or '3.11', not {text!r:.80}"
        ) from error


def _port(port: int) -> int:
    if port and not 1024 <= port <= 65535:  # noqa: PLR2004  # RFC 6335: below are system ports
        raise ValueError(f"must be 0 (any) or from 1024 to 65535, not {port!s:.20}")
    return port


def _health_path(path: str) -> str:
    if not _HEALTH_PATH.fullmatch(path):
        raise ValueError(
            f"must be an HTTP path such as '/health', or '' to ask the port alone, not {path!r:.80}"
        )
    return path


def _variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise ValueError("is no name of a variable: letters, digits and '_', no digit first")
    if _RESERVED_VARIABLES.fullmatch(name):
        raise ValueError("is set by the server and cannot be chosen")
    return name


def _value(text: str) -> str:
    if any(character in text for character in "\0\r\n"):
        raise ValueError("must not hold a line break or NUL")
    check_references(text)
    return text


AgentName = Annotated[str, AfterValidator(_agent_name)]
"""A name that can be a path, a program and a part of an address, and collides with none of ours."""

Version = Annotated[str, AfterValidator(_version)]
"""One plain word, or nothing: the author's, never compared."""

Entrypoint = Annotated[str, AfterValidator(_entrypoint)]
"""A relative path that ends with ``.py``, or the dotted name of a module."""

PythonVersions = Annotated[str, AfterValidator(_python)]
"""A version specifier of PEP 440; ``3.11`` is read as ``==3.11.*``."""

WantedPort = Annotated[Whole, AfterValidator(_port)]
"""A TCP port that needs no privilege; 0: any."""

HealthPath = Annotated[str, AfterValidator(_health_path)]
"""An HTTP path with its query, or nothing."""

VariableName = Annotated[str, AfterValidator(_variable)]
"""A name of a variable that the server does not set itself."""

VariableValue = Annotated[str, AfterValidator(_value)]
"""Text on one line, perhaps with references to secrets."""
