"""Packages: what receive, inspect and unpack take, refuse and leave behind."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import shutil
import stat
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployer.errors import (
    DeployerError,
    EntryPointMissingError,
    ManifestInvalidError,
    NoSpaceError,
    PackageInvalidError,
    PackageTooLargeError,
    RequirementsInvalidError,
)
from deployer.packages import EntryPoint, Inspected, inspect, receive, unpack
from deployer.settings import LimitSettings

if TYPE_CHECKING:
    from typing_extensions import Buffer

LIMITS: Final = LimitSettings()
TOML: Final = b'[agent]\nname = "x"\n'
MINIMAL: Final[Mapping[str, bytes]] = {"agent.toml": TOML, "main.py": b"print()\n"}
Store = Callable[[bytes], Path]


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, compress_type=method)
    return buffer.getvalue()


@pytest.fixture
def stored(tmp_path: Path) -> Store:
    def store(data: bytes) -> Path:
        path = tmp_path / "package.zip"
        path.write_bytes(data)
        return path

    return store


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def refused(
    path: Path,
    kind: type[PackageInvalidError] = PackageInvalidError,
    limits: LimitSettings = LIMITS,
) -> list[str]:
    with pytest.raises(PackageInvalidError) as caught:
        inspect(path, limits, has_runtime=False)
    assert type(caught.value) is kind
    return [str(problem) for problem in caught.value.problems]


def taken(path: Path, *, has_runtime: bool = False) -> Inspected:
    return inspect(path, LIMITS, has_runtime=has_runtime)


def test_a_package_is_copied_once_with_both_checksums(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(3_000_000)  # noqa: S311  # bytes of no meaning

    received = receive(io.BytesIO(data), tmp_path, max_bytes=3_000_000)

    assert received.path.parent == tmp_path
    assert received.path.read_bytes() == data
    assert stat.S_IMODE(received.path.stat().st_mode) == 0o600
    assert received.sha256 == hashlib.sha256(data).hexdigest()
    assert received.md5 == hashlib.md5(data, usedforsecurity=False).hexdigest()
    assert received.size_bytes == 3_000_000


def test_a_package_one_byte_too_large_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(PackageTooLargeError, match="more than 10 bytes"):
        receive(io.BytesIO(b"x" * 11), tmp_path, max_bytes=10)

    assert list(tmp_path.iterdir()) == []


def test_a_package_too_large_is_not_read_to_its_end(tmp_path: Path) -> None:
    stream = io.BytesIO(b"x" * 1_000_000)

    with pytest.raises(PackageTooLargeError):
        receive(stream, tmp_path, max_bytes=10)

    assert stream.tell() == 11


class BrokenStream(io.BytesIO):
    """Gives a little and then fails as a lost connection or a full disk does."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number
        self._reads = 0

    def read(self, _size: int | None = -1, /) -> bytes:
        self._reads += 1
        if self._reads > 1:
            raise OSError(self._number, os.strerror(self._number))
        return b"x"


def test_a_stream_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError):
        receive(BrokenStream(errno.ECONNRESET), tmp_path, max_bytes=10)

    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoSpaceError, match="No space left"):
        receive(BrokenStream(errno.ENOSPC), tmp_path, max_bytes=10)

    assert list(tmp_path.iterdir()) == []


def test_a_small_package_is_taken(stored: Store) -> None:
    inspected = taken(stored(zipped(MINIMAL)))

    assert inspected.manifest.agent.name == "x"
    assert inspected.requirements == ()
    assert inspected.entry_point == EntryPoint("script", "main.py")
    assert inspected.files == ("agent.toml", "main.py")


def test_dependencies_of_both_files_are_merged(stored: Store) -> None:
    toml = TOML + b'[dependencies]\npackages = ["Zope>=1", "six"]\n'

    inspected = taken(
        stored(zipped({**MINIMAL, "agent.toml": toml, "requirements.txt": b"attrs\nsix\n"}))
    )

    assert inspected.requirements == ("attrs", "six", "zope>=1")


