"""How to rebuild one blob bit for bit from chunks in packs.

A `tar` recipe has two streams, headers and payload (`core.tarsplit`); a `raw` one has one.
Columns instead of one object a chunk keep the document small.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from longshore.core import documents
from longshore.core.chunking import MAX_BYTES
from longshore.core.digests import Digest, hex_of, parse_digest
from longshore.core.keys import Ref
from longshore.errors import CorruptData, StoreError

Method = Literal["tar", "raw"]

CODEC = "zstd"
PACK_BYTES = 64 << 20
MAX_STORED_CHUNK_BYTES = MAX_BYTES + (1 << 16)  # zstd adds a few bytes to what cannot be compressed
MAX_FRAME_BYTES = 4 << 10  # so many at most (zstd's own bound); or a byte could cost a megabyte
MAX_CHUNKS = 150_000  # of a blob: 50 GB, at 340 KiB each
MAX_BLOB_BYTES = 1 << 42
CHUNK_ID_BYTES = 32


class Chunk(Struct, frozen=True):
    """One chunk and where it is stored."""

    id: bytes
    """BLAKE3 of the plain bytes, 32 bytes."""
    plain_bytes: int
    pack: Ref
    offset: int
    stored_bytes: int


class Recipe(Struct, frozen=True):
    """How to rebuild one blob: the chunks of each of its streams, in order."""

    digest: Digest
    size_bytes: int
    method: Method
    streams: tuple[tuple[Chunk, ...], ...]

    @property
    def packs(self) -> tuple[Ref, ...]:
        """The packs that it needs, in the order of first use."""
        return tuple(dict.fromkeys(chunk.pack for stream in self.streams for chunk in stream))

    def pack_ends(self) -> dict[Ref, int]:
        """Tell how long each pack has to be for what this needs of it."""
        ends: dict[Ref, int] = {}
        end = 0
        before: Ref | None = None
        for stream in self.streams:
            for chunk in stream:
                # A dictionary for each chunk would take ten times as long, in every export.
                if chunk.pack is not before:
                    before, end = chunk.pack, ends.get(chunk.pack, 0)
                reached = chunk.offset + chunk.stored_bytes
                if reached > end:
                    end = ends[chunk.pack] = reached
        return ends

    @property
    def stored_bytes(self) -> int:
        """What its chunks weigh in their packs."""
        return sum(chunk.stored_bytes for stream in self.streams for chunk in stream)


class _Stream(Struct):
    pack: list[int]
    offset: list[int]
    stored: list[int]
    plain: list[int]
    blake3: str


class _Document(Struct):
    format: int
    requires: list[str]
    digest: str
    size: int
    method: str
    codec: str
    refs: list[tuple[str, str]]
    streams: list[_Stream]


def encode_recipe(recipe: Recipe) -> bytes:
    """Write a recipe as it is stored.

    Raises:
        StoreError: it is larger than readers accept.
    """
    if (chunks := sum(map(len, recipe.streams))) > MAX_CHUNKS:
        raise StoreError(
            f"the layer {recipe.digest} is too large to be cached: it has {chunks:,} chunks, and"
            f" readers accept {MAX_CHUNKS:,}"
        )
    packs = recipe.packs
    numbers = {pack: number for number, pack in enumerate(packs)}
    return documents.encode(
        _Document(
            format=documents.FORMAT,
            requires=[],
            digest=recipe.digest,
            size=recipe.size_bytes,
            method=recipe.method,
            codec=CODEC,
            refs=documents.write_refs(packs),
            streams=[
                _Stream(
                    pack=[numbers[chunk.pack] for chunk in stream],
                    offset=[chunk.offset for chunk in stream],
                    stored=[chunk.stored_bytes for chunk in stream],
                    plain=[chunk.plain_bytes for chunk in stream],
                    blake3=documents.to_base64(b"".join(chunk.id for chunk in stream)),
                )
                for stream in recipe.streams
            ],
        )
    )


def decode_recipe(stored: bytes, ref: Ref) -> Recipe:
    """Read a recipe that was stored under `ref`.

    Raises:
        UnsupportedFormat: a newer longshore wrote it.
        CorruptData: it is damaged, makes no sense, or is not the one that its name says.
    """
    document = documents.decode(stored, _Document)
    digest = parse_digest(document.digest)
    if hex_of(digest) != ref.id.partition(".")[0]:
        raise CorruptData("the recipe is for another blob than its name says")
    if document.codec != CODEC or document.method not in ("tar", "raw"):
        raise CorruptData("the recipe has an unknown method or codec")
    packs = documents.read_refs(document.refs)
    if any(pack.is_recipe for pack in packs):
        raise CorruptData("the recipe names a recipe where a pack belongs")
    if sum(len(stream.pack) for stream in document.streams) > MAX_CHUNKS:
        raise CorruptData(f"the recipe has more than the {MAX_CHUNKS:,} chunks allowed")
    streams = tuple(_chunks(stream, packs) for stream in document.streams)
    if len(streams) != (2 if document.method == "tar" else 1):
        raise CorruptData("the recipe has a wrong number of streams")
    if not 0 <= document.size <= MAX_BLOB_BYTES:
        raise CorruptData("the recipe claims a size that no layer has")
    if document.size != sum(chunk.plain_bytes for stream in streams for chunk in stream):
        raise CorruptData("the chunks of the recipe do not add up to its size")
    return Recipe(digest, document.size, document.method, streams)  # type: ignore[arg-type]


def _chunks(stream: _Stream, packs: tuple[Ref, ...]) -> tuple[Chunk, ...]:
    ids = documents.from_base64(stream.blake3)
    try:
        rows = list(zip(stream.pack, stream.offset, stream.stored, stream.plain, strict=True))
    except ValueError:
        raise CorruptData("the columns of the recipe differ in length") from None
    if len(ids) != CHUNK_ID_BYTES * len(rows):
        raise CorruptData("the columns of the recipe differ in length")
    chunks: list[Chunk] = []
    for number, (pack, offset, stored, plain) in enumerate(rows):
        if not (
            0 <= pack < len(packs)
            and offset >= 0
            and 0 < plain <= MAX_BYTES
            and 0 < stored <= min(plain + MAX_FRAME_BYTES, MAX_STORED_CHUNK_BYTES)
            and offset + stored <= PACK_BYTES
        ):
            raise CorruptData(f"chunk {number} of the recipe lies outside of what a pack can hold")
        start = number * CHUNK_ID_BYTES
        chunk_id = ids[start : start + CHUNK_ID_BYTES]
        chunks.append(Chunk(chunk_id, plain, packs[pack], offset, stored))
    return tuple(chunks)
