"""Chunks come in the order of their stream, wherever they lie, within a budget of memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from longshore.core import codec
from longshore.core.digests import Digest
from longshore.core.keys import Ref
from longshore.core.read_plan import plan_reads
from longshore.core.recipe import Chunk, Recipe
from longshore.ops import rebuilding
from longshore.ops.fetching import Fetcher
from longshore.ops.rebuilding import ChunkStream
from longshore.store.memory import MemoryStore

PACKS = [Ref("main", f"019424f8-632e-7001-8203-04050607080{n}") for n in range(3)]
DIGEST = Digest("sha256:" + "0" * 64)
RANGE, GAP = 600, 40


@pytest.fixture(autouse=True, scope="module")
def small_batches() -> Iterator[None]:
    """Have several batches in a segment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rebuilding, "_BATCH_BYTES", 300)
        yield


def put_pack(store: MemoryStore, pack: Ref, contents: list[bytes]) -> list[tuple[Chunk, bytes]]:
    """Store contents as chunks of one pack."""
    data = b""
    chunks: list[tuple[Chunk, bytes]] = []
    for plain in contents:
        stored = codec.compress(plain, 1)
        chunk = Chunk(blake3(plain).digest(), len(plain), pack, len(data), len(stored))
        chunks.append((chunk, plain))
        data += stored
    asyncio.run(store.put(pack.key("shop"), data))
    return chunks


async def read_stream(
    store: MemoryStore, chunks: list[Chunk], window_bytes: int
) -> tuple[list[bytes], int, int]:
    """Read chunks; tell their bytes, the most that was held, and how many reads it took."""
    recipe = Recipe(DIGEST, sum(c.plain_bytes for c in chunks), "raw", (tuple(chunks),))
    plan = plan_reads([recipe], max_range_bytes=RANGE, max_gap_bytes=GAP)
    fetched: list[int] = []
    most = 0
    found: list[bytes] = []
    async with (
        Fetcher(
            store, "shop", plan.reads, window_bytes=window_bytes, fetched=fetched.append
        ) as fetcher,
        ChunkStream(store, "shop", plan.blobs[0].streams[0], fetcher) as stream,
    ):
        while len(found) < len(chunks):
            found += await stream.next()
            most = max(most, fetcher._held)
        assert fetcher._held == 0
        assert fetcher._tasks == {}
    assert sum(fetched) == plan.read_bytes  # each range once
    return found, most, len(fetched)


# What does not compress, so that segments and batches get full.
noise = st.builds(
    lambda seed, size: Random(seed).randbytes(size),
    st.integers(0, 99),
    st.sampled_from([1, 60, 150, 250]),
)
contents = st.lists(noise, min_size=1, max_size=12)


@given(st.lists(contents, min_size=1, max_size=3), st.data(), st.sampled_from([0, RANGE, 10**6]))
def test_chunks_of_several_packs_come_in_order_and_each_range_is_let_go(
    packs: list[list[bytes]], data: st.DataObject, window_bytes: int
) -> None:
    store = MemoryStore(lambda: datetime(2026, 3, 1, 12, tzinfo=UTC))
    there: list[tuple[Chunk, bytes]] = []
    for pack, plain in zip(PACKS, packs, strict=False):
        there += put_pack(store, pack, plain)
    picked = data.draw(st.lists(st.sampled_from(there), min_size=1, max_size=60))

    found, most, _ = asyncio.run(read_stream(store, [chunk for chunk, _ in picked], window_bytes))

    assert found == [plain for _, plain in picked]
    # The window, the segment in use, and the one whose first chunks are opened ahead.
    assert most <= window_bytes + 2 * RANGE


def test_layers_whose_chunks_take_turns_between_packs_need_few_reads() -> None:
    store = MemoryStore(lambda: datetime(2026, 3, 1, 12, tzinfo=UTC))
    old = put_pack(store, PACKS[0], [b"old %d" % number for number in range(10)])
    new = put_pack(store, PACKS[1], [b"new %d" % number for number in range(10)])
    stream = [one for pair in zip(old, new, strict=True) for one in pair]

    found, _, reads = asyncio.run(read_stream(store, [chunk for chunk, _ in stream], 10**6))

    assert found == [plain for _, plain in stream]
    assert reads == 2
