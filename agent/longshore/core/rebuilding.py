"""Rebuild one blob from its chunks, and trust nothing before it is checked."""

from __future__ import annotations

import hashlib

from blake3 import blake3

from longshore.core import codec
from longshore.core.cutting import HEADERS
from longshore.core.recipe import Chunk, Recipe
from longshore.core.tarsplit import TarJoiner
from longshore.errors import CorruptData


def open_chunk(chunk: Chunk, stored: memoryview) -> bytes:
    """Decompress a chunk, and check that it is the one.

    Raises:
        CorruptData: it is damaged, or another one.
    """
    plain = codec.decompress(stored, limit_bytes=chunk.plain_bytes)
    if len(plain) != chunk.plain_bytes or blake3(plain).digest() != chunk.id:
        raise CorruptData("a chunk does not match its BLAKE3")
    return plain


class BlobBuilder:
    """Put the chunks of a blob together again, in the order in which it asks for them.

    What `feed` adds has to be taken with `take` before `finish`.
    """

    __slots__ = ("_joiner", "_left", "_pieces", "_recipe", "_sha256", "_size")

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._joiner = TarJoiner() if recipe.method == "tar" else None
        self._left = [len(stream) for stream in recipe.streams]
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._pieces: list[memoryview] = []

    def next_stream(self) -> int | None:
        """Tell of which stream the next chunk is needed; `None` once the blob is complete.

        Raises:
            CorruptData: the streams do not fit together. Whatever is asked for can be put out at
                once, so a recipe that is made up cannot pile anything up here.
        """
        wanted = 1 if self._joiner is not None and self._joiner.wants_payload else 0
        if self._left[wanted]:
            return wanted
        if any(self._left):
            raise CorruptData(
                f"the header and payload streams of {self._recipe.digest} do not fit together"
            )
        return None

    def feed(self, stream: int, plain: bytes) -> int:
        """Take the next chunk of a stream. Returns how many bytes of the blob it made known."""
        self._left[stream] -= 1
        if self._joiner is None:
            pieces = [memoryview(plain)]
        elif stream == HEADERS:
            pieces = self._joiner.feed_header(plain)
        else:
            pieces = self._joiner.feed_payload(plain)
        self._pieces += pieces
        return sum(map(len, pieces))

    def take(self) -> bytes:
        """Return the bytes that became known since it was called last.

        They are hashed in one go, not in pieces of a file each: a hash lets other threads have
        Python's lock, and to get it back for each piece takes longer than to hash it.
        """
        block = b"".join(self._pieces)
        self._pieces.clear()
        self._sha256.update(block)
        self._size += len(block)
        return block

    def finish(self) -> None:
        """Check the whole. Nothing of the blob may count before.

        Raises:
            CorruptData: it is not the blob that it should be.
        """
        if self._joiner is not None:
            try:
                self._joiner.finish()
            except CorruptData as error:
                raise CorruptData(f"{self._recipe.digest} cannot be joined: {error}") from None
        digest = "sha256:" + self._sha256.hexdigest()
        if self._size != self._recipe.size_bytes or digest != self._recipe.digest:
            raise CorruptData(
                f"a layer was rebuilt as {digest} ({self._size:,} bytes),"
                f" not as {self._recipe.digest} ({self._recipe.size_bytes:,} bytes)"
            )
