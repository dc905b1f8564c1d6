"""One blob on its way into the store: hashed, split, cut into named chunks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from blake3 import blake3
from msgspec import Struct

from longshore.core.chunking import ContentCutter, FixedCutter
from longshore.core.digests import Digest
from longshore.core.recipe import Method
from longshore.core.tarsplit import TarSplitter
from longshore.core.tarwalk import BLOCK, header_size

HEADERS = 0  # of a tar; the only stream of a raw blob has this number, too


class Cut(Struct, frozen=True):
    """One chunk of a blob, in plain."""

    stream: int
    id: bytes
    data: memoryview


class BlobFacts(Struct, frozen=True):
    """What is known of a blob once its last byte has passed."""

    digest: Digest
    size_bytes: int
    method: Method
    streams: tuple[tuple[bytes, ...], ...]
    """The ids of each stream's chunks, in order."""


class BlobCutter:
    """Hash, split and cut one blob as its bytes pass.

    A blob that begins with a tar header is split (`core.tarsplit`), any other is one stream.
    """

    __slots__ = ("_content", "_fixed", "_head", "_sha256", "_size", "_splitter", "_streams")

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._head: bytes | None = b""  # the beginning, until it is known whether this is a tar
        self._splitter: TarSplitter | None = None
        self._fixed = FixedCutter()
        self._content = ContentCutter()
        self._streams: tuple[list[bytes], list[bytes]] = ([], [])

    def feed(self, data: memoryview) -> list[Cut]:
        """Take more of the blob. Returns the chunks that are complete."""
        self._sha256.update(data)
        self._size += len(data)
        if self._head is None:
            return self._cut(data)
        self._head += bytes(data[: BLOCK - len(self._head)])
        if len(self._head) < BLOCK:
            return []
        head, self._head = self._head, None
        if header_size(head) is not None:
            self._splitter = TarSplitter()
        earlier = self._size - len(data)
        return (
            [*self._cut(memoryview(head[:earlier])), *self._cut(data)]
            if earlier
            else (self._cut(data))
        )

    def finish(self) -> tuple[list[Cut], BlobFacts]:
        """End the blob. Returns its last chunks, and what it turned out to be."""
        cuts = self._cut(memoryview(self._head)) if self._head else []
        if self._splitter is not None:
            cuts += self._named(HEADERS, self._fixed.finish())
        cuts += self._named(self._payload_stream, self._content.finish())
        facts = BlobFacts(
            digest=Digest("sha256:" + self._sha256.hexdigest()),
            size_bytes=self._size,
            method="raw" if self._splitter is None else "tar",
            streams=tuple(map(tuple, self._streams[: self._payload_stream + 1])),
        )
        return cuts, facts

    @property
    def _payload_stream(self) -> int:
        return 0 if self._splitter is None else 1

    def _cut(self, data: memoryview) -> list[Cut]:
        if self._splitter is None:
            return self._named(0, self._content.feed([data]))
        headers, payloads = self._splitter.feed(data)
        cuts = self._named(HEADERS, self._fixed.feed(headers))
        return cuts + self._named(1, self._content.feed(payloads))

    def _named(self, stream: int, chunks: Sequence[memoryview]) -> list[Cut]:
        cuts = [Cut(stream, blake3(chunk).digest(), chunk) for chunk in chunks]
        self._streams[stream].extend(cut.id for cut in cuts)
        return cuts
