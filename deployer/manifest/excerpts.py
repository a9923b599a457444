"""What of a manifest is shown to whoever may read the agent: nothing that looks like a secret."""

from __future__ import annotations

import re
from typing import Any, Final

from deployer.manifest import Manifest

HIDDEN: Final = "[hidden]"

_SECRET_NAME: Final = re.compile(
    r"(?:^|[^a-z])(?:env|headers)$|keys?$|tokens?$|secret|passw|credential|authorization",
    re.IGNORECASE,
)
_OPTION: Final = re.compile(r"--?(?P<name>[\w-]+)(?P<value>=.*)?", re.DOTALL)
_LOGIN: Final = re.compile(r"(?<=://)[^/@\s]+@")


def excerpt(manifest: Manifest) -> dict[str, Any]:
    """Give what the author wrote in the tables that are known, as JSON's types.

    Left out are ``[env]`` and tables that are not known; ``[hidden]`` stands for values below
    ``env`` and ``headers``, values whose name is that of a secret (``api_key``, ``password``), what
    follows such an option in a list of arguments, and logins in addresses.
    """
    tables = manifest.model_dump(mode="json", exclude_unset=True, exclude={"env"})
    return {name: _shown(table) for name, table in tables.items() if name in Manifest.model_fields}


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _hidden(each) if _is_secret(name) else _shown(each)
            for name, each in value.items()
        }
    if isinstance(value, list):
        return _shown_arguments(value)
    return _LOGIN.sub(f"{HIDDEN}@", value) if isinstance(value, str) else value


def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _hidden(value: Any) -> Any:
    """Hide every text, also those deeper down; the names below stay."""
    if isinstance(value, dict):
        return {name: _hidden(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_hidden(each) for each in value]
    return HIDDEN if isinstance(value, str) else value


def _shown_arguments(values: list[Any]) -> list[Any]:
    shown, is_secret = [], False
    for value in values:
        option = _OPTION.fullmatch(value) if isinstance(value, str) else None
        names_secret = option is not None and _is_secret(option["name"])
        if names_secret and option is not None and option["value"]:
            shown.append(value.removesuffix(option["value"]) + f"={HIDDEN}")
        else:
            shown.append(HIDDEN if is_secret and option is None else _shown(value))
        is_secret = names_secret and option is not None and not option["value"]
    return shown
