"""Which bytes of a tar are file contents, and which are headers.

The walk reads only headers, so the header stream alone is enough to join the two streams again:
each header says how many payload bytes follow. It is total: from the first block that it does not
accept as a header, everything to the end counts as header. Splitting and joining run this same
walk, so whatever it decides, right or wrong, comes back bit for bit; a wrong decision could only
cost deduplication. `docs/format.md` is normative for it.
"""

from __future__ import annotations

import re

BLOCK = 512
MAX_PAX_BYTES = 1 << 20  # Go's archive/tar refuses PAX records over 1 MiB, too
_OCTAL = re.compile(rb" *([0-7]+)[ \0]*")
_NO_PAYLOAD = frozenset(b"123456")  # links, devices, directories, FIFOs: Go ignores their size
_RECORDS = frozenset(b"gLK")  # PAX global, GNU long name and long link: content is header
_PAX_SIZE = re.compile(rb"[0-9]{1,18}")


class TarWalk:
    """What comes next in a tar: `payload` bytes, then `skip` header bytes, then a parsed block.

    Attributes:
        payload: bytes of file contents that come next.
        skip: bytes after these that belong to the header stream and need not be read.
        need: size of the block after that, which `parse` has to see; 0 once nothing will be
            parsed any more and all that follows belongs to the header stream.
    """

    __slots__ = ("_in_pax", "_pax_size", "need", "payload", "skip")

    def __init__(self) -> None:
        self.payload = 0
        self.skip = 0
        self.need = BLOCK
        self._in_pax = False
        self._pax_size: int | None = None

    def parse(self, block: bytes) -> None:
        """Read the block that was needed, and say what comes next."""
        if self._in_pax:
            self._in_pax = False
            self._pax_size = pax_size(block)
            self.skip = -len(block) % BLOCK
            self.need = BLOCK
            return
        size = header_size(block)
        if size is None:
            self.need = 0
            return
        kind = block[156]
        if kind in _NO_PAYLOAD:
            self._pax_size = None
        elif kind == 0x78:  # 'x': PAX records of the next member
            if size > MAX_PAX_BYTES:
                self.need = 0
            elif size:
                self._in_pax = True
                self.need = size
        elif kind in _RECORDS:
            self.skip = size + -size % BLOCK
        else:
            if self._pax_size is not None:
                size = self._pax_size
                self._pax_size = None
            self.payload = size
            self.skip = -size % BLOCK


def header_size(block: bytes) -> int | None:
    """Read the size field of a header block; `None` if it is not a header that is accepted.

    POSIX and GNU headers are known by their magic, older ones by their checksum. Old GNU sparse
    members (type `S`) are not accepted: what is stored of them is not their size.
    """
    if block[257:262] != b"ustar" and not _checksum_holds(block):
        return None
    if block[156] == 0x53:
        return None
    octal = _OCTAL.fullmatch(block, 124, 136)
    if octal is not None:
        return int(octal[1], 8)
    if block[124] == 0x80:  # GNU base-256, positive
        size = int.from_bytes(block[125:136], "big")
        return size if size < 1 << 63 else None
    return None


def pax_size(records: bytes) -> int | None:
    """Find the `size` record among PAX records; `None` also if the last one is no size."""
    value = pax_value(records, b"size")
    return int(value) if value is not None and _PAX_SIZE.fullmatch(value) else None


def pax_value(records: bytes, wanted: bytes) -> bytes | None:
    """Find a record among PAX records; the last one counts (POSIX pax, "Extended")."""
    found = None
    position = 0
    if wanted + b"=" not in records:  # as nearly always; a walk through 1 MiB can take a second
        return None
    while position < len(records):
        space = records.find(b" ", position, position + 20)
        if space < 0 or not records[position:space].isdigit():
            break
        length = int(records[position:space])
        if length <= space - position:
            break
        key, equals, value = records[space + 1 : position + length - 1].partition(b"=")
        if equals and key == wanted:
            found = value
        position += length
    return found


def _checksum_holds(block: bytes) -> bool:
    octal = _OCTAL.fullmatch(block, 148, 156)
    if octal is None:
        return False
    return int(octal[1], 8) == sum(block) - sum(block[148:156]) + 8 * 0x20
