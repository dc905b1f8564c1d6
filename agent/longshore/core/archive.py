"""The archive that `docker save` writes and `docker load` reads: a tar of images, sans I/O.

Reading accepts both forms, the legacy one of engines up to 24 and the OCI layout from 25 on: the
members come one by one, and their meaning is decided by whoever reads. Writing makes one form that
every engine loads: `manifest.json`, and blobs under `blobs/sha256/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum, auto

import msgspec
from msgspec import Struct

from longshore.core.digests import Digest, hex_of
from longshore.core.tarwalk import BLOCK, MAX_PAX_BYTES, header_size, pax_size
from longshore.errors import EngineError

TRAILER = bytes(2 * BLOCK)


class MemberEnd(Enum):
    """The event behind the last bytes of a member."""

    END = auto()


class Member(Struct, frozen=True):
    """The beginning of a regular file in the archive; links and folders are passed over."""

    name: str
    size_bytes: int


Event = Member | memoryview | MemberEnd


class ArchiveReader:
    """Take an archive apart as its bytes arrive.

    `feed` returns, for each regular file, a `Member`, its bytes in pieces, and `MemberEnd.END`.
    """

    __slots__ = ("_block", "_in_pax", "_left", "_need", "_pax_size", "_skip", "ended")

    def __init__(self) -> None:
        self.ended = False
        """Whether the end-of-archive marker has been read."""
        self._block = bytearray()
        self._left = -1  # bytes of the current member; -1 outside of one
        self._skip = 0
        self._need = BLOCK  # size of the block that is read whole next
        self._in_pax = False
        self._pax_size: int | None = None

    def feed(self, data: bytes) -> list[Event]:
        """Take more of the archive.

        Raises:
            EngineError: these bytes are no archive.
        """
        view = memoryview(data)
        position, end = 0, len(view)
        events: list[Event] = []
        while position < end and not self.ended:
            if self._left >= 0:
                stop = min(position + self._left, end)
                if stop > position:
                    events.append(view[position:stop])
                self._left -= stop - position
                position = stop
                if self._left:
                    break
                self._left = -1
                events.append(MemberEnd.END)
            if self._skip:
                stop = min(position + self._skip, end)
                self._skip -= stop - position
                position = stop
                continue
            stop = min(position + self._need - len(self._block), end)
            self._block += view[position:stop]
            position = stop
            if len(self._block) == self._need:
                block = bytes(self._block)
                self._block.clear()
                self._parse(block, events)
        return events

    def finish(self) -> None:
        """Check that the archive came to its end.

        Raises:
            EngineError: it was cut short.
        """
        if not self.ended:
            raise EngineError("the engine's archive ended early; the engine's log may say why")

    def _parse(self, block: bytes, events: list[Event]) -> None:
        if self._in_pax:
            self._in_pax, self._need = False, BLOCK
            self._pax_size = pax_size(block)
            self._skip = -len(block) % BLOCK
            return
        if not any(block):
            self.ended = True
            return
        size = header_size(block)
        if size is None:
            raise EngineError("the engine's archive has a member that cannot be read")
        kind = block[156:157]
        if kind in (b"0", b"\0"):
            if self._pax_size is not None:  # Go writes members of 8 GiB and more like this
                size, self._pax_size = self._pax_size, None
            self._left = size
            self._skip = -size % BLOCK
            events.append(Member(_name(block), size))
            if size == 0:
                self._left = -1
                events.append(MemberEnd.END)
        elif kind in (b"x", b"g", b"L", b"K"):
            if size > MAX_PAX_BYTES:
                raise EngineError("the engine's archive has a record that is too large")
            if kind == b"x" and size:
                self._in_pax, self._need = True, size
            else:  # no engine gives a member a name that needs these records
                self._skip = size + -size % BLOCK


def _name(block: bytes) -> str:
    name = block[:100].partition(b"\0")[0]
    prefix = block[345:500].partition(b"\0")[0] if block[257:263] == b"ustar\0" else b""
    return (prefix + b"/" + name if prefix else name).decode(errors="replace")


def member_header(name: str, size_bytes: int) -> bytes:
    """Write the header of a regular file, owned by root, from 1970.

    Raises:
        ValueError: the name is longer than 100 bytes.
    """
    encoded = name.encode()
    if len(encoded) > 100:
        raise ValueError(f"too long for a member name: {name}")
    if size_bytes < 8**11:
        size = b"%011o\0" % size_bytes
    else:  # GNU base-256, for members of 8 GiB and more
        size = b"\x80" + size_bytes.to_bytes(11, "big")
    block = bytearray(BLOCK)
    block[0 : len(encoded)] = encoded
    block[100:124] = b"0000644\0" + b"0000000\0" + b"0000000\0"
    block[124:136] = size
    block[136:148] = b"00000000000\0"
    block[148:156] = b" " * 8
    block[156:157] = b"0"
    block[257:265] = b"ustar\x0000"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padding(size_bytes: int) -> bytes:
    """Return what follows a member's content up to the next block."""
    return bytes(-size_bytes % BLOCK)


def small_member(name: str, data: bytes) -> bytes:
    """Write a whole member whose content is in hand."""
    return member_header(name, len(data)) + data + padding(len(data))


def blob_name(digest: Digest) -> str:
    """Return the member name of a blob."""
    return f"blobs/sha256/{hex_of(digest)}"


class ManifestItem(Struct, frozen=True):
    """One image of an archive; `layers` are the names of its members, base first."""

    config: Digest
    tags: Sequence[str]
    layers: Sequence[Digest]
    parent: Digest | None = None


class _Item(Struct, omit_defaults=True, rename="pascal"):
    config: str
    repo_tags: list[str] | None
    layers: list[str]
    parent: str = ""


def manifest_json(items: Iterable[ManifestItem]) -> bytes:
    """Write `manifest.json`. An engine sets a parent only if that is an item, too."""
    return msgspec.json.encode(
        [
            _Item(
                config=blob_name(item.config),
                repo_tags=list(item.tags) or None,
                layers=[blob_name(layer) for layer in item.layers],
                parent=item.parent or "",
            )
            for item in items
        ]
    )
