"""Read chunks to see whether they are sound: those of a blob in its order, or any, one by one."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct, field

from longshore.core import codec
from longshore.core.gc_documents import ObjectName, name_of_ref, object_key
from longshore.core.read_plan import group_chunks, plan_reads
from longshore.core.rebuild_plan import RebuildPlan
from longshore.core.rebuilding import BlobBuilder, open_chunk
from longshore.core.recipe import Chunk, Recipe
from longshore.errors import CorruptData, ObjectMissing
from longshore.ops.fetching import Fetcher
from longshore.ops.rebuilding import GAP_BYTES, RANGE_BYTES, ChunkStream
from longshore.store.contract import Store

_JOINED_AT_ONCE = 2 << 20

Open = Callable[[Chunk, memoryview], bytes]


def open_unnamed(chunk: Chunk, stored: memoryview) -> bytes:
    """Decompress a chunk, whatever its name.

    Raises:
        CorruptData: it is damaged, or of another size.
    """
    plain = codec.decompress(stored, limit_bytes=chunk.plain_bytes)
    if len(plain) != chunk.plain_bytes:
        raise CorruptData("a chunk has another size than its recipe says")
    return plain


async def rebuild(
    store: Store,
    project: str,
    plan: RebuildPlan,
    recipe: Recipe,
    window_bytes: int,
    fetched: Callable[[int], None],
    *,
    open_one: Open = open_chunk,
) -> None:
    """Rebuild a blob, and throw it away.

    Raises:
        CorruptData: it cannot be rebuilt, or is not what it should be.
        StoreError: the store failed.
    """
    kept: dict[Chunk, bytes] = {}
    for chunk in plan.kept:
        data = bytearray()
        await store.read(chunk.pack.key(project), chunk.offset, chunk.stored_bytes, data)
        fetched(chunk.stored_bytes)
        kept[chunk] = await asyncio.to_thread(open_one, chunk, memoryview(data))
    reads = plan_reads([plan.rest], max_range_bytes=RANGE_BYTES, max_gap_bytes=GAP_BYTES)
    blob = _Joining(recipe, kept)
    async with contextlib.AsyncExitStack() as opened:
        fetcher = await opened.enter_async_context(
            Fetcher(store, project, reads.reads, window_bytes=window_bytes, fetched=fetched)
        )
        streams = [
            await opened.enter_async_context(
                ChunkStream(store, project, segments, fetcher, open_one)
            )
            for segments in reads.blobs[0].streams
        ]
        while (wanted := blob.wanted()) is not None:
            if blob.lacks(wanted):
                blob.ready[wanted].extend(await streams[wanted].next())
            await asyncio.to_thread(blob.join)
    blob.finish()


class _Joining:
    """A blob that is put together from chunks that are kept, and others as they come."""

    def __init__(self, recipe: Recipe, kept: Mapping[Chunk, bytes]) -> None:
        self._builder = BlobBuilder(recipe)
        self._kept = kept
        self._order = [deque(stream) for stream in recipe.streams]
        self.ready: list[deque[bytes]] = [deque() for _ in recipe.streams]

    def wanted(self) -> int | None:
        """Tell of which stream the next chunk is needed; `None` once the blob is complete."""
        return self._builder.next_stream()

    def lacks(self, stream: int) -> bool:
        """Tell whether the next chunk of a stream is not at hand."""
        return not self.ready[stream] and self._order[stream][0] not in self._kept

    def join(self) -> None:
        """Join what is at hand."""
        size = 0
        while size < _JOINED_AT_ONCE:
            wanted = self.wanted()
            if wanted is None or self.lacks(wanted):
                break
            plain = self._kept.get(self._order[wanted].popleft())
            if plain is None:
                plain = self.ready[wanted].popleft()
            size += self._builder.feed(wanted, plain)
        self._builder.take()

    def finish(self) -> None:
        """Check the whole."""
        self._builder.finish()


class ReadChunks(Struct):
    """Chunks that were read one by one.

    Attributes:
        bad: those that are not what they should be, and why.
        missing: packs that are not there.
        only_misnamed: all that is bad can be decompressed, to as many bytes as it should be.
    """

    sound: set[Chunk] = field(default_factory=set)
    bad: dict[Chunk, str] = field(default_factory=dict)
    missing: set[ObjectName] = field(default_factory=set)
    only_misnamed: bool = True


async def read_chunks(
    store: Store, project: str, chunks: Collection[Chunk], fetched: Callable[[int], None]
) -> ReadChunks:
    """Read chunks as they lie in their packs, each range once, whoever names it how often.

    Raises:
        StoreError: the store failed.
    """
    found = ReadChunks()
    by_pack: dict[ObjectName, list[Chunk]] = {}
    for chunk in chunks:
        by_pack.setdefault(name_of_ref(chunk.pack), []).append(chunk)
    for pack in sorted(by_pack):
        groups = group_chunks(by_pack[pack], max_range_bytes=RANGE_BYTES, max_gap_bytes=GAP_BYTES)
        for group in groups:
            if pack not in found.missing:
                await _read_group(store, object_key(project, pack), pack, group, found, fetched)
    return found


async def _read_group(
    store: Store,
    key: str,
    pack: ObjectName,
    group: Sequence[Chunk],
    found: ReadChunks,
    fetched: Callable[[int], None],
) -> None:
    start = group[0].offset
    end = max(chunk.offset + chunk.stored_bytes for chunk in group)
    data = bytearray()
    try:
        await store.read(key, start, end - start, data)
    except ObjectMissing:
        found.missing.add(pack)
        return
    except CorruptData:  # it ends before; what there is, is looked at
        info = await store.head(key)
        end = max(start, info.size_bytes) if info is not None else start
        if end > start + len(data):
            with contextlib.suppress(CorruptData):
                await store.read(key, start, end - start, data)
    fetched(len(data))
    await asyncio.to_thread(_open_group, group, memoryview(data), start, found)


def _open_group(group: Sequence[Chunk], data: memoryview, start: int, found: ReadChunks) -> None:
    for chunk in group:
        stored = data[chunk.offset - start : chunk.offset - start + chunk.stored_bytes]
        if len(stored) < chunk.stored_bytes:
            found.bad[chunk] = "the pack ends before"
            found.only_misnamed = False
            continue
        try:
            open_chunk(chunk, stored)
        except CorruptData as error:
            found.bad[chunk] = str(error)
            try:
                open_unnamed(chunk, stored)
            except CorruptData:
                found.only_misnamed = False
        else:
            found.sound.add(chunk)