def test_problems_of_every_part_are_told_in_one_error(stored: Store) -> None:
    path = stored(
        zipped(
            {
                "agent.toml": b"[agent]\nname = 5\n",
                "requirements.txt": b"-e .\n",
                "a\\b.py": b"",
                "../c": b"",
            }
        )
    )

    told = refused(path)

    assert [line.split(": ")[0] for line in told] == [
        "a\\b.py",
        "../c",
        "agent.toml",
        "requirements.txt:1",
    ]


def test_packages_of_the_manifest_are_judged_alike(stored: Store) -> None:
    toml = TOML + b'[dependencies]\npackages = ["six", "-e .", "./x"]\n'

    told = refused(stored(zipped({**MINIMAL, "agent.toml": toml})), RequirementsInvalidError)

    assert [line.split(": must")[0] for line in told] == [
        "agent.toml: dependencies.packages[1]",
        "agent.toml: dependencies.packages[2]",
    ]


def test_a_manifest_alone_at_fault_is_told_as_such(stored: Store) -> None:
    refused(stored(zipped({**MINIMAL, "agent.toml": b"x"})), ManifestInvalidError)


def test_a_package_in_one_folder_is_lifted_out_of_it(stored: Store, tmp_path: Path) -> None:
    path = stored(zipped({"f/": b"", **{f"f/{name}": data for name, data in MINIMAL.items()}}))

    unpack(path, tmp_path / "code", LIMITS)

    assert taken(path).files == ("agent.toml", "main.py")
    assert names(tmp_path / "code") == ["agent.toml", "main.py"]


def test_what_macos_adds_is_left_out(stored: Store) -> None:
    junk = {
        "__MACOSX/f/._main.py": b"x",
        "f/.DS_Store": b"x",
        "f/._main.py": b"x",
        ".DS_Store": b"",
    }

    path = stored(zipped({**junk, **{f"f/{name}": data for name, data in MINIMAL.items()}}))

    assert taken(path).files == ("agent.toml", "main.py")


def test_a_manifest_too_deep_is_pointed_to(stored: Store) -> None:
    (told,) = refused(stored(zipped({"x/y/agent.toml": TOML})), ManifestInvalidError)

    assert told.startswith("agent.toml: is missing at the root of the ZIP; 'x/y/agent.toml' lies")


def test_atolls_older_manifest_is_found(stored: Store) -> None:
    inspected = taken(stored(zipped({"agent.json": b'{"name": "old"}'})), has_runtime=True)

    assert inspected.manifest.agent.name == "old"
    assert inspected.entry_point == EntryPoint("runner", "agent.json")


@pytest.mark.parametrize(
    ("entrypoint", "files", "expected"),
    [
        ("", ["main.py", "agent_implementation.py"], EntryPoint("script", "main.py")),
        ("", ["agent_implementation.py"], EntryPoint("script", "agent_implementation.py")),
        ("", ["other.py"], EntryPoint("runner", "agent.toml")),
        ("src/run.py", ["main.py", "src/run.py"], EntryPoint("script", "src/run.py")),
        ("pkg.server", ["pkg/server.py"], EntryPoint("module", "pkg.server")),
        ("pkg", ["pkg/__init__.py", "pkg/__main__.py"], EntryPoint("module", "pkg")),
        ("uvicorn", ["other.py"], EntryPoint("module", "uvicorn")),
    ],
)
def test_what_is_started_is_chosen_in_order(
    stored: Store, entrypoint: str, files: list[str], expected: EntryPoint
) -> None:
    toml = TOML + (f'entrypoint = "{entrypoint}"\n'.encode() if entrypoint else b"")

    path = stored(zipped({"agent.toml": toml, **dict.fromkeys(files, b"")}))

    assert taken(path, has_runtime=True).entry_point == expected


