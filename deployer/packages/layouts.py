"""How a package lies in its archive: where its root is, and what in it is started."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal

from deployer.errors import EntryPointMissingError, ManifestInvalidError, Problem
from deployer.file_names import shown_name
from deployer.manifest import JSON_NAME, TOML_NAME, Manifest
from deployer.packages.archives import Entry

_MANIFESTS: Final = (TOML_NAME, JSON_NAME)
_SCRIPTS: Final = ("main.py", "agent_implementation.py")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the entries of an archive will lie in the code directory.

    Attributes:
        manifest_name: ``agent.toml``, or ATOLL's older ``agent.json``.
        files: Files by their path from the package's root, which is the archive's own or its one
            enclosing folder; what macOS adds is left out.
        folders: Paths of all folders, each after the one that it lies in.
    """

    manifest_name: str
    files: Mapping[str, Entry]
    folders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """What is started in a release.

    Attributes:
        kind: ``script``: a file, run by the release's Python in its code directory; ``module``:
            run by ``python -m``; ``runner``: ATOLL's own, which reads the manifest.
        value: The script's path in the code directory, the module's dotted name, or for the
            runner the name of the manifest's file.
    """

    kind: Literal["script", "module", "runner"]
    value: str


def lay_out(entries: Iterable[Entry]) -> Layout:
    """Find the root of a package and what lies below it.

    Args:
        entries: Of its archive.

    Raises:
        ManifestInvalidError: There is no manifest at the root nor in one enclosing folder.
    """
    kept = {entry.name: entry for entry in entries if not _is_of_macos(entry.name)}
    tops = {name.partition("/")[0] for name in kept}
    prefixes = ("", f"{tops.pop()}/") if len(tops) == 1 else ("",)
    for prefix in prefixes:
        for manifest_name in _MANIFESTS:
            manifest = kept.get(prefix + manifest_name)
            if manifest is not None and not manifest.is_folder:
                below = {
                    name.removeprefix(prefix): entry
                    for name, entry in kept.items()
                    if name.startswith(prefix)
                }
                files = {name: entry for name, entry in below.items() if not entry.is_folder}
                return Layout(manifest_name, files, _folders(below, files))
    raise _no_manifest(kept)


def choose_entry_point(manifest: Manifest, layout: Layout, *, has_runtime: bool) -> EntryPoint:
    """Choose what is started: what the manifest names, else a script by its usual name.

    Args:
        manifest: The package's.
        layout: The package's.
        has_runtime: Whether ATOLL's own runner is there for packages that bring no script.

    Raises:
        EntryPointMissingError: There is nothing to start.
    """
    named = manifest.agent.entrypoint
    if named is not None:
        where = f"{layout.manifest_name}: agent.entrypoint"
        if named.endswith(".py"):
            if named in layout.files:
                return EntryPoint("script", named)
            raise _nothing_to_start(where, f"names {named!r}, which is not in the package")
        if _may_be_module(named, layout.files):
            return EntryPoint("module", named)
        path = named.replace(".", "/")
        raise _nothing_to_start(
            where, f"names {named!r}, but neither {path}.py nor {path}/__main__.py is there"
        )
    for script in _SCRIPTS:
        if script in layout.files:
            return EntryPoint("script", script)
    if has_runtime:
        return EntryPoint("runner", layout.manifest_name)
    raise _nothing_to_start(
        layout.manifest_name,
        f"names no agent.entrypoint, there is no {' or '.join(_SCRIPTS)}, "
        "and the settings name no runtime_requirements",
    )


def _is_of_macos(name: str) -> bool:
    path = PurePosixPath(name)
    return path.parts[0] == "__MACOSX" or path.name == ".DS_Store" or path.name.startswith("._")


def _folders(below: Mapping[str, Entry], files: Collection[str]) -> tuple[str, ...]:
    folders = {name for name in below if name and name not in files}
    for name in below:
        folders.update(str(parent) for parent in PurePosixPath(name).parents)
    return tuple(sorted(folders - {"."}))


def _may_be_module(name: str, files: Collection[str]) -> bool:
    """Tell whether ``python -m`` may find a module: in the package, or else in a dependency."""
    top, path = name.partition(".")[0], name.replace(".", "/")
    if f"{path}.py" in files or f"{path}/__main__.py" in files:
        return True
    return f"{top}.py" not in files and not any(file.startswith(f"{top}/") for file in files)


def _no_manifest(kept: Mapping[str, Entry]) -> ManifestInvalidError:
    deeper = sorted(
        (name for name in kept if PurePosixPath(name).name in _MANIFESTS),
        key=lambda name: (name.count("/"), name),
    )
    message = "is missing at the root of the ZIP"
    if TOML_NAME in kept:
        message = "is a folder"
    elif deeper:
        message += f"; {shown_name(deeper[0])!r} lies too deep, or has files beside its folder"
    problem = Problem(TOML_NAME, message)
    return ManifestInvalidError(
        f"cannot take the package: {problem}", cause=str(problem), problems=[problem]
    )


def _nothing_to_start(where: str, message: str) -> EntryPointMissingError:
    problem = Problem(where, message)
    return EntryPointMissingError(
        f"cannot take the package: {problem}",
        cause="nothing in the package can be started",
        hint="add a main.py, or name a file or module as entrypoint in [agent]",
        problems=[problem],
    )
