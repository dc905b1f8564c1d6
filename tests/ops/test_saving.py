"""The level of compression in the pipeline: the slower of network and CPU decides it."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest
from tests.support.stepped import Process, Stage, StagedLoop, SteppedStore

from longshore.core import codec
from longshore.core.compression_level import LADDER, USUAL, Level
from longshore.core.cutting import Cut
from longshore.core.ids import new_id
from longshore.core.sorting import Item
from longshore.ops.packing import PART_BYTES, PackWriter
from longshore.ops.saving import Saved, save_blobs
from longshore.store.memory import MemoryStore

T = TypeVar("T")

NOW = datetime(2026, 11, 1, tzinfo=UTC)
BATCH = memoryview(bytes(2 << 20))
STORED = bytes(1 << 20)  # what a batch is compressed to
BATCHES_OF_PART = PART_BYTES // len(STORED)
WORKERS = 2
SLOTS = 2


class HeldLoop(StagedLoop):
    """An event loop whose threads only finish what a test lets them finish."""

    def __init__(self) -> None:
        super().__init__()
        self.held: deque[Callable[[], None]] = deque()

    def run_in_executor(  # type: ignore[override]  # narrower: all that longshore uses
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()

        def finish() -> None:
            future.set_result(func(*args))

        self.held.append(finish)
        return future


class Pipeline:
    """Batches on their way into a store: nothing is compressed or stored until a test says so."""

    def __init__(self, level: Level, batches: int, *, fed: bool) -> None:
        self.used: list[int] = []
        self._food = asyncio.Semaphore(0 if fed else batches)
        self.stage = Stage()
        self.stage.loop.close()
        self.stage.loop = self._loop = HeldLoop()
        self._store = Process("store")
        self._work = Process("work")
        self.stage.start(self._work, self._save(level, batches))

    async def _save(self, level: Level, batches: int) -> Saved:
        store = SteppedStore(MemoryStore(lambda: NOW), self._store)
        async with PackWriter(
            store,
            project="shop",
            scope="main",
            make_id=lambda: new_id(NOW, os.urandom(10)),
            concurrency=SLOTS,
            sent=lambda _: None,
        ) as packs:
            self._packs = packs
            saved = await save_blobs(self._source(batches), packs, known={}, level=level)
            await packs.finish()
        return saved

    async def _source(self, batches: int) -> AsyncGenerator[Sequence[Item], None]:
        for number in range(batches):
            await self._food.acquire()
            await asyncio.sleep(0)
            yield [Cut(1, number.to_bytes(32, "big"), BATCH)]

    @property
    def is_done(self) -> bool:
        return self._work.is_done

    @property
    def is_compressing(self) -> bool:
        return bool(self._loop.held)

    @property
    def waits(self) -> int:
        """How many parts had to wait for a slot, or do."""
        return self._packs.waits

    def feed(self) -> None:
        """Let the source give one more batch."""
        self._food.release()
        self.stage.settle()

    def compress(self) -> None:
        """Finish the batch that a thread began first."""
        self._loop.held.popleft()()
        self.stage.settle()

    def store(self) -> None:
        """Let the store answer all that waits, but for parts: of these one."""
        self.store_quickly(parts=1)

    def store_quickly(self, parts: int = 1000) -> None:
        while waiting := self._store.wants:
            others = [n for n, what in enumerate(waiting) if what != "upload_part"]
            if not others:
                if not parts:
                    return
                parts -= 1
            self.stage.step(self._store, others[0] if others else 0)


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Pipeline]]:
    begun: list[Pipeline] = []

    def compress(_: memoryview, level: int) -> bytes:
        begun[-1].used.append(level)
        return STORED

    def begin(level: Level = "auto", *, batches: int = 80, fed: bool = False) -> Pipeline:
        begun.append(Pipeline(level, batches, fed=fed))
        return begun[-1]

    monkeypatch.setattr(codec, "compress", compress)
    monkeypatch.setattr(os, "cpu_count", lambda: WORKERS)
    yield begin
    for pipeline in begun:
        pipeline.stage.close()


Begin = Callable[..., Pipeline]


def test_a_store_that_everybody_waits_for_gets_what_is_compressed_harder(begin: Begin) -> None:
    pipeline = begin()

    while not pipeline.is_done:
        while pipeline.is_compressing:  # the threads are done with all long before the next part
            pipeline.compress()
        pipeline.store()

    waited_for = pipeline.used[SLOTS * BATCHES_OF_PART :]
    assert waited_for == sorted(waited_for)
    assert set(waited_for[-BATCHES_OF_PART:]) == {LADDER[-1]}


def test_compression_that_everybody_waits_for_becomes_faster(begin: Begin) -> None:
    pipeline = begin()

    while not pipeline.is_done:
        if pipeline.is_compressing:
            pipeline.compress()
        pipeline.store_quickly()

    assert pipeline.used[:WORKERS] == [USUAL] * WORKERS
    assert set(pipeline.used[WORKERS:]) == {LADDER[0]}


def test_the_level_follows_when_the_store_becomes_slow_and_quick_again(begin: Begin) -> None:
    pipeline = begin(batches=160)
    while len(pipeline.used) < 80:
        while pipeline.is_compressing:
            pipeline.compress()
        pipeline.store()
    assert pipeline.used[-1] == LADDER[-1]
    turn = len(pipeline.used)

    while not pipeline.is_done:
        if pipeline.is_compressing:
            pipeline.compress()
        pipeline.store_quickly()

    assert set(pipeline.used[turn + 2 * BATCHES_OF_PART :]) == {LADDER[0]}


def test_a_source_that_everybody_waits_for_leaves_the_usual_level(begin: Begin) -> None:
    pipeline = begin(fed=True)

    while not pipeline.is_done:
        pipeline.feed()
        while pipeline.is_compressing:
            pipeline.compress()
        pipeline.store_quickly()

    assert set(pipeline.used) == {USUAL}


def test_where_both_wait_the_cpu_is_spared(begin: Begin) -> None:
    pipeline = begin()
    answered = 0

    while not pipeline.is_done:
        if pipeline.is_compressing:
            pipeline.compress()
        # A part is stored as soon as the next one waits, while all threads still have work.
        if pipeline.waits > answered or not pipeline.is_compressing:
            answered = pipeline.waits
            pipeline.store()

    assert max(pipeline.used) == USUAL
    assert pipeline.used[-1] == LADDER[0]


@pytest.mark.parametrize("level", [1, 9, 19])
def test_a_number_is_used_throughout(begin: Begin, level: int) -> None:
    slow_store = begin(level, batches=40)
    while not slow_store.is_done:
        while slow_store.is_compressing:
            slow_store.compress()
        slow_store.store()

    slow_compression = begin(level, batches=40)
    while not slow_compression.is_done:
        if slow_compression.is_compressing:
            slow_compression.compress()
        slow_compression.store_quickly()

    assert set(slow_store.used + slow_compression.used) == {level}
