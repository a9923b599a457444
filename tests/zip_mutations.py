"""Archives as an attacker would write them: each field of a valid ZIP may say anything.

A ZIP is built from records, so that what a lie in one field does to all the others stays right,
and only then its bytes are damaged. Half of what comes out is still a sound package.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from hypothesis import strategies as st

SPOILS: Final = "/tmp/atoll-deployer-escaped"  # noqa: S108  # where an absolute name would lead
"""Exists only if an archive wrote where it must not."""

_LOCAL: Final = struct.Struct("<4s5H3L2H")
_CENTRAL: Final = struct.Struct("<4s6H3L5H2L")
_END: Final = struct.Struct("<4s4H2LH")
_SIZES_FOLLOW: Final = 0x0008
_SOUND: Final = (
    (b"agent.toml", b'[agent]\nname = "x"\n'),
    (b"main.py", b"print()\n" * 40),
    (b"requirements.txt", b"six\n"),
    (b"lib/", b""),
    (b"lib/a.py", b"a = 1\n" * 200),
    (b"lib/empty", b""),
)
_NAMES: Final = (
    *(b"../escaped", b"a/../../escaped", SPOILS.encode(), b"//escaped", b"C:/escaped"),
    *(b"..\\escaped", b"main.py\0.txt", b"main.py", b"MAIN.PY", b"./main.py", b"main.py/x"),
    *(b"lib", b"lib//a.py", b"", b"/", b".", b"..", b"a" * 256, b"d/" * 600 + b"f", b"d/" * 65),
    *(b"\xff\xfe", b"caf\xc3\xa9", b"cafe\xcc\x81", "\u202egpj.py".encode(), b"new\nline"),
    *(b"con", b"trailing.", b"agent.toml/", b"x/agent.toml", b"AGENT.TOML", b"pyvenv.cfg"),
)
_MODES: Final = (0o100644, 0o100755, 0o104755, 0o120777, 0o060644, 0o010644, 0o140644, 0o040755, 0)


@dataclass(slots=True)
class Said:
    """What one of the two headers of an entry says."""

    name: bytes
    method: int
    flags: int
    checksum: int
    packed: int
    size: int
    extra: bytes = b""
    offset: int = -1
    mode: int = 0o100644
    disk: int = 0


@dataclass(slots=True)
class Entry:
    """One entry, said twice, with the bytes between."""

    local: Said
    central: Said
    content: bytes
    behind: bytes = b""
    gap: bytes = b""


@dataclass(slots=True)
class Plan:
    """A whole archive before it is written down."""

    entries: list[Entry]
    end: dict[str, int] = field(default_factory=dict)
    comment: bytes = b""
    between: bytes = b""
    in_front: bytes = b""
    at_the_end: bytes = b""


def _entry(name: bytes, data: bytes, *, deflated: bool, streamed: bool) -> Entry:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    content = packer.compress(data) + packer.flush() if deflated else data
    facts = (zlib.crc32(data), len(content), len(data))
    flags = _SIZES_FOLLOW if streamed else 0
    said = (0, 0, 0) if streamed else facts
    method, mode = (8 if deflated else 0), (0o040755 if name.endswith(b"/") else 0o100644)
    return Entry(
        Said(name, method, flags, *said),
        Said(name, method, flags, *facts, mode=mode),
        content,
        struct.pack("<4s3L", b"PK\7\10", *facts) if streamed else b"",
    )


def _written(plan: Plan) -> bytes:
    out = bytearray(plan.in_front)
    for each in plan.entries:
        out += each.gap
        if each.central.offset < 0:
            each.central.offset = len(out)
        said = each.local
        numbers = (said.checksum, said.packed, said.size, len(said.name), len(said.extra))
        out += _LOCAL.pack(b"PK\3\4", 20, said.flags, said.method, 0, 33, *numbers)
        out += said.name + said.extra + each.content + each.behind
    out += plan.between
    directory = len(out)
    for each in plan.entries:
        said = each.central
        out += _CENTRAL.pack(
            *(b"PK\1\2", 0x0314, 20, said.flags, said.method, 0, 33),
            *(said.checksum, said.packed, said.size, len(said.name), len(said.extra), 0),
            *(said.disk, 0, said.mode << 16, said.offset),
        )
        out += said.name + said.extra
    values = {
        "disk": 0,
        "first": 0,
        "here": len(plan.entries),
        "count": len(plan.entries),
        "bytes": len(out) - directory,
        "offset": directory,
        "comment": len(plan.comment),
        **plan.end,
    }
    return bytes(out + _END.pack(b"PK\5\6", *values.values()) + plan.comment + plan.at_the_end)


_SMALL = st.sampled_from([0, 1, 2, 8, 9, 12, 97, 99, 0x7FFF, 0xFFFF]) | st.integers(0, 0xFFFF)
_LARGE = st.sampled_from([0, 1, 7, 1000, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1]) | st.integers(
    0, 2**32 - 1
)
_FIELDS: Final[dict[str, st.SearchStrategy[Any]]] = {
    "name": st.sampled_from(_NAMES) | st.binary(max_size=40),
    "method": _SMALL,
    "flags": st.sampled_from([0, 1, 8, 0x40, 0x800, 0x808, 0x2000, 0xFFFF]) | _SMALL,
    "checksum": _LARGE,
    "packed": _LARGE,
    "size": _LARGE,
    "offset": _LARGE,
    "mode": st.sampled_from(_MODES) | _SMALL,
    "disk": _SMALL,
    "extra": st.one_of(
        st.binary(max_size=40),
        st.builds(
            lambda kind, data: struct.pack("<2H", kind, len(data)) + data,
            st.sampled_from([0x0001, 0x7075, 0x5455, 0x9901, 0xCAFE]),
            st.binary(max_size=32),
        ),
        st.just(struct.pack("<2H2Q", 1, 16, 2**60, 2**60)),
        st.just(struct.pack("<2H", 1, 0xFFFF)),
    ),
}
_END_FIELDS: Final[dict[str, st.SearchStrategy[int]]] = {
    **dict.fromkeys(("disk", "first", "here", "count", "comment"), _SMALL),
    **dict.fromkeys(("bytes", "offset"), _LARGE),
}
_JUNK: Final = st.binary(min_size=1, max_size=60) | st.sampled_from(
    [b"PK\5\6" + bytes(18), b"PK\6\7" + bytes(16), b"PK\3\4", b"PK\1\2", bytes(22), b"#!/bin/sh\n"]
)


def _tell_a_lie(draw: Callable[..., Any], plan: Plan) -> None:
    """Have one header say something else than the other, or both alike."""
    entry = draw(st.sampled_from(plan.entries))
    name = draw(st.sampled_from(sorted(_FIELDS)))
    value = draw(_FIELDS[name])
    both = (entry.local, entry.central)
    for said in draw(st.sampled_from([both[:1], both[1:], both])):
        setattr(said, name, value)


def _rename(draw: Callable[..., Any], plan: Plan) -> None:
    entry = draw(st.sampled_from(plan.entries))
    entry.local.name = entry.central.name = draw(_FIELDS["name"])


def _resize(draw: Callable[..., Any], plan: Plan) -> None:
    entry = draw(st.sampled_from(plan.entries))
    entry.local.size = entry.central.size = max(0, len(entry.content) + draw(st.integers(-9, 9)))


def _damage_a_content(draw: Callable[..., Any], plan: Plan) -> None:
    entry = draw(st.sampled_from([each for each in plan.entries if each.content]))
    content = bytearray(entry.content)
    content[draw(st.integers(0, len(content) - 1))] ^= draw(st.integers(1, 255))
    entry.content = bytes(content)


def _lie_at_the_end(draw: Callable[..., Any], plan: Plan) -> None:
    name = draw(st.sampled_from(sorted(_END_FIELDS)))
    plan.end[name] = draw(_END_FIELDS[name])


def _say_it_twice(draw: Callable[..., Any], plan: Plan) -> None:
    plan.entries.extend([draw(st.sampled_from(plan.entries))] * draw(st.integers(1, 3)))


def _put_junk(draw: Callable[..., Any], plan: Plan) -> None:
    place = draw(st.sampled_from(["between", "in_front", "at_the_end", "comment", "gap", "behind"]))
    owner = draw(st.sampled_from(plan.entries)) if place in {"gap", "behind"} else plan
    setattr(owner, place, draw(_JUNK))


def _swallow_another(draw: Callable[..., Any], plan: Plan) -> None:
    """Let a content hold a whole entry that the directory names too (D. Fifield's overlap)."""
    outer, inner = draw(st.sampled_from(plan.entries)), draw(st.sampled_from(plan.entries))
    header = (inner.local.flags, inner.local.method, 0, 33, inner.local.checksum)
    sizes = (inner.local.packed, inner.local.size, len(inner.local.name), 0)
    outer.content += _LOCAL.pack(b"PK\3\4", 20, *header, *sizes)
    outer.content += inner.local.name + inner.content
    outer.central.packed = outer.local.packed = len(outer.content)


def _share_a_header(draw: Callable[..., Any], plan: Plan) -> None:
    entry = draw(st.sampled_from(plan.entries))
    entry.central.offset = draw(st.integers(0, 200))


def _hide_another_archive(_: Callable[..., Any], plan: Plan) -> None:
    others = ((name, data.replace(b"a", b"b")) for name, data in _SOUND)
    plan.comment = _written(Plan([_entry(*it, deflated=False, streamed=False) for it in others]))


_CHANGES: Final = (
    *(_tell_a_lie, _tell_a_lie, _lie_at_the_end, _say_it_twice, _put_junk, _rename, _rename),
    *(_resize, _damage_a_content, _swallow_another, _share_a_header, _hide_another_archive),
)


@st.composite
def mutated_zips(draw: Callable[..., Any]) -> bytes:
    """Write a sound package of a few files, after a few changes to its records and bytes."""
    files = draw(st.permutations(_SOUND))
    plan = Plan(
        [
            _entry(name, data, deflated=draw(st.booleans()), streamed=draw(st.booleans()))
            for name, data in files
        ]
    )
    for change in draw(st.lists(st.sampled_from(_CHANGES), max_size=2)):
        change(draw, plan)
    data = bytearray(_written(plan))
    if draw(st.integers(0, 3)):  # damage on top hides what a lie would have done
        return bytes(data)
    places = st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255))
    for at, value in draw(st.lists(places, max_size=3)):
        data[at] = value
    return bytes(data[: draw(st.none() | st.integers(0, len(data)))])
