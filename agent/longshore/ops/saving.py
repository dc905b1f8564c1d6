"""From what the engine holds to packs: a pipeline in which every stage is bounded.

    source → block → hash, cut (a thread) → compress (threads) → place, upload (asyncio)

The source is the engine's archive, which is read one block ahead, or its disk
(`ops/direct.py`). Chunks are compressed in batches, as many at once as there are
cores, and placed in the order in which they were cut, headers behind the contents of their layer,
so that a reader finds in a row what it needs in a row.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct, field

from longshore.core import codec
from longshore.core.compression_level import AdaptiveLevel, Level
from longshore.core.cutting import HEADERS, BlobFacts, Cut
from longshore.core.recipe import Chunk, Recipe
from longshore.core.sorting import BlobDone, Item, Sorter
from longshore.ops.packing import PackWriter
from longshore.ops.report import Report
from longshore.ops.streams import one_ahead
from longshore.ops.tasks import side_by_side

MAX_WORKERS = 4  # at level 3 they outrun any engine, and each holds a batch in memory
_BATCH_BYTES = 2 << 20
_MAX_HELD_BYTES = 8 << 20  # of compressed headers that wait for the end of their layer


class _Batch(Struct):
    """Chunks that are compressed together, or the end of a blob."""

    cuts: list[Cut] = field(default_factory=list)
    plain_bytes: int = 0
    ends_blob: bool = False
    stored: asyncio.Future[list[bytes]] | None = None


class Saved(Struct, frozen=True):
    """What became of blobs: a recipe for each that passed, and all chunks that were placed."""

    recipes: list[Recipe]
    chunks: dict[bytes, Chunk]


async def cut_archive(
    archive: AsyncGenerator[bytes, None], sorter: Sorter, report: Report
) -> AsyncGenerator[Sequence[Item], None]:
    """Take an archive apart as it arrives.

    Raises:
        EngineError: it is broken or cut short.
    """
    async with contextlib.aclosing(one_ahead(archive)) as blocks:
        async for block in blocks:
            yield await asyncio.to_thread(sorter.feed, block)
            report.advance(len(block))
    yield await asyncio.to_thread(sorter.finish)


async def save_blobs(
    source: AsyncGenerator[Sequence[Item], None],
    packs: PackWriter,
    *,
    known: Mapping[bytes, Chunk],
    level: Level,
) -> Saved:
    """Store the chunks that some blobs are made of.

    Args:
        source: new chunks, and which blobs ended behind them; it is closed in the end.
        level: what zstd does to all chunks; if it is `auto`, whatever is idle does more, the
            network or the CPU.

    Returns:
        What is stored once `packs.finish()` has returned.

    Raises:
        EngineError: the source failed. What was placed stays unreferenced.
    """
    workers = min(os.cpu_count() or 1, MAX_WORKERS)
    new: dict[bytes, Chunk] = {}
    done: list[BlobFacts] = []
    queue: asyncio.Queue[_Batch | None] = asyncio.Queue(maxsize=workers + 1)
    with ThreadPoolExecutor(workers, "compress") as pool:
        busy = 0
        compression_waited = store_waited = False  # since the last batch was handed over
        levels = AdaptiveLevel(level)

        def one_less(_: object) -> None:
            nonlocal busy
            busy -= 1

        async def hand_over(batch: _Batch) -> None:
            nonlocal busy, compression_waited, store_waited
            loop = asyncio.get_running_loop()
            # While a part is filled all threads may be busy, and stand still when it has to wait:
            # they are what is lacking only if the store has room.
            compression_waited |= busy >= workers and packs.has_room
            chosen = levels.next(compression=compression_waited, store=store_waited)
            compression_waited = store_waited = False
            batch.stored = loop.run_in_executor(pool, _compress, batch.cuts, chosen)
            busy += 1
            batch.stored.add_done_callback(one_less)
            await queue.put(batch)

        async def cut() -> None:
            batch = _Batch()
            async with contextlib.aclosing(source):
                async for items in source:
                    for item in items:
                        if isinstance(item, Cut):
                            batch.cuts.append(item)
                            batch.plain_bytes += len(item.data)
                        else:
                            batch.ends_blob = True
                            if isinstance(item, BlobDone):
                                done.append(item.facts)
                        if batch.ends_blob or batch.plain_bytes >= _BATCH_BYTES:
                            await hand_over(batch)
                            batch = _Batch()
            await queue.put(None)

        async def place() -> None:
            async def add(cut: Cut, stored: bytes) -> None:
                nonlocal compression_waited, store_waited
                waits = packs.waits
                pack, offset = await packs.add(stored)
                if packs.waits > waits:
                    store_waited = True
                    compression_waited |= busy >= workers  # even now: threads had no rest
                new[cut.id] = Chunk(cut.id, len(cut.data), pack, offset, len(stored))

            held: list[tuple[Cut, bytes]] = []
            while (batch := await queue.get()) is not None:
                assert batch.stored is not None
                for one, stored in zip(batch.cuts, await batch.stored, strict=True):
                    if one.stream == HEADERS:
                        held.append((one, stored))
                    else:
                        await add(one, stored)
                if batch.ends_blob or sum(len(stored) for _, stored in held) > _MAX_HELD_BYTES:
                    for one, stored in held:
                        await add(one, stored)
                    held.clear()

        async with side_by_side() as group:
            group.create_task(cut())
            group.create_task(place())
    return Saved([_recipe(facts, new, known) for facts in done], new)


def _compress(cuts: list[Cut], level: int) -> list[bytes]:
    return [codec.compress(cut.data, level) for cut in cuts]


def _recipe(facts: BlobFacts, new: Mapping[bytes, Chunk], known: Mapping[bytes, Chunk]) -> Recipe:
    streams = tuple(
        tuple(new[chunk] if chunk in new else known[chunk] for chunk in stream)
        for stream in facts.streams
    )
    return Recipe(facts.digest, facts.size_bytes, facts.method, streams)
