"""Read planned ranges ahead of their use, within a budget of memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import Self

from longshore.core.read_plan import RangeRead
from longshore.ops.tasks import give_up
from longshore.store.contract import Store


class Fetcher:
    """Fetch ranges in the order of the plan, and keep them until they are released.

    Reading ahead stops at `window_bytes`; a range that is asked for is read at once in any case, so
    that no order of use can come to a standstill. Used as an asynchronous context.
    """

    def __init__(
        self,
        store: Store,
        project: str,
        reads: Sequence[RangeRead],
        *,
        window_bytes: int,
        fetched: Callable[[int], None],
    ) -> None:
        self._store = store
        self._project = project
        self._reads = reads
        self._window = window_bytes
        self._fetched = fetched
        self._held = 0
        self._next = 0
        self._tasks: dict[int, asyncio.Task[bytearray]] = {}
        self._released: set[int] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        tasks, self._tasks = self._tasks, {}
        await give_up(tasks.values())

    async def get(self, indexes: Collection[int]) -> dict[int, bytearray]:
        """Return some ranges, as soon as all are there.

        Raises:
            CorruptData: a pack is missing, or ends before its range does.
            StoreError: the store failed.
        """
        for index in indexes:
            self._start(index)
        self._read_ahead()
        return {index: await self._tasks[index] for index in indexes}

    def release(self, index: int) -> None:
        """Say that a range will not be asked for again."""
        del self._tasks[index]
        self._released.add(index)
        self._held -= self._reads[index].length
        self._read_ahead()

    def _read_ahead(self) -> None:
        while self._next < len(self._reads) and (
            self._next in self._tasks
            or self._next in self._released
            or self._held + self._reads[self._next].length <= self._window
        ):
            self._start(self._next)
            self._next += 1

    def _start(self, index: int) -> None:
        if index in self._tasks or index in self._released:
            return
        self._held += self._reads[index].length
        self._tasks[index] = asyncio.create_task(self._read(self._reads[index]))

    async def _read(self, read: RangeRead) -> bytearray:
        data = bytearray()
        await self._store.read(read.pack.key(self._project), read.start, read.length, data)
        self._fetched(read.length)
        return data