@pytest.mark.parametrize(
    ("entrypoint", "files"),
    [
        ("", ["other.py"]),
        ("", ["main.py/x"]),
        ("run.py", ["main.py"]),
        ("pkg.server", ["pkg/__init__.py"]),
        ("pkg", ["pkg/__init__.py"]),
    ],
)
def test_a_package_with_nothing_to_start_is_refused(
    stored: Store, entrypoint: str, files: list[str]
) -> None:
    toml = TOML + (f'entrypoint = "{entrypoint}"\n'.encode() if entrypoint else b"")

    refused(
        stored(zipped({"agent.toml": toml, **dict.fromkeys(files, b"")})), EntryPointMissingError
    )


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("../x", "'.' or '..'"),
        ("a/../x", "'.' or '..'"),
        ("./x", "'.' or '..'"),
        ("a//x", "'.' or '..'"),
        ("/x", "absolute"),
        ("//x/y", "absolute"),
        ("C:x", "backslash or a colon"),
        ("a\\x", "backslash or a colon"),
        ("a\nx", "control characters"),
        ("a\u202ex", "invisible"),
        ("a\u2028x", "invisible"),
        ("a/" * 64 + "x", "65 folders deep"),
        ("a" * 256, "longer than 255 bytes"),
        ("é" * 128, "longer than 255 bytes"),
        ("/".join(["a" * 200] * 6), "1024 in all"),
        ("nul.txt", "Windows reserves"),
        ("a./x", "Windows reserves"),
        ("a /x", "Windows reserves"),
        ("Main.py", "twice"),
        ("main.py/x", "lies in 'main.py', which is a file"),
    ],
)
def test_a_name_that_means_different_things_is_refused(stored: Store, name: str, told: str) -> None:
    problems = refused(stored(zipped({**MINIMAL, name: b""})))

    assert any(told in problem for problem in problems)
    assert all(problem.isprintable() for problem in problems)


def test_a_name_with_nul_is_refused(stored: Store) -> None:
    data = zipped({**MINIMAL, "main.py_.txt": b""}).replace(b"main.py_", b"main.py\0")

    assert "control characters" in refused(stored(data))[0]


def test_names_equal_after_normalisation_are_refused(stored: Store) -> None:
    assert "twice" in refused(stored(zipped({**MINIMAL, "\u00e9": b"", "e\u0301": b""})))[0]


def test_utf8_without_the_flag_is_read_as_macos_means_it(stored: Store) -> None:
    data = zipped({**MINIMAL, "caf__.txt": b""}).replace(b"caf__", "café".encode())

    assert "café.txt" in taken(stored(data)).files


def with_field(data: bytes, name: bytes, layout: str, offset: int, value: int) -> bytes:
    """Change one field of a file's line in the central directory."""
    start = data.index(b"PK\1\2")
    at = data.index(name, start) - 46 + offset
    changed = bytearray(data)
    struct.pack_into(layout, changed, at, value)
    return bytes(changed)


@pytest.mark.parametrize(
    ("layout", "offset", "value"),
    [
        ("<H", 8, 0x0001),  # flags: encrypted
        ("<H", 8, 0x0008),  # flags: the sizes follow
        ("<H", 8, 0x0020),  # flags: a patch
        ("<H", 10, 12),  # method: bzip2
        ("<H", 10, 0),  # method: stored
        ("<L", 16, 1),  # CRC-32
        ("<L", 20, 1),  # packed size
        ("<L", 24, 1),  # size
        ("<L", 24, 0xFFFFFFFF),  # size: in a zip64 field that is not there
        ("<H", 28, 6),  # length of the name
        ("<H", 30, 1),  # length of the extra fields
        ("<H", 34, 1),  # disk
        ("<L", 38, stat.S_IFLNK << 16),  # mode
        ("<L", 42, 0),  # offset of the local header
        ("<L", 42, 0xFFFFFFFF),
    ],
)
def test_a_directory_that_says_something_else_is_refused(
    stored: Store, layout: str, offset: int, value: int
) -> None:
    refused(stored(with_field(zipped(MINIMAL), b"main.py", layout, offset, value)))


