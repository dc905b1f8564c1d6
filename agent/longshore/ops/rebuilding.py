"""From packs to an archive for the engine: fetch, check, join, in order and within a budget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from longshore.core.archive import TRAILER, blob_name, member_header, padding, small_member
from longshore.core.digests import Digest
from longshore.core.read_plan import BlobPlan, plan_reads
from longshore.core.rebuilding import BlobBuilder, open_chunk
from longshore.core.recipe import Chunk, Recipe
from longshore.errors import CorruptData
from longshore.ops.fetching import Fetcher
from longshore.store.contract import Store

RANGE_BYTES = 8 << 20
GAP_BYTES = 128 << 10
_BLOCK_BYTES = 1 << 20


async def build_archive(
    store: Store,
    project: str,
    *,
    files: Sequence[tuple[str, bytes]],
    recipes: Sequence[Recipe],
    window_bytes: int,
    fetched: Callable[[int], None],
) -> AsyncGenerator[bytes, None]:
    """Build an archive of small files and rebuilt blobs, in blocks of about 1 MiB.

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
    plan = plan_reads(recipes, max_range_bytes=RANGE_BYTES, max_gap_bytes=GAP_BYTES)
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
    builder = BlobBuilder(blob.recipe)
    positions = [0] * len(blob.streams)
    pending: list[memoryview] = []
    pending_bytes = 0
    while (stream := builder.next_stream()) is not None:
        planned = blob.streams[stream][positions[stream]]
        positions[stream] += 1
        read = await fetcher.get(planned.read)
        stored = memoryview(read)[planned.at : planned.at + planned.chunk.stored_bytes]

        try:
            pieces = await asyncio.to_thread(_step, builder, stream, planned.chunk, stored)
        except CorruptData as error:
            url = store.url(planned.chunk.pack.key(project))
            raise CorruptData(f"{url}: at byte {planned.chunk.offset}: {error}") from error
        following = positions[stream]
        rest = blob.streams[stream]
        if following == len(rest) or rest[following].read != planned.read:
            fetcher.release(planned.read)
        pending += pieces
        pending_bytes += sum(map(len, pieces))
        if pending_bytes >= _BLOCK_BYTES:
            yield b"".join(pending)
            pending.clear()
            pending_bytes = 0
    builder.finish()
    if pending:
        yield b"".join(pending)


def _step(builder: BlobBuilder, stream: int, chunk: Chunk, stored: memoryview) -> list[memoryview]:
    return builder.feed(stream, open_chunk(chunk, stored))
