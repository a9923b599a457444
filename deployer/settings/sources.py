"""Where settings come from: a file, variables, the command line; each value with its place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tomli

from deployer.complaints import dotted, unknown_key
from deployer.errors import Problem

Key = tuple[str, ...]
"""A setting's path: ``("api_port",)`` or ``("limits", "upload_bytes")``."""

PREFIX: Final = "ATOLL_DEPLOYER_"
"""Variables that begin so are settings, ``ATOLL_DEPLOYER_LIMITS_UPLOAD_BYTES`` for example."""

OTHER_VARIABLES: Final = frozenset(
    PREFIX + word for word in ("SERVER", "URL", "TOKEN", "CONFIG", "TIMEOUT", "STATE")
)
"""Variables of the command line client, and the mark that agents carry: no settings."""

WRAPPER: Final = "deployment_server"
"""The table of ATOLL's configuration file that is ours."""

ALIASES: Final[Mapping[str, Key]] = {
    "base_port": ("agent_base_port",),
    "restart_on_failure": ("defaults", "auto_restart"),
    "max_restarts": ("defaults", "max_restarts"),
    "health_check_interval": ("defaults", "health_check_interval"),
}
"""ATOLL's spellings, in the file only."""

PATHS: Final = frozenset(
    {
        ("state_dir",),
        ("cache_dir",),
        ("find_links",),
        ("python", "search"),
        ("scan", "osv_archive"),
        ("supervisor", "conf_d"),
    }
)
"""Keys whose relative paths in a file are meant from that file's directory."""

_LARGEST_FILE: Final = 1024**2


@dataclass(frozen=True, slots=True)
class Given:
    """A value that somebody gave to a setting.

    Attributes:
        key: The setting.
        value: As it was found; nothing is known of its type.
        where: The place, in words that lead there.
    """

    key: Key
    value: object
    where: str


class Sources:
    """Collects values, lowest rank first, and what is wrong with where they stand."""

    def __init__(self, known: Mapping[Key, Any]) -> None:
        """Begin with nothing.

        Args:
            known: Every setting with its type annotation.
        """
        self._known = known
        self._names = [".".join(key) for key in known]
        self._given: dict[Key, Given] = {}
        self.problems: list[Problem] = []

    def add_file(self, path: Path) -> None:
        """Take a configuration file, JSON5 or TOML by its suffix."""
        document = self._read(path)
        if WRAPPER in document:
            # Other tables there are ATOLL's own, and may be called what they like.
            agents = document.get("agents")
            table = document[WRAPPER]
            if not isinstance(table, dict):
                self._complain(f"{path}: {WRAPPER}", "must be a table")
                return
            document = ({"agents": agents} if agents is not None else {}) | table
        seen: dict[Key, str] = {}
        for key, spelling, value in self._flatten(document, path):
            where = f"{path}: {spelling}"
            if key in seen:
                self._complain(where, f"means the same as {seen[key]!r}: keep one of them")
            seen[key] = spelling
            if key in PATHS:
                value = _anchored(value, path.parent)  # noqa: PLW2901  # the same value, spelled out
            self._take(Given(key, value, where))

    def add_variables(self, environ: Mapping[str, str]) -> None:
        """Take the variables that begin with `PREFIX`."""
        by_name = {PREFIX + "_".join(key).upper(): key for key in self._known}
        for name, text in sorted(environ.items()):
            if not name.startswith(PREFIX) or name in OTHER_VARIABLES:
                continue
            if name not in by_name:
                self._complain(name, unknown_key(name, by_name))
                continue
            key = by_name[name]
            self._take(Given(key, _from_text(text, self._known[key]), name))

    def add_options(self, options: Mapping[str, object]) -> None:
        """Take what the command line says: dotted keys; None means that it says nothing."""
        for name, value in options.items():
            key = tuple(name.split("."))
            if value is None:
                continue
            where = "--" + "-".join(key).replace("_", "-")
            if key not in self._known:
                self._complain(where, unknown_key(name, self._names))
                continue
            typed = _from_text(value, self._known[key]) if isinstance(value, str) else value
            self._take(Given(key, typed, where))

    def document(self) -> dict[str, Any]:
        """Give what holds in the end, nested as the settings are."""
        nested: dict[str, Any] = {}
        for key, given in self._given.items():
            table = nested
            for part in key[:-1]:
                table = table.setdefault(part, {})
            table[key[-1]] = given.value
        return nested

    def where(self, location: tuple[str | int, ...]) -> str:
        """Name the place that a value came from, for a location in `document`."""
        for length in range(len(location), 0, -1):
            key = tuple(str(part) for part in location[:length])
            if key in self._given:
                return self._given[key].where + dotted(("", *location[length:])).removesuffix(".")
        return dotted(location)

    def _take(self, given: Given) -> None:
        self._given[given.key] = given

    def _complain(self, where: str, message: str) -> None:
        self.problems.append(Problem(where, message))

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            with path.open("rb") as file:
                data = file.read(_LARGEST_FILE + 1)
            if len(data) > _LARGEST_FILE:
                self._complain(str(path), f"must have at most {_LARGEST_FILE} bytes")
                return {}
            text = data.decode("utf-8-sig")
            if path.suffix == ".toml":
                document: object = tomli.loads(text)
            else:
                import json5  # noqa: PLC0415 - of ATOLL's; our own settings are TOML

                document = json5.loads(text, allow_duplicate_keys=False)
        except OSError as error:
            self._complain(str(path), f"cannot be read: {error.strerror or error}")
        except RecursionError:
            self._complain(str(path), "is nested too deeply")
        except ValueError as error:  # of json5, of tomli, of UTF-8
            language = "TOML" if path.suffix == ".toml" else "JSON"
            self._complain(str(path), f"is not {language}: {error}")
        else:
            if isinstance(document, dict):
                return document
            self._complain(str(path), "must hold a table of settings")
        return {}

    def _flatten(
        self, document: Mapping[str, object], path: Path
    ) -> Iterable[tuple[Key, str, object]]:
        sections = {key[0] for key in self._known if len(key) > 1}
        for name, value in document.items():
            if name not in sections:
                yield from self._known_key(ALIASES.get(name, (name,)), name, value, path)
            elif isinstance(value, dict):
                for inner, inner_value in value.items():
                    spelling = f"{name}.{inner}"
                    yield from self._known_key((name, inner), spelling, inner_value, path)
            else:
                self._complain(f"{path}: {name}", "must be a table")

    def _known_key(
        self, key: Key, spelling: str, value: object, path: Path
    ) -> Iterable[tuple[Key, str, object]]:
        if key in self._known:
            yield key, spelling, value
        else:
            message = unknown_key(spelling, [*self._names, *ALIASES])
            self._complain(f"{path}: {dotted((spelling,))}", message)


def _anchored(value: object, directory: Path) -> object:
    if isinstance(value, list):
        return [_anchored(item, directory) for item in value]
    if not isinstance(value, str) or "://" in value or value.startswith("~"):
        return value
    return str(directory / value)


def _from_text(text: str, annotation: object) -> object:
    """Read a value that can only be text where it comes from, as its setting's type wants it."""
    wanted = str(annotation)
    if "tuple[" in wanted:
        return [part for part in (part.strip() for part in text.split(",")) if part]
    if not any(word in wanted for word in ("int", "float", "bool")):
        return text
    try:
        return json.loads(text.strip().lower())
    except ValueError:
        return text