@pytest.mark.parametrize(
    ("layout", "offset", "value", "told"),
    [
        ("<H", 6, 0x0800, "another name, method or flags"),
        ("<H", 8, 0, "another name, method or flags"),
        ("<L", 14, 1, "another size or checksum"),
        ("<L", 18, 1, "another size or checksum"),
        ("<L", 22, 1, "another size or checksum"),
        ("<H", 26, 6, "another name, method or flags"),
        ("<H", 28, 1, "reaches into the directory"),
        ("<B", 30, ord("n"), "another name, method or flags"),
        ("<B", 0, 0, "has no header"),
    ],
)
def test_a_local_header_that_says_something_else_is_refused(
    stored: Store, layout: str, offset: int, value: int, told: str
) -> None:
    data = bytearray(zipped(MINIMAL))
    struct.pack_into(layout, data, data.index(b"main.py") - 30 + offset, value)

    (problem,) = refused(stored(bytes(data)))

    assert problem.startswith("main.py: ")
    assert told in problem


@pytest.mark.parametrize(("offset", "value"), [(4, 1), (6, 1), (8, 1), (10, 3), (12, 1), (16, 1)])
def test_an_end_record_that_says_something_else_is_refused(
    stored: Store, offset: int, value: int
) -> None:
    data = bytearray(zipped(MINIMAL))
    struct.pack_into("<H", data, len(data) - 22 + offset, value)

    refused(stored(bytes(data)))


def raw_deflated(content: bytes, flush: int) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush(flush)


@pytest.mark.parametrize(
    ("packed", "told"),
    [
        (raw_deflated(b"12345678", zlib.Z_FINISH), None),
        (raw_deflated(b"12345678", zlib.Z_SYNC_FLUSH), "ends in the middle"),
        (raw_deflated(b"12345678", zlib.Z_FINISH) + b"\0", "has bytes behind"),
        (raw_deflated(b"123456789", zlib.Z_FINISH), "holds more than the 8 bytes declared"),
        (raw_deflated(b"1234567", zlib.Z_FINISH), "holds 7 bytes and declares 8"),
        (raw_deflated(b"1234567x", zlib.Z_FINISH), "is damaged"),
        (b"\xff" * 8, "cannot be decompressed"),
    ],
)
def test_a_content_must_be_exactly_what_is_declared(
    stored: Store, packed: bytes, told: str | None
) -> None:
    # Written as a stored file, and declared a deflated one of 8 bytes afterwards.
    data = bytearray(zipped({**MINIMAL, "z": packed}, zipfile.ZIP_STORED))
    for at, first in ((data.index(b"z" + packed) - 30, 8), (data.rindex(b"z") - 46, 10)):
        struct.pack_into("<H", data, at + first, zipfile.ZIP_DEFLATED)
        struct.pack_into("<L", data, at + first + 6, zlib.crc32(b"12345678"))
        struct.pack_into("<L", data, at + first + 14, 8)
    path = stored(bytes(data))

    if told is None:
        assert "z" in taken(path).files
    else:
        assert told in refused(path)[0]


def test_files_that_share_bytes_are_refused(stored: Store) -> None:
    inner = zipped({"inner": b"x"}, zipfile.ZIP_STORED)
    local, line = inner[: inner.index(b"PK\1\2")], inner[inner.index(b"PK\1\2") : -22]
    outer = bytearray(zipped({**MINIMAL, "outer": local}, zipfile.ZIP_STORED))
    line = line[:42] + struct.pack("<L", outer.index(local)) + line[46:]
    end = struct.unpack_from("<4s4H2LH", outer, len(outer) - 22)
    counted = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 4, 4, end[5] + len(line), end[6], 0)

    assert refused(stored(bytes(outer[:-22]) + line + counted)) == [
        "inner: shares bytes with another entry"
    ]


