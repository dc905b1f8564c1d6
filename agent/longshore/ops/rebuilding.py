"""From packs to an archive for the engine: fetch, check, join, in order and within a budget."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import (
    AsyncGenerator,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from types import TracebackType
from typing import Self

from msgspec import Struct, field

from longshore.core.archive import TRAILER, blob_name, member_header, padding, small_member
from longshore.core.digests import Digest
from longshore.core.read_plan import BlobPlan, PlannedChunk, Segment, plan_reads
from longshore.core.rebuilding import BlobBuilder, open_chunk
from longshore.core.recipe import Chunk, Recipe
from longshore.errors import CorruptData
from longshore.ops.fetching import Fetcher
from longshore.ops.tasks import give_up
from longshore.store.contract import Store

RANGE_BYTES = 8 << 20
GAP_BYTES = 128 << 10
_BLOCK_BYTES = 2 << 20
_BATCH_BYTES = 2 << 20


async def build_archive(
    store: Store,
    project: str,
    *,
    files: Sequence[tuple[str, bytes]],
    recipes: Sequence[Recipe],
    window_bytes: int,
    fetched: Callable[[int], None],
) -> AsyncGenerator[bytes, None]:
    """Build an archive of small files and rebuilt blobs, in blocks of up to about 3 MiB.

    The end-of-archive marker comes only after every blob has been checked, so a wrong byte
    anywhere breaks the archive off before the engine can take it for whole.

    Args:
        files: name and content of the small members.
        recipes: of the blobs, which become `blobs/sha256/<digest>`.
        window_bytes: how much to read ahead, as stored.
        fetched: called with the bytes of each range that has arrived.

    Raises:
        CorruptData: an object is missing or damaged; the message names it.
        StoreError: the store failed.
    """
    for name, data in files:
        yield small_member(name, data)
    plan = await asyncio.to_thread(
        plan_reads, recipes, max_range_bytes=RANGE_BYTES, max_gap_bytes=GAP_BYTES
    )
    async with Fetcher(
        store, project, plan.reads, window_bytes=window_bytes, fetched=fetched
    ) as fetcher:
        for blob in plan.blobs:
            digest, size = Digest(blob.recipe.digest), blob.recipe.size_bytes
            yield member_header(blob_name(digest), size)
            async for block in _blob(store, project, blob, fetcher):
                yield block
            yield padding(size)
    yield TRAILER


async def _blob(
    store: Store, project: str, blob: BlobPlan, fetcher: Fetcher
) -> AsyncGenerator[bytes, None]:
    """Rebuild one blob: its chunks are opened in one thread while others are joined in another."""
    builder = BlobBuilder(blob.recipe)
    ready: list[deque[bytes]] = [deque() for _ in blob.streams]
    async with contextlib.AsyncExitStack() as open_streams:
        streams = [
            await open_streams.enter_async_context(ChunkStream(store, project, segments, fetcher))
            for segments in blob.streams
        ]
        while (wanted := builder.next_stream()) is not None:
            if not ready[wanted]:
                ready[wanted].extend(await streams[wanted].next())
            yield await asyncio.to_thread(_join, builder, ready)
    builder.finish()


def _join(builder: BlobBuilder, ready: Sequence[deque[bytes]]) -> bytes:
    """Join what is ready, until a chunk is needed that is not."""
    size = 0
    while size < _BLOCK_BYTES:
        wanted = builder.next_stream()
        if wanted is None or not ready[wanted]:
            break
        size += builder.feed(wanted, ready[wanted].popleft())
    return builder.take()


class ChunkStream:
    """The chunks of one stream, opened a batch ahead of their use.

    Args:
        open_one: decompresses and checks a chunk.
    """

    def __init__(
        self,
        store: Store,
        project: str,
        segments: Sequence[Segment],
        fetcher: Fetcher,
        open_one: Callable[[Chunk, memoryview], bytes] = open_chunk,
    ) -> None:
        self._open_one = open_one
        self._store = store
        self._project = project
        self._fetcher = fetcher
        self._batches = deque(_batches(segments))
        self._ahead: asyncio.Task[list[bytes]] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._ahead is not None:
            await give_up([self._ahead])

    async def next(self) -> list[bytes]:
        """Return the next chunks in plain; there has to be one."""
        opened = self._ahead or asyncio.create_task(self._open(self._batches.popleft()))
        self._ahead = opened
        chunks = await opened
        self._ahead = None
        if self._batches:
            self._ahead = asyncio.create_task(self._open(self._batches.popleft()))
        return chunks

    async def _open(self, batch: _Batch) -> list[bytes]:
        reads = await self._fetcher.get(batch.reads)
        chunks = await asyncio.to_thread(self._open_all, batch.planned, reads)
        for read in batch.last_of:
            self._fetcher.release(read)
        return chunks

    def _open_all(
        self, batch: Sequence[PlannedChunk], reads: Mapping[int, bytearray]
    ) -> list[bytes]:
        views = {read: memoryview(data) for read, data in reads.items()}
        chunks: list[bytes] = []
        for planned in batch:
            chunk = planned.chunk
            try:
                stored = views[planned.read][planned.at : planned.at + chunk.stored_bytes]
                chunks.append(self._open_one(chunk, stored))
            except CorruptData as error:
                url = self._store.url(chunk.pack.key(self._project))
                raise CorruptData(f"{url}: at byte {chunk.offset}: {error}") from error
        return chunks


class _Batch(Struct):
    """Chunks that are opened in one hop to a thread.

    Attributes:
        reads: those that they lie in.
        last_of: the reads of which nothing is needed after this batch.
    """

    planned: Sequence[PlannedChunk]
    reads: Collection[int]
    last_of: list[int] = field(default_factory=list)


def _batches(segments: Sequence[Segment]) -> Iterator[_Batch]:
    for segment in segments:
        batches: list[_Batch] = []
        begin = size = 0
        for index, one in enumerate(segment):
            if size and size + one.chunk.plain_bytes > _BATCH_BYTES:
                batches.append(_batch(segment[begin:index]))
                begin, size = index, 0
            size += one.chunk.plain_bytes
        batches.append(_batch(segment[begin:]))
        last = {read: batch for batch in batches for read in batch.reads}
        for read, batch in last.items():
            batch.last_of.append(read)
        yield from batches


def _batch(planned: Sequence[PlannedChunk]) -> _Batch:
    return _Batch(planned, dict.fromkeys(one.read for one in planned))
