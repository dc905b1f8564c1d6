"""Read what a layer holds from its header stream alone: names, sizes and modes."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from longshore.core.tarwalk import MAX_PAX_BYTES, TarWalk, header_size, pax_value

MAX_MEMBERS = 300_000
_REGULAR = frozenset(b"0\x007")
_FOLDER = 0x35
_PAX, _LONG_NAME, _LONG_LINK, _GLOBAL = 0x78, 0x4C, 0x4B, 0x67


class Member(Struct, frozen=True):
    """One member of a layer; `path` has no leading slash."""

    path: str
    kind: Literal["file", "folder", "other"]
    size: int
    mode: int


def read_members(headers: bytes) -> tuple[Member, ...] | None:
    """List the members of a layer; `None` if it is not all plain.

    Args:
        headers: the whole header stream (`core.tarsplit`).
    """
    walk = TarWalk()
    members: list[Member] = []
    at = 0
    long_name: str | None = None
    in_pax = False
    while walk.need:
        at += walk.skip
        walk.skip = 0
        if at + walk.need > len(headers):
            return None
        block = headers[at : at + walk.need]
        at += walk.need
        walk.parse(block)
        size = walk.payload
        walk.payload = 0  # it lies in the other stream
        if in_pax:
            in_pax = False
            if path := pax_value(block, b"path"):
                long_name = path.decode("utf-8", "surrogateescape")
            continue
        if not walk.need:
            break
        kind = block[156]
        if kind == _PAX:
            announced = header_size(block) or 0
            if announced > MAX_PAX_BYTES:
                return None
            in_pax = announced > 0
        elif kind == _LONG_NAME:
            content = headers[at : at + (header_size(block) or 0)]
            long_name = content.rstrip(b"\0").decode("utf-8", "surrogateescape")
        elif kind == _GLOBAL:
            return None
        elif kind != _LONG_LINK:
            members.append(_member(block, kind, size, long_name))
            long_name = None
        if len(members) > MAX_MEMBERS:
            return None
    return tuple(members)


def _member(block: bytes, kind: int, size: int, long_name: str | None) -> Member:
    name = long_name
    if name is None:
        name = _text(block[:100])
        if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
            name = f"{prefix}/{name}"
    mode = block[100:108].strip(b" \0")
    is_file = kind in _REGULAR and not name.endswith("/")
    return Member(
        name.removeprefix("./").strip("/"),
        "file" if is_file else "folder" if kind == _FOLDER else "other",
        size,
        int(mode, 8) if mode.isdigit() and not set(mode) & set(b"89") else -1,
    )


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")
