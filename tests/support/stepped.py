"""Run several processes against one store, one store call at a time, in an order that a test picks.

Nothing runs by itself: a process goes on to its next call when the test says so, sees the time that
the test set, and can be killed between any two calls.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from longshore.store.contract import (
    Guard,
    ObjectInfo,
    PendingUpload,
    Store,
    StoredObject,
    Upload,
    UploadedPart,
)

T = TypeVar("T")


class StagedLoop(asyncio.SelectorEventLoop):
    """An event loop that does at once, in its own thread, what is meant for others."""

    def run_in_executor(  # type: ignore[override]  # narrower: all that longshore uses
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # whatever it is, it belongs to who waits
            future.set_exception(error)
        return future


@dataclass(eq=False)
class Process:
    """Something that uses the store: its task, and its calls that wait to be let through."""

    name: str
    task: asyncio.Task[Any] | None = None
    waiting: deque[tuple[str, asyncio.Future[None]]] = field(default_factory=deque)
    calls: int = 0

    @property
    def wants(self) -> list[str]:
        """What its calls are that wait: `put shop/…`, `list …`, `now`."""
        return [what for what, _ in self.waiting]

    @property
    def is_done(self) -> bool:
        return self.task is not None and self.task.done()


class Stage:
    """An event loop that only runs until all processes wait."""

    def __init__(self) -> None:
        self.loop = StagedLoop()

    def start(self, process: Process, work: Coroutine[Any, Any, Any]) -> None:
        """Let a process run to its first call."""
        process.task = self.loop.create_task(work)
        self.settle()

    def step(self, process: Process, which: int = 0) -> None:
        """Let one call of a process through, and run until it waits again or has ended."""
        assert process.waiting, f"{process.name} waits for something else than the store"
        process.waiting.rotate(-(which % len(process.waiting)))
        process.waiting.popleft()[1].set_result(None)
        process.calls += 1
        self.settle()

    def kill(self, process: Process) -> None:
        """End a process here and now: what waits never reaches the store."""
        assert process.task is not None
        process.task.cancel()
        self.settle()
        while not process.task.done():  # it cleans up; a killed one would not, so nothing arrives
            for _, call in process.waiting:
                call.cancel()
            process.waiting.clear()
            self.settle()

    def finish(self, process: Process) -> None:
        """Let all calls of a process through, until it has ended."""
        while not process.is_done:
            self.step(process)

    def run(self, work: Awaitable[T]) -> T:
        """Run something that needs no steps."""
        return self.loop.run_until_complete(asyncio.wait_for(work, None))

    def close(self) -> None:
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def settle(self) -> None:
        """Run until nothing is ready any more."""
        ready: Sequence[object] = getattr(self.loop, "_ready")  # noqa: B009 - not a public name
        self.loop.run_until_complete(asyncio.sleep(0))
        while ready:
            self.loop.run_until_complete(asyncio.sleep(0))


class SteppedStore(Store):
    """The store as one process sees it: each call waits until the test lets it through."""

    def __init__(self, inner: Store, process: Process) -> None:
        self._inner = inner
        self._process = process

    async def _turn(self, what: str) -> None:
        call = what, asyncio.get_running_loop().create_future()
        self._process.waiting.append(call)
        try:
            await call[1]
        finally:
            if call in self._process.waiting:
                self._process.waiting.remove(call)

    async def put(self, key: str, data: bytes, *, guard: Guard | None = None) -> None:
        await self._turn(f"put {key}")
        await self._inner.put(key, data, guard=guard)

    async def get(self, key: str, *, limit_bytes: int) -> StoredObject:
        await self._turn(f"get {key}")
        return await self._inner.get(key, limit_bytes=limit_bytes)

    async def read(self, key: str, start: int, length: int, into: bytearray) -> None:
        await self._turn(f"read {key}")
        await self._inner.read(key, start, length, into)

    async def head(self, key: str) -> ObjectInfo | None:
        await self._turn(f"head {key}")
        return await self._inner.head(key)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        await self._turn(f"list {prefix}")
        # As of one moment: what comes and goes while it is read is allowed to be missed or seen.
        for info in [info async for info in self._inner.list(prefix)]:
            yield info

    async def list_folders(self, prefix: str) -> AsyncIterator[str]:
        await self._turn(f"list_folders {prefix}")
        for folder in [folder async for folder in self._inner.list_folders(prefix)]:
            yield folder

    async def delete(self, keys: Sequence[str], *, guard: Guard | None = None) -> None:
        await self._turn(f"delete {' '.join(keys)}")
        await self._inner.delete(keys, guard=guard)

    async def create_upload(self, key: str) -> Upload:
        await self._turn("create_upload")
        return await self._inner.create_upload(key)

    async def upload_part(
        self, upload: Upload, number: int, offset: int, data: bytes
    ) -> UploadedPart:
        await self._turn("upload_part")
        return await self._inner.upload_part(upload, number, offset, data)

    async def complete_upload(self, upload: Upload, parts: Sequence[UploadedPart]) -> None:
        await self._turn("complete_upload")
        await self._inner.complete_upload(upload, parts)

    async def abort_upload(self, upload: Upload) -> None:
        await self._turn("abort_upload")
        await self._inner.abort_upload(upload)

    async def list_uploads(self, prefix: str) -> AsyncIterator[PendingUpload]:
        await self._turn(f"list_uploads {prefix}")
        for pending in [pending async for pending in self._inner.list_uploads(prefix)]:
            yield pending

    async def now(self) -> datetime:
        await self._turn("now")
        return await self._inner.now()

    def url(self, key: str = "") -> str:
        return self._inner.url(key)


class SteppedClock:
    """Seconds that pass when a test says so; who sleeps wakes up in the order of time."""

    def __init__(self, stage: Stage) -> None:
        self.now = 0.0
        self._stage = stage
        self._sleeping: list[tuple[float, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        sleeper = self.now + seconds, asyncio.get_running_loop().create_future()
        self._sleeping.append(sleeper)
        try:
            await sleeper[1]
        finally:
            self._sleeping.remove(sleeper)

    def pass_(self, seconds: float) -> None:
        """Let so many seconds pass, and everybody do what is due meanwhile."""
        end = self.now + seconds
        self._stage.settle()
        while due := [sleeper for sleeper in self._sleeping if sleeper[0] <= end]:
            self.now, future = min(due, key=lambda sleeper: sleeper[0])
            future.set_result(None)
            self._stage.settle()
        self.now = end
