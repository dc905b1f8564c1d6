"""What a graphdriver engine keeps of a layer's tar beside its files: `tar-split.json.gz`.

Lines of JSON, compressed by gzip, are the tar in order: segments, which are bytes of it (headers,
padding, trailer), and files, whose contents lie in the layer's folder under the name that the line
tells (github.com/vbatts/tar-split, `tar/storage/entry.go`). Each file's CRC is not looked at: who
rebuilds the layer compares its SHA-256.

Nothing in it is believed: a line, a name and what is planned at once have limits, and what does not
fit is an error.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Struct, field

from longshore.errors import CorruptData

BLOCK_BYTES = 2 << 20
MAX_LINE_BYTES = 8 << 20  # a segment is at most 1 MiB of padding or of PAX records, in base64
MAX_NAME_BYTES = 4096  # PATH_MAX, linux/limits.h
MAX_FILES = 4096  # of a block
MAX_FILE_BYTES = 1 << 62  # so that offsets fit into what the kernel takes
_PLAIN_BYTES = 256 << 10
_GZIP = 16 + zlib.MAX_WBITS
_FILE, _SEGMENT = 1, 2


class _Record(Struct, gc=False):
    type: int
    name: str = ""
    name_raw: bytes = b""  # instead of the name, if that is not UTF-8
    size: int = 0
    payload: bytes | None = None


_DECODER = msgspec.json.Decoder(_Record)


class Block(Struct):
    """The next bytes of a layer: where in them each segment lies, and each piece of a file.

    Attributes:
        segments: position in the block, and bytes.
        files: position in the block, name, offset in the file, and length.
    """

    size_bytes: int = 0
    segments: list[tuple[int, bytes]] = field(default_factory=list)
    files: list[tuple[int, bytes, int, int]] = field(default_factory=list)


class BlockPlanner:
    """Plan a layer block by block, as its tar-split file is read.

    Memory is bounded by a block, one line and the names of `MAX_FILES` files.
    """

    def __init__(self, block_bytes: int = BLOCK_BYTES) -> None:
        self._block_bytes = block_bytes
        self._gunzip = zlib.decompressobj(_GZIP)
        self._line: list[bytes] = []
        self._line_bytes = 0
        self._block = Block()

    def feed(self, data: bytes) -> Iterator[Block]:
        """Take more of the file. Yields the blocks that are complete; all have to be taken.

        Raises:
            CorruptData: it is damaged, or not what such a file holds.
        """
        while data:
            try:
                plain = self._gunzip.decompress(data, _PLAIN_BYTES)
            except zlib.error as error:
                raise CorruptData(f"it cannot be decompressed ({error})") from error
            yield from self._read(plain)
            if self._gunzip.eof:
                if self._gunzip.unused_data:
                    raise CorruptData("something follows its end")
                return
            data = self._gunzip.unconsumed_tail

    def finish(self) -> Block | None:
        """End the file. Returns the last block, if anything is in it.

        Raises:
            CorruptData: it was cut short.
        """
        if not self._gunzip.eof or self._line:
            raise CorruptData("it is cut short")
        return self._block if self._block.size_bytes else None

    def _read(self, plain: bytes) -> Iterator[Block]:
        end = plain.rfind(b"\n") + 1
        if end:
            whole = b"".join((*self._line, memoryview(plain)[:end]))
            self._line, self._line_bytes = [], 0
            try:
                records = _DECODER.decode_lines(whole)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise CorruptData(f"a line cannot be read ({str(error)[:200]})") from error
            yield from self._plan(records)
            plain = plain[end:]
        if plain:
            self._line.append(plain)
            self._line_bytes += len(plain)
            if self._line_bytes > MAX_LINE_BYTES:
                raise CorruptData(f"a line has more than {MAX_LINE_BYTES:,} bytes")

    def _plan(self, records: Sequence[_Record]) -> Iterator[Block]:
        block, limit = self._block, self._block_bytes
        for record in records:
            if record.type == _SEGMENT:
                data = record.payload or b""
                while data:
                    if block.size_bytes >= limit:
                        yield block
                        block = self._block = Block()
                    piece, data = data, b""
                    if len(piece) > limit - block.size_bytes:
                        cut = limit - block.size_bytes
                        piece, data = piece[:cut], piece[cut:]
                    block.segments.append((block.size_bytes, piece))
                    block.size_bytes += len(piece)
            elif record.type == _FILE:
                offset, left = 0, record.size
                if not left:
                    continue
                name = record.name.encode() or record.name_raw
                if not 0 < left <= MAX_FILE_BYTES or not name or len(name) > MAX_NAME_BYTES:
                    raise CorruptData("a file in it has an impossible size or name")
                while left:
                    if block.size_bytes >= limit or len(block.files) >= MAX_FILES:
                        yield block
                        block = self._block = Block()
                    length = min(left, limit - block.size_bytes)
                    block.files.append((block.size_bytes, name, offset, length))
                    block.size_bytes += length
                    offset += length
                    left -= length
            else:
                raise CorruptData(f"it holds something of type {record.type}")
