"""A wrapper that bounds how many operations run at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from longshore.store.contract import (
    Guard,
    ObjectInfo,
    PendingUpload,
    Store,
    StoredObject,
    Upload,
    UploadedPart,
)


class LimitStore(Store):
    """Let at most `concurrency` operations into `inner`; the others wait their turn.

    Listings pass freely. Each has one request in flight at most, and whoever goes through one may
    call the store between two items: if the listing held a turn meanwhile, both could wait for
    ever.
    """

    def __init__(self, inner: Store, *, concurrency: int) -> None:
        self._inner = inner
        self._turns = asyncio.Semaphore(concurrency)

    async def put(self, key: str, data: bytes, *, guard: Guard | None = None) -> None:
        async with self._turns:
            await self._inner.put(key, data, guard=guard)

    async def get(self, key: str, *, limit_bytes: int) -> StoredObject:
        async with self._turns:
            return await self._inner.get(key, limit_bytes=limit_bytes)

    async def read(self, key: str, start: int, length: int, into: bytearray) -> None:
        async with self._turns:
            await self._inner.read(key, start, length, into)

    async def head(self, key: str) -> ObjectInfo | None:
        async with self._turns:
            return await self._inner.head(key)

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        return self._inner.list(prefix)

    def list_folders(self, prefix: str) -> AsyncIterator[str]:
        return self._inner.list_folders(prefix)

    async def delete(self, keys: Sequence[str], *, guard: Guard | None = None) -> None:
        async with self._turns:
            await self._inner.delete(keys, guard=guard)

    async def create_upload(self, key: str) -> Upload:
        async with self._turns:
            return await self._inner.create_upload(key)

    async def upload_part(
        self, upload: Upload, number: int, offset: int, data: bytes
    ) -> UploadedPart:
        async with self._turns:
            return await self._inner.upload_part(upload, number, offset, data)

    async def complete_upload(self, upload: Upload, parts: Sequence[UploadedPart]) -> None:
        async with self._turns:
            await self._inner.complete_upload(upload, parts)

    async def abort_upload(self, upload: Upload) -> None:
        async with self._turns:
            await self._inner.abort_upload(upload)

    def list_uploads(self, prefix: str) -> AsyncIterator[PendingUpload]:
        return self._inner.list_uploads(prefix)

    async def now(self) -> datetime:
        async with self._turns:
            return await self._inner.now()

    def url(self, key: str = "") -> str:
        return self._inner.url(key)

    async def close(self) -> None:
        await self._inner.close()