def test_sizes_behind_a_content_must_fit(stored: Store) -> None:
    pipe = Unseekable()
    with zipfile.ZipFile(pipe, "w") as archive:
        archive.writestr("agent.toml", TOML)
    checksum = struct.pack("<L", zlib.crc32(TOML))

    changed = bytes(pipe.data).replace(b"PK\7\10" + checksum, b"PK\7\10" + b"\0\0\0\0")

    assert refused(stored(changed)) == [
        "agent.toml: has another size or checksum behind its content"
    ]


def test_sizes_in_front_must_fit_those_behind(stored: Store) -> None:
    pipe = Unseekable()
    with zipfile.ZipFile(pipe, "w") as archive:
        archive.writestr("agent.toml", TOML)
    struct.pack_into("<L", pipe.data, 18, 7)

    assert refused(stored(bytes(pipe.data))) == [
        "agent.toml: has another size or checksum in its own header"
    ]


def test_a_second_name_that_differs_is_refused(stored: Store) -> None:
    buffer = io.BytesIO(zipped(MINIMAL))
    name = b"\1" + struct.pack("<L", zlib.crc32(b"harmless")) + b"../harm"
    with zipfile.ZipFile(buffer, "a") as archive:
        info = zipfile.ZipInfo("harmless")
        info.extra = struct.pack("<2H", 0x7075, len(name)) + name
        archive.writestr(info, b"")

    assert refused(stored(buffer.getvalue())) == ["the ZIP: harmless has two names that differ"]


@pytest.mark.parametrize("at", ["front", "back", "middle"])
def test_bytes_that_belong_to_nobody_are_refused(stored: Store, at: str) -> None:
    data = zipped(MINIMAL)
    middle = data.index(b"PK\1\2")
    changed = {
        "front": b"#!/bin/sh\n" + data,
        "back": data + b"\0",
        "middle": data[:middle] + b"\0" + data[middle:],
    }

    refused(stored(changed[at]))


def test_a_stored_zip_within_a_zip_is_only_content(stored: Store) -> None:
    inner = zipped(MINIMAL, zipfile.ZIP_STORED)

    path = stored(zipped({**MINIMAL, "inner.zip": inner}, zipfile.ZIP_STORED))

    assert "inner.zip" in taken(path).files


