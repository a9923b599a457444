"""Builds uploads out of the folders in tests/packages: the same bytes for the same source."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path

PACKAGES = Path(__file__).parent / "packages"
"""The test packages; `zip_package` takes the name of any folder in it."""

_FIRST_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def zip_package(
    folder: Path | str,
    *,
    name: str | None = None,
    version: str | None = None,
    extra_files: Mapping[str, bytes | str] | None = None,
    replace: Mapping[str, str] | None = None,
) -> bytes:
    """Zip a package folder, changed where a test asks for it.

    Args:
        folder: A folder with an agent.toml, or the name of one in tests/packages.
        name: Instead of the agent's name in the manifest.
        version: Instead of the version in the manifest.
        extra_files: More files by their path in the package; they go before those of the folder.
        replace: Text to find, anywhere in the folder's files, and what to put in its place; what
            is nowhere found is a mistake in the test, and a ValueError.

    Returns:
        The bytes of the ZIP.
    """
    files = _files_below(PACKAGES / folder)
    for key, value in (("name", name), ("version", version)):
        if value is not None:
            files["agent.toml"] = _set(files["agent.toml"], key, value)
    for old, new in (replace or {}).items():
        if not any(old.encode() in content for content in files.values()):
            raise ValueError(f"cannot replace {old!r}: no file of {folder} has it")
        files = {path: data.replace(old.encode(), new.encode()) for path, data in files.items()}
    for path, content in (extra_files or {}).items():
        files[path] = content.encode() if isinstance(content, str) else content
    return _zip(files)


def build_wheel(folder: Path | str, out_dir: Path) -> Path:
    """Make a pure Python wheel of a folder that holds a pyproject.toml and one import package.

    Done by hand, after the binary distribution format of the Python packaging guide, for a build
    backend would take seconds and an index.

    Args:
        folder: The source, or the name of a folder in tests/packages; its pyproject.toml says name,
            version and requires-python.
        out_dir: Where to put the wheel, such as a find-links folder; made if it is not there.

    Returns:
        The wheel's path.
    """
    source = PACKAGES / folder
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    name, version = project["name"], project["version"]
    files = {
        path: data for path, data in _files_below(source).items() if path.startswith(f"{name}/")
    }
    info = f"{name}-{version}.dist-info"
    files[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        f"Requires-Python: {project['requires-python']}\n"
    ).encode()
    files[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = [f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in files.items()]
    files[f"{info}/RECORD"] = "".join([*record, f"{info}/RECORD,,\n"]).encode()
    out_dir.mkdir(parents=True, exist_ok=True)
    wheel = out_dir / f"{name}-{version}-py3-none-any.whl"
    wheel.write_bytes(_zip(files))
    return wheel


def _set(manifest: bytes, key: str, value: str) -> bytes:
    """Set a key of the first table, which is [agent], where it stands."""
    pattern, line = rf'(?m)^{key} = ".*"$'.encode(), f'{key} = "{value}"'.encode()
    return re.sub(pattern, lambda _: line, manifest, count=1)


def _files_below(folder: Path) -> dict[str, bytes]:
    """Read a folder, through its links, without what Python leaves there."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def _zip(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            entry = zipfile.ZipInfo(path, _FIRST_ZIP_DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
