"""A wrapper that repeats what failed in passing. Nothing else in longshore retries a store."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from datetime import datetime, timedelta
from typing import TypeVar

from msgspec import Struct

from longshore.errors import StoreUnavailable
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


class Retry(Struct, frozen=True):
    """One failure that is about to be repeated."""

    operation: str
    attempt: int
    """Which attempt failed: 1 for the first."""
    attempts: int
    delay: timedelta
    error: StoreUnavailable


class RetryStore(Store):
    """Repeat an operation of `inner` that raised `StoreUnavailable`, and only then.

    Every operation of the contract can be repeated: a put writes the same bytes, a part replaces
    itself, deleting and aborting count what is gone as done, and completing twice is completing
    once. A `create_upload` whose answer was lost leaves an empty upload behind; no reader ever
    sees it.

    The delay before attempt n + 1 is random between nothing and `base` * 2^(n-1), at most `cap`
    (full jitter), so that many builders do not come back at the same moment.

    Args:
        attempts: how often an operation is tried in all, at least 1. A read or a listing that got
            further before it failed starts counting anew.
        sleep: waits for so many seconds.
        random: answers a number from 0 up to, not including, 1.
        report: is told of each failure before the wait.
    """

    def __init__(
        self,
        inner: Store,
        *,
        attempts: int,
        base: timedelta,
        cap: timedelta,
        sleep: Callable[[float], Awaitable[None]],
        random: Callable[[], float],
        report: Callable[[Retry], None],
    ) -> None:
        self._inner = inner
        self._attempts = attempts
        self._base = base
        self._cap = cap
        self._sleep = sleep
        self._random = random
        self._report = report

    async def put(self, key: str, data: bytes, *, guard: Guard | None = None) -> None:
        await self._repeat("put", lambda: self._inner.put(key, data, guard=guard))

    async def get(self, key: str, *, limit_bytes: int) -> StoredObject:
        return await self._repeat("get", lambda: self._inner.get(key, limit_bytes=limit_bytes))

    async def read(self, key: str, start: int, length: int, into: bytearray) -> None:
        # What has arrived stays in `into`, so each attempt asks for the rest only.
        await self._repeat(
            "read", lambda: self._inner.read(key, start, length, into), progress=lambda: len(into)
        )

    async def head(self, key: str) -> ObjectInfo | None:
        return await self._repeat("head", lambda: self._inner.head(key))

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        async with aclosing(
            self._resumed("list", lambda: self._inner.list(prefix), lambda info: info.key)
        ) as items:
            async for info in items:
                yield info

    async def list_folders(self, prefix: str) -> AsyncIterator[str]:
        async with aclosing(
            self._resumed(
                "list_folders", lambda: self._inner.list_folders(prefix), lambda folder: folder
            )
        ) as items:
            async for folder in items:
                yield folder

    async def delete(self, keys: Sequence[str], *, guard: Guard | None = None) -> None:
        await self._repeat("delete", lambda: self._inner.delete(keys, guard=guard))

    async def create_upload(self, key: str) -> Upload:
        return await self._repeat("create_upload", lambda: self._inner.create_upload(key))

    async def upload_part(
        self, upload: Upload, number: int, offset: int, data: bytes
    ) -> UploadedPart:
        return await self._repeat(
            "upload_part", lambda: self._inner.upload_part(upload, number, offset, data)
        )

    async def complete_upload(self, upload: Upload, parts: Sequence[UploadedPart]) -> None:
        await self._repeat("complete_upload", lambda: self._inner.complete_upload(upload, parts))

    async def abort_upload(self, upload: Upload) -> None:
        await self._repeat("abort_upload", lambda: self._inner.abort_upload(upload))

    async def list_uploads(self, prefix: str) -> AsyncIterator[PendingUpload]:
        async with aclosing(
            self._resumed(
                "list_uploads",
                lambda: self._inner.list_uploads(prefix),
                lambda pending: pending.upload,
            )
        ) as items:
            async for pending in items:
                yield pending

    async def now(self) -> datetime:
        return await self._repeat("now", self._inner.now)

    def url(self, key: str = "") -> str:
        return self._inner.url(key)

    async def close(self) -> None:
        await self._inner.close()

    async def _repeat(
        self,
        operation: str,
        call: Callable[[], Awaitable[T]],
        *,
        progress: Callable[[], int] = lambda: 0,
    ) -> T:
        failed = 0
        while True:
            before = progress()
            try:
                return await call()
            except StoreUnavailable as error:
                failed = 1 if progress() > before else failed + 1
                await self._wait(operation, failed, error)

    async def _resumed(
        self,
        operation: str,
        begin: Callable[[], AsyncIterator[T]],
        identity: Callable[[T], Hashable],
    ) -> AsyncGenerator[T, None]:
        """Go through a listing; when it breaks, begin it again and leave out what came already.

        A store lists in no particular order, so there is no place to resume from.
        """
        seen: set[Hashable] = set()
        failed = 0
        while True:
            before = len(seen)
            items = begin()
            try:
                async with closing(items):
                    async for item in items:
                        if (name := identity(item)) not in seen:
                            seen.add(name)
                            yield item
            except StoreUnavailable as error:
                failed = 1 if len(seen) > before else failed + 1
                await self._wait(operation, failed, error)
            else:
                return

    async def _wait(self, operation: str, failed: int, error: StoreUnavailable) -> None:
        """Wait before the next attempt, or raise `error` if there is none left."""
        if failed >= self._attempts:
            raise error
        longest = min(self._cap, self._base * 2 ** min(failed - 1, 30))
        delay = longest * self._random()
        self._report(Retry(operation, failed, self._attempts, delay, error))
        await self._sleep(delay.total_seconds())


def closing(items: AsyncIterator[T]) -> AbstractAsyncContextManager[object]:
    """Close a listing that is left early, if it is one that can be closed."""
    return aclosing(items) if isinstance(items, AsyncGenerator) else nullcontext()
