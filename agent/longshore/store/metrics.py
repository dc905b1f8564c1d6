"""A wrapper that counts what goes to and comes from a store."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from datetime import datetime
from typing import TypeVar

from msgspec import Struct, field

from longshore.store.contract import (
    Guard,
    ObjectInfo,
    PendingUpload,
    Store,
    StoredObject,
    Upload,
    UploadedPart,
)
from longshore.store.retry import Retry, closing

T = TypeVar("T")


class StoreMetrics(Struct):
    """What a store was asked for. The keys of the counters are the names of the store's methods."""

    requests: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    retries: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    bytes_in: int = 0
    """From the store."""
    bytes_out: int = 0
    """To the store; a part that had to be sent twice counts once."""

    def count_retry(self, retry: Retry) -> None:
        """Count a repeated operation: the `report` that `RetryStore` asks for."""
        self.retries[retry.operation] += 1


class MetricsStore(Store):
    """Count into `metrics` what passes through to `inner`.

    Args:
        clock: a clock of seconds that never goes back.
    """

    def __init__(self, inner: Store, metrics: StoreMetrics, *, clock: Callable[[], float]) -> None:
        self._inner = inner
        self._metrics = metrics
        self._clock = clock

    async def put(self, key: str, data: bytes, *, guard: Guard | None = None) -> None:
        with self._counting("put"):
            await self._inner.put(key, data, guard=guard)
        self._metrics.bytes_out += len(data)

    async def get(self, key: str, *, limit_bytes: int) -> StoredObject:
        with self._counting("get"):
            stored = await self._inner.get(key, limit_bytes=limit_bytes)
        self._metrics.bytes_in += len(stored.data)
        return stored

    async def read(self, key: str, start: int, length: int, into: bytearray) -> None:
        before = len(into)
        try:
            with self._counting("read"):
                await self._inner.read(key, start, length, into)
        finally:
            self._metrics.bytes_in += len(into) - before

    async def head(self, key: str) -> ObjectInfo | None:
        with self._counting("head"):
            return await self._inner.head(key)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        async with aclosing(self._counted("list", self._inner.list(prefix))) as items:
            async for info in items:
                yield info

    async def list_folders(self, prefix: str) -> AsyncIterator[str]:
        folders = self._inner.list_folders(prefix)
        async with aclosing(self._counted("list_folders", folders)) as items:
            async for folder in items:
                yield folder

    async def delete(self, keys: Sequence[str], *, guard: Guard | None = None) -> None:
        with self._counting("delete"):
            await self._inner.delete(keys, guard=guard)

    async def create_upload(self, key: str) -> Upload:
        with self._counting("create_upload"):
            return await self._inner.create_upload(key)

    async def upload_part(
        self, upload: Upload, number: int, offset: int, data: bytes
    ) -> UploadedPart:
        with self._counting("upload_part"):
            part = await self._inner.upload_part(upload, number, offset, data)
        self._metrics.bytes_out += len(data)
        return part

    async def complete_upload(self, upload: Upload, parts: Sequence[UploadedPart]) -> None:
        with self._counting("complete_upload"):
            await self._inner.complete_upload(upload, parts)

    async def abort_upload(self, upload: Upload) -> None:
        with self._counting("abort_upload"):
            await self._inner.abort_upload(upload)

    async def list_uploads(self, prefix: str) -> AsyncIterator[PendingUpload]:
        uploads = self._inner.list_uploads(prefix)
        async with aclosing(self._counted("list_uploads", uploads)) as items:
            async for pending in items:
                yield pending

    async def now(self) -> datetime:
        with self._counting("now"):
            return await self._inner.now()

    def url(self, key: str = "") -> str:
        return self._inner.url(key)

    async def close(self) -> None:
        await self._inner.close()

    @contextmanager
    def _counting(self, operation: str, requests: int = 1) -> Iterator[None]:
        self._metrics.requests[operation] += requests
        began = self._clock()
        try:
            yield
        except BaseException:
            self._metrics.failures[operation] += 1
            raise
        finally:
            self._metrics.seconds[operation] += self._clock() - began

    async def _counted(self, operation: str, items: AsyncIterator[T]) -> AsyncGenerator[T, None]:
        """Count a listing once, and its time without what its reader does between two items."""
        self._metrics.requests[operation] += 1
        async with closing(items):
            while True:
                with self._counting(operation, requests=0):
                    item = await anext(items, None)
                if item is None:
                    return
                yield item
