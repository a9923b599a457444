"""What of a manifest is shown to whoever may read the agent: nothing that may be a secret."""

from __future__ import annotations

from typing import Any, Final

from deployer.manifest import Manifest

HIDDEN: Final = "[hidden]"

_OWN: Final = ("agent", "dependencies", "resources", "deployment", "health")
_ATOLLS: Final = ("llm", "mcp_servers", "sub_agents")
_OPEN_TEXTS: Final = frozenset(
    (
        *("model", "provider", "transport", "type", "name", "description", "version"),
        *("command", "url", "base_url", "endpoint", "host"),
    )
)
"""Keys whose texts are shown in ATOLL's tables. Any other text may be a secret, or hold one."""


def excerpt(manifest: Manifest) -> dict[str, Any]:
    """Give what the author wrote, as JSON's types.

    Of our own tables all keys that are known, without ``[env]``; of ATOLL's all numbers and flags,
    and texts under names that tell nothing secret (``model``, ``url``, the first word of
    ``command``). ``[hidden]`` stands for other texts, and for logins and queries of addresses.
    """
    tables = manifest.model_dump(mode="json", exclude_unset=True, exclude={"env"})
    shown: dict[str, Any] = {}
    for name, table in tables.items():
        if name in _OWN and table is not None:
            known = type(getattr(manifest, name)).model_fields
            shown[name] = {key: _public(value) for key, value in table.items() if key in known}
        elif name in _ATOLLS:
            shown[name] = _foreign(table)
    return shown


def _public(value: Any) -> Any:
    """Show a value of ours, with addresses less what may let somebody in."""
    if isinstance(value, list):
        return [_public(each) for each in value]
    return " ".join(map(_address, value.split(" "))) if isinstance(value, str) else value


def _foreign(value: Any, name: str = "") -> Any:
    """Show a value of a table whose keys are not ours to know."""
    if isinstance(value, dict):
        return {key: _foreign(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [_foreign(each) for each in value]
    if not isinstance(value, str):
        return value
    if name not in _OPEN_TEXTS or (name == "command" and "=" in value.partition(" ")[0]):
        return HIDDEN
    return _address(value.partition(" ")[0]) if name == "command" else _public(value)


def _address(word: str) -> str:
    scheme, separator, rest = word.partition("://")
    if not separator:
        return word
    login, at, place = rest.rpartition("@")
    place, query, _ = place.partition("?")
    hidden = f"{HIDDEN}@" if at and login else ""
    return f"{scheme}://{hidden}{place}{f'?{HIDDEN}' if query else ''}"