class Unseekable(io.RawIOBase):
    """A pipe, for which zipfile writes sizes behind the content."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, piece: Buffer, /) -> int:
        self.data += piece
        return memoryview(piece).nbytes


@pytest.mark.parametrize("force_zip64", [False, True])
def test_archives_of_streaming_writers_are_taken(stored: Store, *, force_zip64: bool) -> None:
    pipe = Unseekable()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in MINIMAL.items():
            with archive.open(name, "w", force_zip64=force_zip64) as file:
                file.write(content)

    assert taken(stored(bytes(pipe.data))).files == ("agent.toml", "main.py")


@pytest.mark.parametrize("size", [0, 1, 262_144, 262_145, 3_000_000])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("kind", ["zeros", "noise"])
def test_contents_of_any_size_come_out_as_they_went_in(
    stored: Store, tmp_path: Path, size: int, method: int, kind: str
) -> None:
    content = bytes(size) if kind == "zeros" else random.Random(1).randbytes(size)  # noqa: S311  # bytes of no meaning
    path = stored(zipped({**MINIMAL, "data.bin": content}, method))

    unpack(path, tmp_path / "code", LIMITS)

    assert (tmp_path / "code" / "data.bin").read_bytes() == content


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (LimitSettings(entries=2), "it has 3 entries, more than 2"),
        (LimitSettings(file_bytes=99), "big: unpacks to 100 bytes, more than 99"),
        (LimitSettings(total_bytes=100), "the ZIP: unpacks to 127 bytes, more than 100"),
    ],
)
def test_limits_are_held(stored: Store, limits: LimitSettings, told: str) -> None:
    path = stored(zipped({**MINIMAL, "big": bytes(100)}))

    assert any(told in problem for problem in refused(path, limits=limits))


def test_a_bomb_is_refused_by_its_ratio(stored: Store) -> None:
    (told,) = refused(stored(zipped({**MINIMAL, "zeros": bytes(20_000_000)})))

    assert "more than 200 times as many" in told


def test_ten_thousand_files_are_judged_in_bearable_time(stored: Store) -> None:
    path = stored(zipped({**MINIMAL, **{f"d{n % 50}/{n}": b"x" for n in range(9_998)}}))
    began = time.process_time()

    assert len(taken(path).files) == 10_000
    assert time.process_time() - began < 10  # seconds of CPU; 0.4 on a quiet machine


def test_a_name_of_thousands_of_parts_costs_no_time(stored: Store) -> None:
    path = stored(zipped({**MINIMAL, **{f"{n}" + "/a" * 30_000: b"" for n in range(10)}}))
    began = time.process_time()

    refused(path)

    assert time.process_time() - began < 2


def test_modes_are_ours_whatever_the_archive_and_the_umask_say(
    stored: Store, tmp_path: Path
) -> None:
    buffer = io.BytesIO(zipped(MINIMAL))
    with zipfile.ZipFile(buffer, "a") as archive:
        for name, mode in (("tool", 0o6777), ("closed", 0o000), ("folder/inner", 0o666)):
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFREG | mode) << 16
            archive.writestr(info, b"x")
    target = tmp_path / "code"
    umask = os.umask(0o077)
    try:
        unpack(stored(buffer.getvalue()), target, LIMITS)
    finally:
        os.umask(umask)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in target.rglob("*")}
    assert stat.S_IMODE(target.stat().st_mode) == 0o755
    assert (modes["tool"], modes["closed"], modes["inner"]) == (0o755, 0o644, 0o644)
    assert modes["folder"] == 0o755


def test_a_failure_half_way_leaves_nothing(stored: Store, tmp_path: Path) -> None:
    data = zipped({**MINIMAL, "z.bin": b"abcdefgh"}, zipfile.ZIP_STORED)

    with pytest.raises(PackageInvalidError, match=r"z\.bin: is damaged"):
        unpack(stored(data.replace(b"abcdefgh", b"abcdefgX")), tmp_path / "code", LIMITS)

    assert names(tmp_path) == ["package.zip"]


def test_an_existing_directory_is_never_touched(stored: Store, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "kept").touch()

    with pytest.raises(FileExistsError):
        unpack(stored(zipped(MINIMAL)), tmp_path / "code", LIMITS)

    assert names(tmp_path / "code") == ["kept"]


FUZZED: Final = zipped(
    {**MINIMAL, "requirements.txt": b"six\n", "lib/": b"", "lib/a.py": b"a = 1\n" * 20}
)


@given(
    st.lists(
        st.tuples(st.integers(0, len(FUZZED) - 1), st.integers(0, 255)), min_size=1, max_size=6
    ),
    st.none() | st.integers(0, len(FUZZED)),
)
@settings(
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # emptied by the test itself
)
def test_no_change_of_bytes_does_harm(
    tmp_path: Path, changes: list[tuple[int, int]], cut: int | None
) -> None:
    data = bytearray(FUZZED)
    for at, value in changes:
        data[at] = value
    path = tmp_path / "package.zip"
    path.write_bytes(data[:cut])
    target = tmp_path / "code"

    try:
        inspect(path, LIMITS, has_runtime=False)
        unpack(path, target, LIMITS)
    except DeployerError:
        assert names(tmp_path) == ["package.zip"]
        return
    assert names(tmp_path) == ["code", "package.zip"]
    assert all(stat.S_ISREG(found.lstat().st_mode) or found.is_dir() for found in target.rglob("*"))
    shutil.rmtree(target)
