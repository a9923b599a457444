"""Tiny wheels and source distributions, made on the spot, so that tests need no index."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def make_wheel(
    directory: Path,
    name: str,
    version: str = "1.0",
    *,
    requires: Sequence[str] = (),
    python: str | None = None,
    content: str = "",
) -> Path:
    """Make a pure-Python wheel with one module of its own name.

    Args:
        directory: Where; usable as find_links.
        name: Of the distribution and, with underscores, of its module.
        version: Of the distribution; the module says it too, as ``VERSION``.
        requires: Its dependencies, after PEP 508.
        python: Versions of Python that it works with; None: all.
        content: More lines for its module.
    """
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    lines += [f"Requires-Python: {python}"] if python else []
    files = {
        f"{module}.py": f"VERSION = {version!r}\n{content}",
        f"{info}/METADATA": "\n".join(lines) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\n"
        "Root-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{path},{_digest(text)},{len(text.encode())}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,"]) + "\n"
    directory.mkdir(parents=True, exist_ok=True)
    wheel = directory / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            # A fixed date, so that equal wheels have equal hashes.
            archive.writestr(zipfile.ZipInfo(path, (2024, 1, 1, 0, 0, 0)), text)
    return wheel


def make_sdist(directory: Path, name: str, version: str, *, setup: str) -> Path:
    """Make a source distribution whose setup.py is the given text."""
    files = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "setup.py": setup,
    }
    return _pack(directory, f"{name}-{version}", files)


def _pack(directory: Path, root: str, files: Mapping[str, str]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    sdist = directory / f"{root}.tar.gz"
    with tarfile.open(sdist, "w:gz") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(f"{root}/{path}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return sdist


def make_source(directory: Path, name: str, *, act: str = "pass") -> Path:
    """Make a source distribution that is built by code of its own, with nothing else installed.

    Args:
        directory: Where; usable as find_links.
        name: Of the distribution and its module.
        act: What its code does whenever it is run: statements, one a line.
    """
    lines = "".join(f"    {line}\n" for line in act.splitlines())
    return _pack(
        directory,
        f"{name}-1.0",
        {
            "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
            "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\n'
            'backend-path = ["."]\n',
            "backend.py": f"{_BACKEND.replace('NAME', name)}\ndef act():\n{lines}",
        },
    )


_BACKEND = """import os, zipfile

def build_wheel(folder, *_settings):
    act()
    info = "NAME-1.0.dist-info/"
    wheel = "NAME-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, wheel), "w") as file:
        file.writestr("NAME.py", "BUILT = True\\n")
        file.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: NAME\\nVersion: 1.0\\n")
        file.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nGenerator: x\\n"
                      "Root-Is-Purelib: true\\nTag: py3-none-any\\n")
        file.writestr(info + "RECORD", "")
    return wheel
"""


def make_index(directory: Path, wheels: Sequence[Path]) -> Path:
    """Lay wheels out as a simple index (PEP 503), to be served over HTTP.

    Returns:
        The directory to serve; the index is at ``/simple``.
    """
    simple = directory / "simple"
    simple.mkdir(parents=True, exist_ok=True)
    for wheel in wheels:
        project = simple / wheel.name.partition("-")[0].replace("_", "-")
        project.mkdir(exist_ok=True)
        (project / wheel.name).write_bytes(wheel.read_bytes())
        links = (f'<a href="{each.name}">{each.name}</a>' for each in project.glob("*.whl"))
        (project / "index.html").write_text("\n".join(links), encoding="utf-8")
    return directory


def say_uploads(simple: Path, project: str, uploads: Mapping[Path, str]) -> None:
    """Say beside a project's page when its wheels were uploaded, as JSON (PEP 691 and PEP 700).

    Args:
        simple: The index that `make_index` made.
        project: Whose page.
        uploads: The time of each of its wheels, after RFC 3339.
    """
    page = {
        "meta": {"api-version": "1.1"},
        "name": project,
        "versions": sorted(wheel.name.split("-")[1] for wheel in uploads),
        "files": [
            {
                "filename": wheel.name,
                "url": wheel.name,
                "hashes": dict([sha256_of(wheel).split(":")]),
                "size": wheel.stat().st_size,
                "upload-time": uploaded,
            }
            for wheel, uploaded in uploads.items()
        ],
    }
    (simple / project / "index.json").write_text(json.dumps(page), encoding="utf-8")


def sha256_of(file: Path) -> str:
    """Give a file's hash as requirements spell it."""
    return f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
