"""Cut streams into chunks: content-defined for contents, at fixed steps for headers.

The parameters are part of format 1: other cut points would find no chunk that is stored already.
`tests/core/test_chunking.py` pins them. Measured in `docs/architecture.md`, "Chunk size".
"""

from __future__ import annotations

from collections.abc import Sequence

from pyfastcdc import FastCDC

AVERAGE_BYTES = 256 * 1024
MIN_BYTES = AVERAGE_BYTES // 4
MAX_BYTES = AVERAGE_BYTES * 4
HEADER_CHUNK_BYTES = 1 << 20


class ContentCutter:
    """Cut a stream by FastCDC (2020, normalized level 1), whatever pieces it comes in."""

    __slots__ = ("_cdc", "_tail")

    def __init__(self) -> None:
        self._cdc = FastCDC(
            avg_size=AVERAGE_BYTES, min_size=MIN_BYTES, max_size=MAX_BYTES, normalized_chunking=1
        )
        self._tail: bytes | memoryview = b""

    def feed(self, pieces: Sequence[memoryview]) -> list[memoryview]:
        """Take more of the stream. Returns the chunks that are complete."""
        if not pieces:
            return []
        # One copy, which also frees the block that the pieces are views of.
        window = memoryview(b"".join((self._tail, *pieces)))
        start = 0
        chunks: list[memoryview] = []
        if len(window) > MIN_BYTES:
            ends = [chunk.offset + chunk.length for chunk in self._cdc.cut_buf(window)]
            # The last piece ends where the window does: only more bytes tell whether that is a cut.
            for end in ends[:-1]:
                chunks.append(window[start:end])
                start = end
        self._tail = window[start:]
        return chunks

    def finish(self) -> list[memoryview]:
        """End the stream. Returns the last chunk, if any."""
        tail, self._tail = self._tail, b""
        return [memoryview(tail)] if tail else []


class FixedCutter:
    """Cut a stream every `HEADER_CHUNK_BYTES`."""

    __slots__ = ("_size", "_tail")

    def __init__(self) -> None:
        self._tail: list[memoryview | bytes] = []
        self._size = 0

    def feed(self, pieces: Sequence[memoryview]) -> list[memoryview]:
        """Take more of the stream. Returns the chunks that are complete."""
        # Pieces are copied at once: they are views of blocks that are much larger.
        joined = b"".join(pieces)
        self._tail.append(joined)
        self._size += len(joined)
        if self._size < HEADER_CHUNK_BYTES:
            return []
        window = memoryview(b"".join(self._tail))
        whole = len(window) - len(window) % HEADER_CHUNK_BYTES
        self._tail = [bytes(window[whole:])]
        self._size = len(window) - whole
        return [
            window[start : start + HEADER_CHUNK_BYTES]
            for start in range(0, whole, HEADER_CHUNK_BYTES)
        ]

    def finish(self) -> list[memoryview]:
        """End the stream. Returns the last chunk, if any."""
        tail = b"".join(self._tail)
        self._tail, self._size = [], 0
        return [memoryview(tail)] if tail else []
