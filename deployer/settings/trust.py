"""Whose signatures the server trusts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from deployer.agent_patterns import EVERY_AGENT, AgentPattern
from deployer.quantities import Flag
from deployer.settings.sections import Section
from deployer.signatures import PublicKey

_LARGEST_KEY: Final = 4096


def _key_line(value: object) -> object:
    """Read a key that is given as a file, so that what holds later is the key and not the file."""
    if not isinstance(value, str):
        return value
    text = value
    if value.startswith(("/", "~")):
        try:
            with Path(value).expanduser().open("rb") as file:
                text = file.read(_LARGEST_KEY).decode("utf-8", "replace")
        except (OSError, RuntimeError) as error:
            why = getattr(error, "strerror", None) or error
            raise ValueError(f"cannot be read from {value!r:.200}: {why}") from error
    try:
        return PublicKey.parse(text).line
    except ValueError as error:
        raise ValueError(f"{error}, or the absolute path of a file that holds one") from error


def _with_agents(value: object) -> object:
    if not isinstance(value, list | tuple):
        return value
    return [{"key": each} if isinstance(each, str) else each for each in value]


class TrustedKey(Section):
    """A key that vouches for packages.

    Attributes:
        key: minisign's public key, one line.
        agents: Patterns of the agents for whose packages it vouches.
    """

    key: Annotated[str, BeforeValidator(_key_line)]
    agents: Annotated[tuple[AgentPattern, ...], Field(min_length=1)] = EVERY_AGENT

    @property
    def public(self) -> PublicKey:
        """The key, as signatures are verified with it."""
        return PublicKey.parse(self.key)


class TrustSettings(Section):
    """Whose packages are taken.

    Attributes:
        keys: Who vouches. Without any, signatures are not looked at.
        require: Whether a package must be signed by one of them to be deployed.
    """

    keys: Annotated[tuple[TrustedKey, ...], BeforeValidator(_with_agents)] = ()
    require: Flag = False

    @field_validator("require")
    @classmethod
    def _somebody_vouches(cls, require: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - as pydantic calls it
        if require and info.data.get("keys") == ():
            raise ValueError("must be false while trust.keys is empty: nothing could be deployed")
        return require
