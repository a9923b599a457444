"""A large package on its way in, beside what writing and hashing its bytes takes."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.benchmarks.figures import Figure, at_most, median
from tests.benchmarks.options import Options
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server

_MIB = 1024**2
_BYTES = 200_000_000
_BLOCK = 256 * 1024
_ROUNDS = 3
_MOST = 1.5
_MOST_GROWTH_MB = 32


def measure(root: Path, options: Options) -> Iterator[Figure]:
    """Upload packages of 200 MB that do not compress, in turns with the floor."""
    ours, bare, growth = [], [], []
    with running_server(root / "state") as server:
        for number in range(min(_ROUNDS, options.rounds)):
            package = _package(root / "package.zip", number)
            bare.append(_write_and_hash(package, root))
            seconds, grown = _upload(server, package)
            ours.append(seconds)
            growth.append(grown)
    yield Figure(
        "upload of 200 MB",
        "s",
        median(ours),
        median(bare),
        at_most(f"<= {_MOST} x floor", _MOST * median(bare)),
        "floor: two writes one after the other, MD5 and SHA-256",
    )
    yield Figure(
        "memory that uploads add to the API",
        "MB",
        max(growth) / 1e6,
        goal=at_most(f"< {_MOST_GROWTH_MB} MB", _MOST_GROWTH_MB),
        note="the peak of its resident set, less what it was before; the largest of all rounds",
    )


def _package(path: Path, number: int) -> Path:
    small = zip_package("stdlib_agent", extra_files={"mark": str(number)})
    with path.open("w+b") as file:
        file.write(small)
        with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
            archive.writestr("model.bin", os.urandom(_BYTES))
    return path


def _write_and_hash(package: Path, root: Path) -> float:
    """Write a file, then read it, hash it twice and write it again, as nobody can do without."""
    first, second = root / "first", root / "second"
    arriving = io.BytesIO(package.read_bytes())
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    began = time.perf_counter()
    with first.open("wb") as spool:
        while block := arriving.read(_BLOCK):
            spool.write(block)
    with first.open("rb") as spool, second.open("wb") as kept:
        while block := spool.read(_BLOCK):
            md5.update(block)
            sha256.update(block)
            kept.write(block)
    seconds = time.perf_counter() - began
    first.unlink()
    second.unlink()
    return seconds


def _upload(server: RunningServer, package: Path) -> tuple[float, int]:
    """Send a package; give the seconds, and the bytes by which the API grew meanwhile."""
    pid = server.api_pid()
    before = psutil.Process(pid).memory_info().rss
    _forget_peak(pid)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, 120, blocksize=_BLOCK)
    headers = {
        "Authorization": f"Bearer {server.token}",
        "Content-Type": "application/zip",
        "Content-Length": str(package.stat().st_size),
    }
    with contextlib.closing(connection), package.open("rb") as body:
        began = time.perf_counter()
        connection.request("POST", "/v1/packages", body, headers)
        response = connection.getresponse()
        text = response.read()
        seconds = time.perf_counter() - began
    assert response.status == 201, text
    return seconds, _peak(pid) - before


def _forget_peak(pid: int) -> None:
    """Have the kernel count the largest resident set anew; see proc_pid_clear_refs(5)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kilobytes) * 1024
